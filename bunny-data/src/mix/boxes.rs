//! Boxes in what is said: `[x1, y1, x2, y2]`, from 0 to 1, relative to the picture as it is or to
//! the square it is padded to before the vision tower sees it.
//!
//! ```text
//! original, 6 × 2        padded square, 6 × 6
//! ┌────────────┐         ┌────────────┐
//! │   ▒▒▒      │         │            │   [0.333, 0.0, 0.667, 1.0]
//! └────────────┘         │   ▒▒▒      │ → [0.333, 0.333, 0.667, 0.667]
//!                        │            │
//!                        └────────────┘
//! ```
//!
//! LLaVA-1.5's data speaks of the padded square, DataOptim's other datasets of the original.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the numbers of a box are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxSpace {
    /// The picture as it is.
    Original,
    /// The square it is padded to, the picture in its middle.
    Padded,
}

/// Converts every box of `text`, for a picture of `size` (width, height) in pixels.
///
/// A box is written to three decimals, and stands for whole pixels of the picture, as in DataOptim's
/// own converter. Each is found once and replaced where it stands: a box that comes out equal to a
/// later one is not converted twice. Brackets with anything but four numbers from 0 to 1 are left.
pub fn convert_boxes(text: &str, size: (u32, u32), from: BoxSpace, to: BoxSpace) -> String {
    let mut converted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, bracket) = rest.split_at(open);
        converted.push_str(before);
        match read_box(bracket) {
            Some((bbox, length)) => {
                if from == to || size.0 == size.1 {
                    converted.push_str(&bracket[..length]);
                } else {
                    let [x1, y1, x2, y2] = convert(bbox, size, to).map(three_decimals);
                    converted.push_str(&format!("[{x1}, {y1}, {x2}, {y2}]"));
                }
                rest = &bracket[length..];
            }
            None => {
                converted.push('[');
                rest = &bracket[1..];
            }
        }
    }
    converted.push_str(rest);
    converted
}

/// One box, from the other space to `to`.
fn convert(bbox: [f64; 4], (width, height): (u32, u32), to: BoxSpace) -> [f64; 4] {
    let side = width.max(height);
    // The padding before the picture is half of what lacks, rounded down, as the image processor's.
    let axis = |value: f64, extent: u32| {
        let (extent, offset, side) = (
            f64::from(extent),
            f64::from((side - extent) / 2),
            f64::from(side),
        );
        match to {
            BoxSpace::Padded => ((value * extent).round_ties_even() + offset) / side,
            BoxSpace::Original => {
                ((value * side).round_ties_even() - offset).clamp(0.0, extent) / extent
            }
        }
    };
    [
        axis(bbox[0], width),
        axis(bbox[1], height),
        axis(bbox[2], width),
        axis(bbox[3], height),
    ]
}

/// The box that `text` starts with, and its length.
fn read_box(text: &str) -> Option<([f64; 4], usize)> {
    let length = text.find(']')? + 1;
    let mut numbers = text[1..length - 1].split(',');
    let mut bbox = [0.0; 4];
    for value in &mut bbox {
        let number = numbers.next()?.trim_matches(' ');
        if number.is_empty()
            || !number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return None;
        }
        *value = number
            .parse()
            .ok()
            .filter(|value| (0.0..=1.0).contains(value))?;
    }
    numbers.next().is_none().then_some((bbox, length))
}

/// Up to three decimals and at least one: `0.5`, `0.333`, `1.0`, as Python writes them.
fn three_decimals(value: f64) -> String {
    let text = format!("{value:.3}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') {
        format!("{short}0")
    } else {
        short.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The box of the painted pixels of a raster, as text; the oracle of every test here.
    fn painted(raster: &[Vec<bool>]) -> String {
        let (width, height) = (raster[0].len(), raster.len());
        let columns: Vec<usize> = (0..width)
            .filter(|x| raster.iter().any(|row| row[*x]))
            .collect();
        let rows: Vec<usize> = (0..height).filter(|y| raster[*y].contains(&true)).collect();
        let part = |pixels: usize, of: usize| {
            let text = format!("{:.3}", pixels as f64 / of as f64);
            let text = text.trim_end_matches('0').to_owned();
            if text.ends_with('.') {
                text + "0"
            } else {
                text
            }
        };
        format!(
            "[{}, {}, {}, {}]",
            part(columns[0], width),
            part(rows[0], height),
            part(columns[columns.len() - 1] + 1, width),
            part(rows[rows.len() - 1] + 1, height)
        )
    }

    /// The raster in the middle of a square, the odd pixel behind it.
    fn pad(raster: &[Vec<bool>]) -> Vec<Vec<bool>> {
        let (width, height) = (raster[0].len(), raster.len());
        let side = width.max(height);
        let mut square = vec![vec![false; side]; side];
        for (y, row) in raster.iter().enumerate() {
            for (x, pixel) in row.iter().enumerate() {
                square[y + (side - height) / 2][x + (side - width) / 2] = *pixel;
            }
        }
        square
    }

    #[test]
    fn every_box_of_small_pictures_agrees_with_painting_and_padding_it() {
        let mut boxes = 0;
        for (width, height) in [(1, 1), (1, 7), (6, 2), (7, 4), (5, 9), (13, 12), (31, 8)] {
            for x1 in 0..width {
                for x2 in x1 + 1..=width {
                    for y1 in 0..height {
                        for y2 in y1 + 1..=height {
                            let raster: Vec<Vec<bool>> = (0..height)
                                .map(|y| {
                                    (0..width)
                                        .map(|x| (x1..x2).contains(&x) && (y1..y2).contains(&y))
                                        .collect()
                                })
                                .collect();
                            let size = (width as u32, height as u32);
                            let (original, padded) = (painted(&raster), painted(&pad(&raster)));
                            assert_eq!(
                                convert_boxes(
                                    &original,
                                    size,
                                    BoxSpace::Original,
                                    BoxSpace::Padded
                                ),
                                padded,
                                "{size:?}"
                            );
                            assert_eq!(
                                convert_boxes(&padded, size, BoxSpace::Padded, BoxSpace::Original),
                                original,
                                "{size:?}"
                            );
                            boxes += 1;
                        }
                    }
                }
            }
        }
        assert!(boxes > 10_000);
    }

    #[test]
    fn a_box_equal_to_a_later_one_is_converted_once() {
        // In a 200 × 100 picture y goes from 0.0 to 0.25, 0.5 to 0.5 and 1.0 to 0.75.
        let text = "[0.0, 0.0, 1.0, 1.0] then [0.0, 0.25, 1.0, 0.75] and [0.0, 0.0, 1.0, 1.0].";
        assert_eq!(
            convert_boxes(text, (200, 100), BoxSpace::Original, BoxSpace::Padded),
            "[0.0, 0.25, 1.0, 0.75] then [0.0, 0.375, 1.0, 0.625] and [0.0, 0.25, 1.0, 0.75]."
        );
    }

    #[test]
    fn what_is_no_box_stays() {
        for text in [
            "[1, 2, 3, 4]",
            "[0.1, 0.2, 0.3]",
            "[0.1, 0.2, 0.3, 0.4, 0.5]",
            "[a][",
            "[0.1, 0.2, 0.3, 1.2]",
            "[-0.1, 0.2, 0.3, 0.4]",
            "[é]",
        ] {
            assert_eq!(
                convert_boxes(text, (20, 10), BoxSpace::Original, BoxSpace::Padded),
                text
            );
        }
        assert_eq!(
            convert_boxes(
                "[[0.5, 0.5, 1.0, 1.0]]",
                (20, 10),
                BoxSpace::Original,
                BoxSpace::Padded
            ),
            "[[0.5, 0.5, 1.0, 0.75]]"
        );
    }
}
