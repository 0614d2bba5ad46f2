//! Dropout whose draws can be repeated.
//!
//! burn's own does nothing in a pass without a graph and draws from a process-wide generator that
//! cannot be saved; here every draw is a hash of the [`Mode`] and the place, so that a block that is
//! recomputed, and a run that is resumed, drop the same elements.

use bunny_base::random::mix;
use burn::tensor::{Tensor, backend::Backend};

use super::Mode;
use crate::ops;

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
    ops::dropout(input, probability, dropout_key(mode, place))
}

/// The seed of one dropout in one forward pass.
pub(super) fn dropout_key(mode: &Mode, place: u64) -> u64 {
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::nn::Phase;
    use burn_flex::Flex;

    /// The factors of `count` elements.
    fn keep_mask(count: usize, probability: f64, mode: &Mode, place: u64) -> Vec<f32> {
        let ones = Tensor::<Flex, 1>::ones([count], &Default::default());
        let kept = dropout(ones, probability, mode, place);
        kept.into_data().iter().collect()
    }

    const MODE: Mode = Mode {
        training: true,
        seed: 7,
        step: 3,
        micro: 0,
        rank: 0,
        phase: Phase::Whole,
    };

    #[test]
    fn the_share_that_is_dropped_is_the_one_asked_for() {
        let mask = keep_mask(1 << 20, 0.1, &MODE, 5);
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
        let draw = |mode: &Mode, place| keep_mask(1000, 0.5, mode, place);
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
