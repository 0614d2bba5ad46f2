//! What can be wrong with a configuration file.

use std::path::PathBuf;

use bunny_base::escape::for_message;

/// An error about a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{} is not valid JSON: {}", file.display(), for_message(&source.to_string()))]
    Json {
        /// The file.
        file: PathBuf,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// The file holds JSON, but no object.
    #[error("{} must hold a JSON object", file.display())]
    NotAnObject {
        /// The file.
        file: PathBuf,
    },
    /// A field has a value that cannot be used.
    #[error("{}: field `{}` {}", file.display(), for_message(field), for_message(problem))]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, with the objects it lies in.
        field: String,
        /// What is wrong with it, and the mend.
        problem: String,
    },
    /// The configuration asks for something this version does not do yet.
    #[error("{}: {} is not supported yet", file.display(), for_message(feature))]
    NotSupported {
        /// The file.
        file: PathBuf,
        /// What is asked for.
        feature: String,
    },
}
