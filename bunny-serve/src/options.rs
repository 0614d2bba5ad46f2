//! What a server is called, what it takes, and from whom.

use std::time::Duration;

/// What a server is called, what it takes, and from whom.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What clients call the model; the first name is the one that they are told.
    pub names: Vec<String>,
    /// Answers at once.
    pub slots: usize,
    /// Positions of prompts that a step reads, so that running answers go on.
    pub chunk: usize,
    /// Bytes that keys and values may take; as many as the slots need unless given. Answers wait for
    /// memory as they wait for a slot.
    pub cache_bytes: Option<u64>,
    /// Answers that may wait; requests for more are refused (429).
    pub queue: usize,
    /// Bytes of a body.
    pub max_body: usize,
    /// Pictures of a conversation.
    pub max_pictures: usize,
    /// Pixels of a picture.
    pub max_pixels: u64,
    /// Hosts that pictures may be fetched from; from no others, and from addresses that are not of the open
    /// net only where they stand here as addresses.
    pub allow_hosts: Vec<String>,
    /// Origins whose pages may ask from a browser, as `https://chat.example`; `*` allows all.
    pub allow_origins: Vec<String>,
    /// The longest that a client may take to send a request's head, and then its body.
    pub read_timeout: Duration,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// How long answers may go on once the server was told to stop.
    pub grace: Duration,
    /// The key that clients must have.
    pub api_key: Option<String>,
    /// Names that this server goes by, besides addresses and localhost.
    pub public_names: Vec<String>,
    /// What the page tells of the model.
    pub card: String,
    /// Pictures that the page offers to start from.
    pub samples: Vec<Sample>,
}

impl ServerOptions {
    /// A model of this name; eight answers at once, 1,024 that wait, bodies of 32 MiB, no key.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            slots: 8,
            chunk: 512,
            cache_bytes: None,
            queue: 1024,
            max_body: 32 << 20,
            max_pictures: 16,
            max_pixels: 50_000_000,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            read_timeout: Duration::from_secs(60),
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            api_key: None,
            public_names: Vec::new(),
            card: String::new(),
            samples: Vec::new(),
        }
    }
}

/// A picture to start from.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What it is called.
    pub name: &'static str,
    /// Its kind, as `image/jpeg`.
    pub kind: &'static str,
    /// Its file.
    pub bytes: &'static [u8],
}
