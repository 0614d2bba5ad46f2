//! Which hub, which cache, and who asks: by the environment variables that Python's
//! `huggingface_hub` knows.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;

use super::HubError;

/// Which hub, which cache, and who asks.
#[derive(Clone)]
pub struct HubSettings {
    /// The hub, without a slash at the end.
    pub endpoint: String,
    /// The folder of the cache, which holds `models--org--name` folders.
    pub cache: PathBuf,
    /// The user's token.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
    /// How long to go on when things go wrong.
    pub patience: Patience,
}

/// How long to go on when things go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts without any progress before giving up.
    pub attempts: u32,
    /// The wait after the first of them; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest wait; a hub that asks for more is not waited for.
    pub longest_wait: Duration,
    /// How long a connection may take to come about.
    pub connection: Duration,
    /// How long a hub may take to begin an answer. One that does not begin its first is not asked
    /// again.
    pub answer: Duration,
    /// How long a connection may be silent.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            connection: Duration::from_secs(3),
            // What Python's client allows, HF_HUB_ETAG_TIMEOUT.
            answer: Duration::from_secs(10),
            silence: Duration::from_secs(30),
        }
    }
}

impl HubSettings {
    /// The settings of the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN` or the
    /// file at `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, and their older names.
    ///
    /// # Errors
    ///
    /// No folder for the cache, because neither variable nor home folder says one; an endpoint that
    /// is no `http(s)` address.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    pub(super) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let set = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| variable(name))
                .find(|value| !value.is_empty())
        };
        let path = |names: &[&str]| set(names).map(|path| expand(&path, home.as_deref()));
        let hf_home = path(&["HF_HOME"])
            .or_else(|| path(&["XDG_CACHE_HOME"]).map(|caches| caches.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache/huggingface")));
        let cache = path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
            .or_else(|| hf_home.as_ref().map(|home| home.join("hub")))
            .ok_or(HubError::NoHome)?;
        let token = set(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| {
            let file = path(&["HF_TOKEN_PATH"]).or_else(|| Some(hf_home?.join("token")))?;
            fs::read_to_string(file).ok()
        });
        let endpoint = set(&["HF_ENDPOINT"]).unwrap_or("https://huggingface.co".to_string());
        if !is_address(&endpoint) {
            return Err(HubError::BadEndpoint { endpoint });
        }
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            cache,
            token: token
                .map(|token| token.trim().to_string())
                .filter(|token| !token.is_empty()),
            offline: set(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&&*value.to_ascii_uppercase())
            }),
            patience: Patience::default(),
        })
    }
}

/// Whether requests can go to an address: a server's, and perhaps a path on it.
fn is_address(endpoint: &str) -> bool {
    endpoint.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// `~` at the start of a path is the home folder.
fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("patience", &self.patience)
            .finish()
    }
}
