//! What kind of forward pass it is: training or not, from where its dropouts draw, and which rows it
//! is over.

use crate::ops::Phase;

/// The circumstances of a forward pass.
///
/// A dropout draws from a seed made of all of this but the phase, its layer and its place, so that a
/// recomputed or resumed pass drops the same elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// Dropouts are live.
    pub training: bool,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// The micro-batch within the step.
    pub micro: u32,
    /// The data-parallel rank.
    pub rank: u32,
    /// Which rows it is over.
    pub phase: Phase,
}

impl Mode {
    /// Whole sequences, of which nothing is dropped.
    pub const INFERENCE: Self = Self::of(Phase::Whole);
    /// Prompts, of which nothing is dropped.
    pub const PREFILL: Self = Self::of(Phase::Prefill);
    /// Tokens of answers, of which nothing is dropped.
    pub const DECODE: Self = Self::of(Phase::Decode);

    const fn of(phase: Phase) -> Self {
        Self {
            training: false,
            seed: 0,
            step: 0,
            micro: 0,
            rank: 0,
            phase,
        }
    }
}
