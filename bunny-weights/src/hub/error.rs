//! What can go wrong on the way from a hub, in one line that names model, file and mend.

use std::path::PathBuf;

use super::ModelId;

/// An error about a model on a hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A model's name is none that a hub gives.
    #[error("`{id}` is no model of a hub: {reason}; write org/name or org/name@revision")]
    BadId {
        /// The name.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No folder for the cache is known.
    #[error("no home folder is known for the cache of models; set HF_HOME")]
    NoHome,
    /// The hub's address is none.
    #[error(
        "HF_ENDPOINT is `{endpoint}`, which is no address of a hub; write one as https://huggingface.co"
    )]
    BadEndpoint {
        /// The address.
        endpoint: String,
    },
    /// The model is neither downloaded nor may it be.
    #[error(
        "{model} is not in {} and cannot be downloaded offline; unset HF_HUB_OFFLINE once",
        cache.display()
    )]
    NotCached {
        /// The model.
        model: ModelId,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The hub has no such model, or hides it.
    #[error(
        "{model} does not exist, or is private; check its name, and set HF_TOKEN if it is yours"
    )]
    ModelNotFound {
        /// The model.
        model: ModelId,
    },
    /// The model has no such branch, tag or commit.
    #[error("{model} has no revision `{}`", model.revision())]
    RevisionNotFound {
        /// The model.
        model: ModelId,
    },
    /// The model has no such file.
    #[error("{model} has no file `{file}`")]
    FileNotFound {
        /// The model.
        model: ModelId,
        /// The file.
        file: String,
    },
    /// The model is given only to those who asked for it.
    #[error("{model} is gated; ask for access on its page {page}, then set HF_TOKEN")]
    Gated {
        /// The model.
        model: ModelId,
        /// Its page.
        page: String,
    },
    /// The token is not accepted.
    #[error("the hub does not accept the token for {model}; renew HF_TOKEN or the token file")]
    BadToken {
        /// The model.
        model: ModelId,
    },
    /// The hub refuses.
    #[error("the hub refuses {model}: {reason}")]
    Forbidden {
        /// The model.
        model: ModelId,
        /// What the hub says.
        reason: String,
    },
    /// The hub wants no more requests, for longer than is worth a wait.
    #[error("the hub wants no more requests {}, or set HF_TOKEN", until(*seconds))]
    RateLimited {
        /// How long to wait, if the hub said so.
        seconds: Option<u64>,
    },
    /// The hub cannot be reached, or fell silent.
    #[error("cannot reach {url}: {reason}; check the connection, or HF_ENDPOINT")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// The hub answers that it fails.
    #[error("{url}: the hub fails with status {status}; try again later")]
    Failing {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The answer is not that of a hub.
    #[error("{url}: not the answer of a hub: {reason}; check HF_ENDPOINT")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is odd.
        reason: String,
    },
    /// The model has none of the files that are needed.
    #[error("{model} has no file that can be used here")]
    NothingToFetch {
        /// The model.
        model: ModelId,
    },
    /// A file's name leads out of the cache.
    #[error("{model} has a file called `{}`, which leads out of the cache", name.escape_debug())]
    UnsafeName {
        /// The model.
        model: ModelId,
        /// The name.
        name: String,
    },
    /// A file arrived with another size.
    #[error("{file} of {model} has {found} bytes instead of {expected}; try again")]
    WrongSize {
        /// The model.
        model: ModelId,
        /// The file.
        file: String,
        /// Bytes that the hub announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A file arrived with other contents.
    #[error("{file} of {model} arrived damaged (its sha256 is not {expected}); try again")]
    WrongHash {
        /// The model.
        model: ModelId,
        /// The file.
        file: String,
        /// The hash that the hub announced.
        expected: String,
    },
    /// The cache cannot be read or written.
    #[error("{}: {fault}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        fault: std::io::Error,
    },
}

/// When to try again.
fn until(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => format!("for {seconds} s; try again then"),
        None => "now; try again later".into(),
    }
}

/// Names the file in an error of the system.
pub(super) fn io_error(path: &std::path::Path) -> impl Fn(std::io::Error) -> HubError {
    move |fault| HubError::Io {
        path: path.to_path_buf(),
        fault,
    }
}
