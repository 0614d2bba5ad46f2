//! Whose rules an answer is judged by.

use crate::named::named;

/// Whose rules an answer is judged by. The same answers score differently under each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Convention {
    /// The scripts of BAAI-DCAI/Bunny at 08273ac, which made the paper's figures.
    #[default]
    Reference,
    /// EvolvingLMMs-Lab/lmms-eval at 75571cf.
    LmmsEval,
    /// open-compass/VLMEvalKit at e8e78f0, without a judge model.
    VlmEvalKit,
}

impl Convention {
    /// Every convention.
    pub const ALL: [Self; 3] = [Self::Reference, Self::LmmsEval, Self::VlmEvalKit];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::LmmsEval => "lmms-eval",
            Self::VlmEvalKit => "vlmevalkit",
        }
    }
}

named!(Convention, UnknownConvention);

/// No convention has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no convention `{0}`: take one of reference, lmms-eval, vlmevalkit")]
pub struct UnknownConvention(pub String);
