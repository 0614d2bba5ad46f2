//! What a Bunny is worth: the benchmarks of the paper in their published files, what a model is
//! asked, how its answers are judged, and the tables that follow.
//!
//! Questions come from a [`Folder`], answers from a file ([`Answers`]), and [`score`] brings both
//! together under a [`Convention`]. Nothing here runs a model.

pub mod answer;
pub mod benchmark;
pub mod check;
mod error;
pub mod facts;
mod folder;
pub mod picture;
pub mod prompt;
mod python;
pub mod qa;
pub mod question;
pub mod run;
pub mod score;
mod submission;
mod suites;
#[cfg(test)]
mod tests;
mod text;

pub use answer::Answers;
pub use benchmark::Benchmark;
pub use error::{EvalError, Result};
pub use folder::Folder;
pub use prompt::Template;
pub use question::{Question, QuestionId};
pub use score::{Convention, Report};
pub use submission::{Submission, submission};
pub use text::Text;
