//! A Bunny in a browser tab: the engine of [`bunny_core`], compiled to WebAssembly.
//!
//! A tab has no files, no threads and no clock of `std`'s. Files are put into memory under their paths
//! ([`bunny_base::files::memory`]); everything runs on the thread of a Web Worker; clock and random bits are
//! the page's (`host`). What JavaScript calls is in `exports`: numbers and bytes in, JSON out, without a
//! generator of bindings. An answer is asked for once and then taken step by step, so that the worker hears
//! between two steps that it is to stop:
//!
//! ```text
//! alloc, put …        the model's files
//! load                → {"model", "context", "picture_tokens", …}
//! alloc, picture …    the pictures of the conversation, in order
//! ask                 → {"prompt_tokens"}
//! step, step …        → {"text"} … {"finish", "completion_tokens", "seconds"}
//! ```
//! `js/bunny.js` is the module that pages use.
#![recursion_limit = "256"]

mod exports;
mod host;
mod request;
mod session;

use session::Session;
