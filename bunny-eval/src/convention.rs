//! Whose rules an answer is judged by.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

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

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Convention {
    type Err = UnknownConvention;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .into_iter()
            .find(|convention| convention.name() == name);
        found.ok_or_else(|| UnknownConvention(name.to_owned()))
    }
}

/// No convention has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no convention `{0}`: take one of reference, lmms-eval, vlmevalkit")]
pub struct UnknownConvention(pub String);

impl Serialize for Convention {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
