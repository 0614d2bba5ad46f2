//! An OpenAI-compatible server over a Bunny, and a page to talk in.
//!
//! ```text
//! request ─► routes ─► wire (read) ─► desk (pictures, words, a sequence) ─► worker: the engine's thread
//! response ◄─ answering (whole, or a stream of events) ◄───── tokens ──────────────┘
//! ```
//!
//! The model lives on one thread of its own, which answers all requests at once, a token each at a
//! time ([`Engine`](bunny_core::generate::Engine)). Whoever goes away is cancelled, whoever reads slowly
//! holds up nobody.
//!
//! ```no_run
//! use bunny_core::{checkpoint::{ModelSource, builtin}, generate::Pipeline, nn::Precision};
//! use bunny_serve::{Limits, Server};
//! use burn_flex::Flex;
//!
//! let pipeline = Pipeline::<Flex>::from_open(builtin::open()?, Precision::F32, Default::default())?;
//! let server = Server::bind("127.0.0.1:8000".parse()?, "builtin", pipeline, Limits::default())?;
//! println!("http://{}", server.address());
//! server.run()?; // until SIGINT or SIGTERM
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![recursion_limit = "256"]

mod answering;
mod desk;
mod guards;
mod metrics;
mod page;
mod picture;
mod routes;
mod server;
mod wire;
mod worker;

pub use page::Sample;
pub use server::{ServeError, Server};

use std::time::Duration;

/// What a server takes, and from whom.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Answers at once.
    pub slots: usize,
    /// Positions of prompts that a step reads, so that running answers go on.
    pub chunk: usize,
    /// Requests that may wait; more are refused (429).
    pub queue: usize,
    /// Bytes of a body.
    pub body: usize,
    /// Pictures of a conversation.
    pub pictures: usize,
    /// Pixels of a picture.
    pub pixels: u64,
    /// The longest that an answer may take.
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

impl Default for Limits {
    /// Eight answers at once, 1,024 that wait, bodies of 32 MiB.
    fn default() -> Self {
        Self {
            slots: 8,
            chunk: 512,
            queue: 1024,
            body: 32 << 20,
            pictures: 16,
            pixels: 178_956_970,
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            api_key: None,
            public_names: Vec::new(),
            card: String::new(),
            samples: Vec::new(),
        }
    }
}
