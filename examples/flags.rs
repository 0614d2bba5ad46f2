//! Flags of three stripes, drawn: something that the built-in model does not know.

use std::{fs, path::Path};

use anyhow::Result;
use image::{Rgb, RgbImage};

const RED: [u8; 3] = [200, 30, 40];
const WHITE: [u8; 3] = [245, 245, 245];
const BLUE: [u8; 3] = [20, 60, 150];
const GREEN: [u8; 3] = [10, 130, 60];
const YELLOW: [u8; 3] = [250, 205, 20];
const BLACK: [u8; 3] = [15, 15, 15];
const ORANGE: [u8; 3] = [245, 130, 30];

/// Flags of three stripes: upright or lying, and their colours.
const FLAGS: [(&str, bool, [[u8; 3]; 3]); 10] = [
    ("France", true, [BLUE, WHITE, RED]),
    ("Italy", true, [GREEN, WHITE, RED]),
    ("Belgium", true, [BLACK, YELLOW, RED]),
    ("Ireland", true, [GREEN, WHITE, ORANGE]),
    ("Romania", true, [BLUE, YELLOW, RED]),
    ("Germany", false, [BLACK, RED, YELLOW]),
    ("Netherlands", false, [RED, WHITE, BLUE]),
    ("Hungary", false, [RED, WHITE, GREEN]),
    ("Lithuania", false, [YELLOW, GREEN, RED]),
    ("Bulgaria", false, [WHITE, GREEN, RED]),
];

/// Draws each flag in 25 sizes, places and lights, in a folder of its name under `folder`.
pub fn draw(folder: &Path) -> Result<()> {
    for (name, upright, stripes) in FLAGS {
        let shelf = folder.join(name);
        fs::create_dir_all(&shelf)?;
        for at in 0..25 {
            let (width, height) = (60 + at % 5 * 9, 44 + at / 5 * 6);
            let (left, top) = (at * 7 % (112 - width), at * 11 % (112 - height));
            let light = 70 + at * 13 % 31; // per cent
            let ground = [150 + (at * 5 % 60) as u8; 3];
            let picture = RgbImage::from_fn(112, 112, |x, y| {
                let (x, y) = (x.wrapping_sub(left), y.wrapping_sub(top));
                if x >= width || y >= height {
                    return Rgb(ground);
                }
                let stripe = if upright {
                    3 * x / width
                } else {
                    3 * y / height
                };
                Rgb(stripes[stripe as usize].map(|shade| (u32::from(shade) * light / 100) as u8))
            });
            picture.save(shelf.join(format!("{at:02}.png")))?;
        }
    }
    Ok(())
}
