//! The name of a model on a hub.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::HubError;

/// A model on a hub, as in `BAAI/Bunny-v1_0-3B` or `BAAI/Bunny-v1_0-3B@refs/pr/1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId {
    name: Arc<str>,
    revision: Arc<str>,
}

impl ModelId {
    /// The model's name, `org/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` if none was given.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for ModelId {
    type Err = HubError;

    fn from_str(id: &str) -> Result<Self, HubError> {
        let bad = |reason| HubError::BadId {
            id: id.escape_debug().to_string(),
            reason,
        };
        let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
        let parts: Vec<_> = name.split('/').collect();
        if parts.len() > 2 {
            return Err(bad("it has more than one slash"));
        }
        for part in parts {
            if part.is_empty() || part.len() > 96 {
                return Err(bad("its parts have 1 to 96 characters"));
            }
            if !part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            {
                return Err(bad("its parts are letters, digits, `-`, `_` and `.`"));
            }
            // `--` stands for the slash in the cache.
            if part.contains("--") || part.contains("..") || part.ends_with(".git") {
                return Err(bad("it contains `--` or `..`, or ends in `.git`"));
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return Err(bad("its parts neither start nor end with `-` or `.`"));
            }
        }
        let safe = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        if !revision.split('/').all(safe) {
            return Err(bad("its revision is no branch, tag or commit"));
        }
        Ok(Self {
            name: name.into(),
            revision: revision.into(),
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &*self.revision {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}
