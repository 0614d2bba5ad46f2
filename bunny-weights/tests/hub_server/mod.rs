//! A hub of one model, on this machine: the routes that a download needs, and faults on demand.
//!
//! It stores large files elsewhere, as the real one does: `resolve` redirects to a second port.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Files of this size and more are stored elsewhere.
const LARGE: usize = 1000;

/// How one request goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An answer of this status with these headers, and no more.
    Status(u16, Vec<(&'static str, String)>),
    /// An answer that is a page of text.
    Page(String),
    /// The connection ends after so many bytes of the contents.
    Cut(usize),
    /// Nothing is said for so long.
    Silent(Duration),
    /// The first byte of the contents is another.
    Damaged,
    /// The contents have a byte more than was announced.
    Longer,
    /// The contents come from their start, wherever they were asked for.
    IgnoreRange,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `hub` or `storage`.
    pub host: &'static str,
    pub method: String,
    pub path: String,
    /// The byte from which on the contents are asked for.
    pub range: Option<u64>,
    pub authorization: Option<String>,
}

struct State {
    model: String,
    former_name: Option<String>,
    commit: String,
    branches: BTreeSet<String>,
    files: BTreeMap<String, Vec<u8>>,
    /// Faults by a part of the path they are for; of faults in contents only `GET` has any.
    faults: Vec<(String, Fault)>,
    requests: Vec<Request>,
    storage: SocketAddr,
    /// The time between two pieces of contents.
    pace: Duration,
}

/// A hub that runs until it is dropped.
pub struct HubServer {
    state: Arc<Mutex<State>>,
    hub: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The hash of contents, in hexadecimal.
pub fn sha256(contents: &[u8]) -> String {
    Sha256::digest(contents)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn etag(contents: &[u8]) -> String {
    match contents.len() {
        LARGE.. => sha256(contents),
        // Git's hash in the real one; any name does.
        _ => sha256(contents)[..40].to_string(),
    }
}

impl HubServer {
    pub fn start(model: &str, commit: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let state = Arc::new(Mutex::new(State {
            model: model.to_string(),
            former_name: None,
            commit: commit.to_string(),
            branches: BTreeSet::from(["main".to_string()]),
            files,
            faults: Vec::new(),
            requests: Vec::new(),
            storage: storage.local_addr().unwrap(),
            pace: Duration::ZERO,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let address = hub.local_addr().unwrap();
        let threads = [("hub", hub), ("storage", storage)]
            .map(|(host, listener)| {
                let (state, stop) = (state.clone(), stop.clone());
                std::thread::spawn(move || serve(host, &listener, &state, &stop))
            })
            .into();
        Self {
            state,
            hub: address,
            stop,
            threads,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    pub fn etag(&self, file: &str) -> String {
        etag(&self.state.lock().unwrap().files[file])
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The next request whose path contains `path` goes wrong.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.state
            .lock()
            .unwrap()
            .faults
            .push((path.to_string(), fault));
    }

    /// Contents come in pieces of 16 KiB, so long after each other.
    pub fn pace(&self, pace: Duration) {
        self.state.lock().unwrap().pace = pace;
    }

    /// No request goes wrong any more.
    pub fn forgive(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// A new commit, in which one file is another.
    pub fn commit(&self, commit: &str, file: &str, contents: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.commit = commit.to_string();
        state.files.insert(file.to_string(), contents.to_vec());
    }

    /// The model was once called `former_name`.
    pub fn rename_from(&self, former_name: &str) {
        self.state.lock().unwrap().former_name = Some(former_name.to_string());
    }

    pub fn branch(&self, name: &str) {
        self.state.lock().unwrap().branches.insert(name.to_string());
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(host: &'static str, listener: &TcpListener, state: &Mutex<State>, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A client that went away is its own affair.
            Ok((stream, _)) => drop(answer(host, stream, state)),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn answer(host: &'static str, mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_string);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut request = Request {
        host,
        method,
        path,
        range: None,
        authorization: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value
                    .strip_prefix("bytes=")
                    .and_then(|range| range.strip_suffix('-'));
                request.range = start.and_then(|start| start.parse().ok());
            }
            "authorization" => request.authorization = Some(value.to_string()),
            _ => {}
        }
    }

    let (reply, fault, pace) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let reply = route(&state, &request);
        let fault = state.faults.iter().position(|(path, fault)| {
            let in_contents = !matches!(fault, Fault::Status(..) | Fault::Page(_))
                || matches!(fault, Fault::Status(416, _));
            request.path.contains(path.as_str()) && (!in_contents || reply.has_contents)
        });
        let fault = fault.map(|at| state.faults.remove(at).1);
        (reply, fault, state.pace)
    };
    reply.send(&mut stream, &request, fault, pace)
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The body is that of a file, so faults in contents strike here.
    has_contents: bool,
}

/// What the hub says when nothing goes wrong.
fn route(state: &State, request: &Request) -> Reply {
    let plain = |status, headers| Reply {
        status,
        headers,
        body: Vec::new(),
        has_contents: false,
    };
    let missing = |code: &str| plain(404, vec![("X-Error-Code", code.to_string())]);
    let path = request.path.replace("%2F", "/").replace("%20", " ");
    let file = |name: &str, contents: &[u8]| Reply {
        status: 200,
        headers: vec![("ETag", format!("\"{}\"", etag(contents)))],
        body: contents.to_vec(),
        has_contents: request.method == "GET" && state.files.contains_key(name),
    };
    if request.host == "storage" {
        let name = path.trim_start_matches('/');
        return file(name, &state.files[name]);
    }
    let State { model, commit, .. } = state;
    if let Some(former) = state
        .former_name
        .as_deref()
        .filter(|former| path.contains(*former))
    {
        return plain(307, vec![("Location", path.replace(former, model))]);
    }
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{model}/revision/")) {
        if revision != commit && !state.branches.contains(revision) {
            return missing("RevisionNotFound");
        }
        let siblings: Vec<_> = state
            .files
            .keys()
            .map(|name| serde_json::json!({"rfilename": name}))
            .collect();
        let listing = serde_json::json!({"id": model, "sha": commit, "siblings": siblings});
        return Reply {
            body: listing.to_string().into_bytes(),
            ..plain(200, Vec::new())
        };
    }
    let Some(name) = path.strip_prefix(&format!("/{model}/resolve/{commit}/")) else {
        return missing("RepoNotFound");
    };
    let Some(contents) = state.files.get(name) else {
        return missing("EntryNotFound");
    };
    let mut reply = match contents.len() {
        LARGE.. => plain(
            302,
            vec![
                ("Location", format!("http://{}/{name}", state.storage)),
                ("X-Linked-ETag", format!("\"{}\"", etag(contents))),
                ("X-Linked-Size", contents.len().to_string()),
            ],
        ),
        _ => file(name, contents),
    };
    reply.headers.push(("X-Repo-Commit", commit.clone()));
    reply
}

impl Reply {
    fn send(
        mut self,
        stream: &mut TcpStream,
        request: &Request,
        fault: Option<Fault>,
        pace: Duration,
    ) -> std::io::Result<()> {
        let total = self.body.len() as u64;
        let mut cut = usize::MAX;
        let mut range = request.range;
        match fault {
            None => {}
            Some(Fault::Status(status, headers)) => {
                self = Self {
                    status,
                    headers,
                    body: Vec::new(),
                    has_contents: false,
                };
            }
            Some(Fault::Page(text)) => self.body = text.into_bytes(),
            Some(Fault::Cut(at)) => cut = at,
            Some(Fault::Silent(time)) => std::thread::sleep(time),
            Some(Fault::Damaged) => self.body[0] ^= 1,
            Some(Fault::Longer) => self.body.push(0),
            Some(Fault::IgnoreRange) => range = None,
        }
        if let (Some(start), true) = (range, self.has_contents) {
            self.status = 206;
            self.body.drain(..start as usize);
            self.headers.push((
                "Content-Range",
                format!("bytes {start}-{}/{total}", total - 1),
            ));
        }
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        self.headers
            .push(("Content-Length", self.body.len().to_string()));
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method != "HEAD" {
            let sent = &self.body[..self.body.len().min(cut)];
            for piece in sent.chunks(if pace.is_zero() { usize::MAX } else { 1 << 14 }) {
                stream.write_all(piece)?;
                std::thread::sleep(pace);
            }
        }
        stream.flush()
    }
}
