//! Which rows an operation is over.

/// Which rows go through the layers in a pass.
///
/// It decides in which order products and attention sum: a row's sums then depend on nothing but the
/// row, whatever stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Phase {
    /// Whole sequences, as in training: every operation takes the order that is fastest for as many
    /// rows as there are.
    #[default]
    Whole,
    /// Some of the rows of prompts, or pictures: the order of many rows, however few there are.
    Prefill,
    /// One row of each sequence: the order of a single row, however many there are.
    Decode,
}
