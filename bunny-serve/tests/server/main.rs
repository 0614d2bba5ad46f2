//! The server over the built-in model, by plain requests on loopback.
#![recursion_limit = "256"]

mod answers;
mod life;
mod limits;
mod malformed;
mod protocol;
mod refusals;
mod running;
mod streams;
