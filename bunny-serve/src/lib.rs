//! An OpenAI-compatible server over a Bunny, and a page to talk in.
//!
//! ```text
//! request ─► routes ─► wire (read) ─► desk (pictures, words, sequences) ─► worker: the engine's thread
//! response ◄─ answers (whole) or stream (events) ◄──────── tokens ────────────────┘
//! ```
//!
//! The model lives on one thread of its own, which answers all requests at once, a token each at a
//! time ([`Engine`](bunny_core::generate::Engine)). Whoever goes away is cancelled, whoever reads slowly
//! holds up nobody.
//!
//! ```no_run
//! use bunny_core::{
//!     checkpoint::{Precision, builtin},
//!     generate::Pipeline,
//! };
//! use bunny_serve::{Server, ServerOptions};
//! use burn_flex::Flex;
//!
//! let pipeline = Pipeline::<Flex>::from_open(builtin::open()?, Precision::F32, Default::default())?;
//! let server = Server::bind("127.0.0.1:8000".parse()?, pipeline, ServerOptions::named("builtin"))?;
//! let stop = server.stopper(); // for another thread, or for a handler of signals
//! server.run()?;
//! # stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What stands before the handlers are small functions and no layers of tower-http: those answer every `OPTIONS`
//! themselves, take any request id as it comes, and refuse in plain text or with no body where OpenAI's clients read
//! JSON.
//!
//! burn's types are nested deeply: a crate that serves says `#![recursion_limit = "256"]`, as this one.
#![recursion_limit = "256"]

mod answers;
mod clock;
mod connections;
mod cors;
mod desk;
mod fetch;
mod guards;
mod lingering;
mod metrics;
mod off_thread;
mod options;
mod page;
mod picture;
mod request_id;
mod routes;
mod server;
mod stream;
mod wire;
mod worker;

pub use options::{Sample, ServerOptions};
pub use page::page_files;
pub use server::{ServeError, Server};

/// Its example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
