//! Requests to a hub: who is asked for what, how often, and what the answers mean.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::{HubError, HubSettings, ModelId, Patience};
use crate::error::one_line;

/// Redirects that are followed for one request.
const REDIRECTS: usize = 10;

/// What a request is about, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub model: &'a ModelId,
    pub file: Option<&'a str>,
}

/// A file as the hub describes it.
#[derive(Debug)]
pub(super) struct Remote {
    /// Names the contents.
    pub etag: String,
    pub size: u64,
    /// The hash of the contents; files that the hub keeps in git have none.
    pub sha256: Option<String>,
}

/// A request that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Asking again may help, after the wait the hub asks for.
    Passing {
        error: HubError,
        wait: Option<Duration>,
        progress: bool,
    },
    /// No connection came about, or nobody answers on it. In the middle of a download it may come
    /// back; before anything was answered nobody is there.
    NoAnswer(HubError),
    /// Asking again does not help.
    Lasting(HubError),
}

impl Failure {
    /// The same when nothing was answered before: who does not answer then is not asked again.
    fn at_first(self) -> Self {
        match self {
            Self::NoAnswer(error) => Self::Lasting(error),
            other => other,
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

/// Asks a hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    authorization: Option<String>,
    patience: Patience,
}

impl Client {
    pub fn new(settings: &HubSettings) -> Self {
        let HubSettings {
            endpoint,
            token,
            patience,
            ..
        } = settings;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, so that the token stays with the hub.
            .max_redirects(0)
            .timeout_resolve(Some(patience.connection))
            .timeout_connect(Some(patience.connection))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.silence))
            .user_agent(concat!("bunny/", env!("CARGO_PKG_VERSION")));
        if is_loopback(endpoint) {
            config = config.proxy(None);
        }
        Self {
            agent: config.build().into(),
            endpoint: endpoint.clone(),
            authorization: token.as_ref().map(|token| format!("Bearer {token}")),
            patience: *patience,
        }
    }

    /// Where a model's commit and files are listed.
    pub fn listing_url(&self, model: &ModelId) -> String {
        let (name, revision) = (model.name(), encoded(model.revision(), false));
        format!("{}/api/models/{name}/revision/{revision}", self.endpoint)
    }

    /// Where a file is.
    pub fn file_url(&self, model: &ModelId, commit: &str, file: &str) -> String {
        let (name, file) = (model.name(), encoded(file, true));
        format!("{}/{name}/resolve/{commit}/{file}", self.endpoint)
    }

    /// A whole answer of at most `limit` bytes.
    pub fn read(&self, url: &str, reach: Reach<'_>, limit: u64) -> Result<Vec<u8>, HubError> {
        self.patiently(|| {
            let answer = self.get(url, reach, 0).map_err(Failure::at_first)?;
            let mut body = Vec::new();
            answer
                .into_body()
                .into_reader()
                .take(limit + 1)
                .read_to_end(&mut body)
                .map_err(|error| {
                    not_answered(url, &error.into(), self.patience.silence).at_first()
                })?;
            if body.len() as u64 > limit {
                let reason = format!("more than {limit} bytes");
                return Err(HubError::Answer {
                    url: url.to_string(),
                    reason,
                }
                .into());
            }
            Ok(body)
        })
    }

    /// Tag, size and hash of a file.
    pub fn describe(&self, url: &str, reach: Reach<'_>) -> Result<Remote, HubError> {
        let answer = self.patiently(|| {
            let mut url = url.to_string();
            for _ in 0..REDIRECTS {
                let request = self.agent.head(&url).header("Accept-Encoding", "identity");
                let answer = self.send(request, &url, reach)?;
                // The hub itself describes a file; where it is stored, only the bytes are known.
                match location(&answer, &url)? {
                    Some(next) if origin(&next) == origin(&url) => url = next,
                    _ => return Ok(answer),
                }
            }
            Err(too_many_redirects(&url).into())
        })?;
        let headers = answer.headers();
        let odd = |reason: &str| HubError::Answer {
            url: url.to_string(),
            reason: reason.into(),
        };
        let linked = text(headers, "x-linked-etag").map(tag);
        let etag = linked
            .or_else(|| text(headers, "etag").map(tag))
            .filter(|etag| is_plain_tag(etag))
            .ok_or_else(|| odd("no usable etag"))?;
        let size = text(headers, "x-linked-size")
            .or_else(|| text(headers, "content-length"))
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| odd("no size"))?;
        let sha256 = linked
            .filter(|etag| etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Ok(Remote {
            etag: etag.to_string(),
            size,
            sha256: sha256.map(str::to_ascii_lowercase),
        })
    }

    /// The answer to a request for the bytes from `start` on, wherever it leads.
    pub fn get(&self, url: &str, reach: Reach<'_>, start: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.to_string();
        for _ in 0..REDIRECTS {
            let mut request = self.agent.get(&url).header("Accept-Encoding", "identity");
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let answer = self.send(request, &url, reach)?;
            match location(&answer, &url)? {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(too_many_redirects(&url).into())
    }

    fn send(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        url: &str,
        reach: Reach<'_>,
    ) -> Result<Response<Body>, Failure> {
        if let Some(authorization) = &self.authorization
            && origin(url) == origin(&self.endpoint)
        {
            request = request.header("Authorization", authorization);
        }
        match request.call() {
            Ok(answer) => self.check(answer, url, reach),
            Err(error) => {
                let Patience {
                    answer, silence, ..
                } = self.patience;
                Err(not_answered(url, &error, answer.min(silence)))
            }
        }
    }

    /// Turns a refusal into what it means.
    fn check(
        &self,
        answer: Response<Body>,
        url: &str,
        reach: Reach<'_>,
    ) -> Result<Response<Body>, Failure> {
        let status = answer.status().as_u16();
        let headers = answer.headers();
        let code = text(headers, "x-error-code").unwrap_or_default();
        let message = one_line(text(headers, "x-error-message").unwrap_or_default());
        let model = reach.model.clone();
        let error = match (status, code) {
            // 416 says that a part is as long as the file.
            (200..=399 | 416, _) => return Ok(answer),
            (_, "GatedRepo") => HubError::Gated {
                page: format!("{}/{}", self.endpoint, model.name()),
                model,
            },
            (_, "RevisionNotFound") => HubError::RevisionNotFound { model },
            (401, _) if self.authorization.is_some() && code != "RepoNotFound" => {
                HubError::BadToken { model }
            }
            // A hub hides what is private from those it does not know.
            (401, _) | (_, "RepoNotFound") => HubError::ModelNotFound { model },
            (403, _) => HubError::Forbidden {
                model,
                reason: message,
            },
            (404, _) => match reach.file {
                Some(file) => HubError::FileNotFound {
                    model,
                    file: file.to_string(),
                },
                None => HubError::ModelNotFound { model },
            },
            (429, _) => {
                let seconds = text(headers, "retry-after").and_then(|wait| wait.parse().ok());
                return Err(Failure::Passing {
                    error: HubError::RateLimited { seconds },
                    wait: seconds.map(Duration::from_secs),
                    progress: false,
                });
            }
            (408 | 500..=599, _) => {
                let error = HubError::Failing {
                    url: url.to_string(),
                    status,
                };
                return Err(Failure::Passing {
                    error,
                    wait: None,
                    progress: false,
                });
            }
            _ => HubError::Answer {
                url: url.to_string(),
                reason: format!("status {status}"),
            },
        };
        Err(Failure::Lasting(error))
    }

    /// Tries again, waiting longer each time, until it works or does not get on any more.
    pub fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let Patience {
            attempts,
            first_wait,
            longest_wait,
            ..
        } = self.patience;
        let mut tried = 0;
        loop {
            let (error, asked, progress) = match attempt() {
                Ok(result) => return Ok(result),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing {
                    error,
                    wait,
                    progress,
                }) => (error, wait, progress),
                Err(Failure::NoAnswer(error)) => (error, None, false),
            };
            tried = if progress { 1 } else { tried + 1 };
            let wait = asked.unwrap_or(first_wait.saturating_mul(1 << (tried - 1).min(16)));
            if tried >= attempts || asked.is_some_and(|asked| asked > longest_wait) {
                return Err(error);
            }
            tracing::warn!("{error}; trying again in {} s", wait.as_secs_f32());
            std::thread::sleep(wait.min(longest_wait));
        }
    }
}

/// What it means that a request was not answered, though it was waited for `waited`.
fn not_answered(url: &str, error: &ureq::Error, waited: Duration) -> Failure {
    match error {
        error if is_no_connection(error) => Failure::NoAnswer(unreachable(url, error)),
        ureq::Error::Timeout(_) => Failure::NoAnswer(HubError::Unreachable {
            url: url.into(),
            reason: format!(
                "it took the connection, and then said nothing for {} s",
                waited.as_secs_f32()
            ),
        }),
        _ => passing(url, error),
    }
}

/// Whether nothing was said to anybody: no network, no such host, nobody there.
fn is_no_connection(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;

    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => true,
        ureq::Error::Io(error) => {
            matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
            ) || error.to_string().contains("lookup address")
        }
        _ => false,
    }
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> HubError {
    HubError::Unreachable {
        url: url.into(),
        reason: one_line(&error.to_string()),
    }
}

/// A connection that failed may work again.
pub(super) fn passing(url: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Passing {
        error: unreachable(url, error),
        wait: None,
        progress: false,
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A tag without the marks around it.
fn tag(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// Tags become the names of files.
fn is_plain_tag(etag: &str) -> bool {
    !etag.is_empty()
        && etag.len() <= 200
        && !etag.starts_with('.')
        && etag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn too_many_redirects(url: &str) -> HubError {
    HubError::Answer {
        url: url.to_string(),
        reason: format!("more than {REDIRECTS} redirects"),
    }
}

/// Where an answer redirects to.
fn location(answer: &Response<Body>, url: &str) -> Result<Option<String>, HubError> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    match text(answer.headers(), "location") {
        Some(next) if next.starts_with("http://") || next.starts_with("https://") => {
            Ok(Some(next.to_string()))
        }
        Some(path) if path.starts_with('/') && !path.starts_with("//") => {
            Ok(Some(format!("{}{path}", origin(url))))
        }
        _ => Err(HubError::Answer {
            url: url.to_string(),
            reason: "a redirect to nowhere".to_string(),
        }),
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Whether an address is on this machine, where no proxy leads.
fn is_loopback(url: &str) -> bool {
    let host = origin(url).split("://").last().unwrap_or_default();
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local))
}

/// Text for a path of an address.
fn encoded(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || byte == b'/' && keep_slashes {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
