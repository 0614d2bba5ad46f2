//! What stands in for CLIP: embeddings made from the truth, with noise.
//!
//! Every thing that can be told (a shape, a colour, both together, how many, what is written) has a
//! fixed random direction, a shape's the longest, so that captions without colours are not far off.
//! A picture's embedding is the sum of the directions of all that is in it, a direction of its own
//! that no caption knows, and a little noise; a caption's is the sum of those of all it tells, and
//! noise. So duplicates are near to each other, right captions near to their pictures, wrong ones
//! far, and vague ones, which have a direction of their own and a little of their picture's, between.

use super::caption::Told;
use super::dice::Dice;
use super::scene::Scene;
use bunny_base::random::{mix_all, mix_bytes};

/// Numbers in an embedding.
pub(super) const DIMS: usize = 128;

type Vector = [f32; DIMS];

/// A direction for a key: independent numbers of mean 0, of unit length together.
fn direction(key: u64) -> Vector {
    let mut vector = [0.0; DIMS];
    for (at, number) in vector.iter_mut().enumerate() {
        let word = mix_all(&[key, at as u64]);
        // The sum of four bytes, which is normal enough.
        let sum: u64 = (0..4).map(|byte| (word >> (8 * byte)) & 0xFF).sum();
        *number = sum as f32 - 510.0;
    }
    unit(vector)
}

fn unit(vector: Vector) -> Vector {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.map(|x| x / length.max(f32::MIN_POSITIVE))
}

fn add(to: &mut Vector, vector: &Vector, weight: f32) {
    to.iter_mut()
        .zip(vector)
        .for_each(|(to, x)| *to += weight * x);
}

/// The direction of what is told.
fn content(told: &Told) -> Vector {
    let mut sum = [0.0; DIMS];
    // What all pictures of the world have in common.
    add(&mut sum, &direction(1), 0.4);
    for (known, count) in &told.groups {
        let shape = known.shape.map(|shape| shape as u64);
        let colour = known.colour.map(|colour| colour as u64);
        if let Some(shape) = shape {
            add(&mut sum, &direction(mix_all(&[2, shape])), 1.0);
            let count = *count as u64;
            add(&mut sum, &direction(mix_all(&[5, shape, count])), 0.4);
        }
        if let Some(colour) = colour {
            add(&mut sum, &direction(mix_all(&[3, colour])), 0.5);
        }
        if let (Some(shape), Some(colour)) = (shape, colour) {
            add(&mut sum, &direction(mix_all(&[4, shape, colour])), 0.7);
        }
    }
    for text in &told.writing {
        add(&mut sum, &direction(mix_bytes(6, text.as_bytes())), 1.2);
    }
    unit(sum)
}

/// The embedding of a picture; `instance` tells scenes of the same things apart.
pub(super) fn picture(scene: &Scene, instance: u64, dice: &mut Dice) -> Vec<f32> {
    let mut sum = [0.0; DIMS];
    add(&mut sum, &content(&Told::all(scene)), 0.8);
    add(&mut sum, &direction(mix_all(&[7, instance])), 0.5);
    add(&mut sum, &direction(dice.bits()), 0.15);
    unit(sum).to_vec()
}

/// The embedding of a caption of a picture.
pub(super) fn text(scene: &Scene, told: &Told, text: &str, dice: &mut Dice) -> Vec<f32> {
    let mut sum = [0.0; DIMS];
    if *told == Told::default() {
        add(&mut sum, &direction(mix_bytes(8, text.as_bytes())), 0.7);
        add(&mut sum, &content(&Told::all(scene)), 0.4);
    } else {
        add(&mut sum, &content(told), 0.8);
    }
    add(&mut sum, &direction(dice.bits()), 0.25);
    unit(sum).to_vec()
}
