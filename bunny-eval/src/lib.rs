#![doc = include_str!("../README.md")]

pub mod answer;
mod benchmark;
pub mod check;
pub mod compare;
mod convention;
mod error;
pub mod facts;
mod folder;
pub mod gallery;
mod html;
mod named;
pub mod picture;
pub mod prompt;
mod python;
pub mod qa;
pub mod question;
pub mod run;
pub mod score;
mod submission;
mod suites;
pub mod table;
#[cfg(test)]
mod tests;
mod text;

pub use answer::Answers;
pub use benchmark::{Benchmark, Server, UnknownBenchmark};
pub use convention::{Convention, UnknownConvention};
pub use error::{EvalError, Failure, Result};
pub use folder::Folder;
pub use prompt::Template;
pub use question::{Question, QuestionId};
pub use score::Report;
pub use submission::{Submission, submission};
pub use suites::{folder, questions};
pub use text::Text;
