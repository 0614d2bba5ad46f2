//! Whether a forward pass is part of training, and from where its dropouts draw.

/// The circumstances of a forward pass.
///
/// A dropout draws from a seed made of all of this, its layer and its place, so that a recomputed
/// or resumed pass drops the same elements.
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
}

impl Mode {
    /// Nothing is dropped.
    pub const INFERENCE: Self = Self {
        training: false,
        seed: 0,
        step: 0,
        micro: 0,
        rank: 0,
    };
}
