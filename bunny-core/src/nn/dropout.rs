//! Dropout whose draws can be repeated.
//!
//! burn's own does nothing in a pass without a graph and draws from a process-wide generator that
//! cannot be saved; here every draw is a hash of the [`Mode`] and the place, so that a block that is
//! recomputed, and a run that is resumed, drop the same elements.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::Mode;
use crate::random::mix;

/// Sets a share `probability` of the elements to zero and scales the others by
/// `1 / (1 - probability)`, in training; otherwise gives `input` back.
///
/// `place` tells this dropout from every other one of the model.
///
/// # Shapes
/// `[...]` → `[...]`
pub fn dropout<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    probability: f64,
    mode: &Mode,
    place: u64,
) -> Tensor<B, D> {
    if !mode.training || probability == 0.0 {
        return input;
    }
    let shape = input.dims();
    let mask = keep_mask(shape.iter().product(), probability, key(mode, place));
    let mask = TensorData::new(mask, shape);
    let mask = Tensor::from_data(mask, (&input.device(), input.dtype()));
    input * mask
}

/// The multipliers of `count` elements: zero, or `1 / (1 - probability)`.
fn keep_mask(count: usize, probability: f64, key: u64) -> Vec<f32> {
    // An element is dropped when its 32 random bits lie below this bound.
    let bound = (probability * 4_294_967_296.0) as u64;
    let scale = (1.0 / (1.0 - probability)) as f32;
    let mut mask = vec![0f32; count];
    mask.par_chunks_mut(1 << 14)
        .enumerate()
        .for_each(|(piece, mask)| {
            let first = (piece << 14) as u64;
            for (at, keep) in mask.iter_mut().enumerate() {
                let bits = mix(key ^ mix(first + at as u64)) >> 32;
                *keep = if bits < bound { 0.0 } else { scale };
            }
        });
    mask
}

/// The seed of one dropout in one forward pass.
fn key(mode: &Mode, place: u64) -> u64 {
    [
        mode.seed,
        mode.step,
        u64::from(mode.micro),
        u64::from(mode.rank),
        place,
    ]
    .into_iter()
    .fold(0, |key, part| mix(key ^ part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Mode = Mode {
        training: true,
        seed: 7,
        step: 3,
        micro: 0,
        rank: 0,
    };

    #[test]
    fn the_share_that_is_dropped_is_the_one_asked_for() {
        let mask = keep_mask(1 << 20, 0.1, key(&MODE, 5));
        let dropped = mask.iter().filter(|&&keep| keep == 0.0).count() as f64 / mask.len() as f64;
        // Five deviations of a binomial share at this count.
        assert!((dropped - 0.1).abs() < 5.0 * (0.1f64 * 0.9 / (1 << 20) as f64).sqrt());
        assert!(
            mask.iter()
                .all(|&keep| keep == 0.0 || (keep - 1.0 / 0.9).abs() < 1e-6)
        );
    }

    #[test]
    fn the_same_pass_draws_the_same_and_every_other_differs() {
        let draw = |mode: &Mode, place| keep_mask(1000, 0.5, key(mode, place));
        assert_eq!(draw(&MODE, 5), draw(&MODE, 5));
        for other in [
            Mode { seed: 8, ..MODE },
            Mode { step: 4, ..MODE },
            Mode { micro: 1, ..MODE },
            Mode { rank: 1, ..MODE },
        ] {
            assert_ne!(draw(&MODE, 5), draw(&other, 5));
        }
        assert_ne!(draw(&MODE, 5), draw(&MODE, 6));
    }
}
