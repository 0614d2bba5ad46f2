//! `bunny-cli eval`: how well a model answers.

mod answerer;
pub mod ask;
mod check;
mod compare;
mod enter;
mod fidelity;
mod gallery;
mod list;
mod merge;
mod picture_world;
mod prompts;
mod qa;
mod run;
mod score;
mod table;
mod telling;

use anyhow::Result;
use clap::Subcommand;

pub use answerer::of_folder;

/// Examines how well a model answers.
///
/// Example: bunny-cli eval score pope --data eval --answers answers.jsonl
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
    List(list::ListArgs),
    Check(check::CheckArgs),
    Prompts(prompts::PromptsArgs),
    Run(run::RunArgs),
    Merge(merge::MergeArgs),
    Score(score::ScoreArgs),
    Enter(enter::EnterArgs),
    Table(table::TableArgs),
    Compare(compare::CompareArgs),
    Qa(qa::QaArgs),
    Gallery(gallery::GalleryArgs),
    Fidelity(Box<fidelity::FidelityArgs>),
    PictureWorld(picture_world::PictureWorldArgs),
}

/// Runs the verb.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: EvalVerb) -> Result<()> {
    match verb {
        EvalVerb::List(args) => list::run(args),
        EvalVerb::Check(args) => check::run(args),
        EvalVerb::Prompts(args) => prompts::run(args),
        EvalVerb::Run(args) => run::run(args),
        EvalVerb::Merge(args) => merge::run(args),
        EvalVerb::Score(args) => score::run(args),
        EvalVerb::Enter(args) => enter::run(args),
        EvalVerb::Table(args) => table::run(args),
        EvalVerb::Compare(args) => compare::run(args),
        EvalVerb::Qa(args) => qa::run(args),
        EvalVerb::Gallery(args) => gallery::run(args),
        EvalVerb::Fidelity(args) => fidelity::run(*args),
        EvalVerb::PictureWorld(args) => picture_world::run(args),
    }
}
