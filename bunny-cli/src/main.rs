//! Talk about pictures, inspect, merge, train and select data with the Bunny models.
#![recursion_limit = "256"]

mod backend;
mod bench;
mod chat;
mod data;
mod eval;
mod load;
mod merge;
mod model;
mod picture;
mod progress;
mod score;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

#[derive(Debug, Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Talk with a model about pictures
    Chat(chat::ChatArgs),
    /// How likely a model finds a given answer, token by token
    Score(score::ScoreArgs),
    /// What models there are, and what is in them
    #[command(subcommand)]
    Model(model::ModelVerb),
    /// Select, mix, check and show what a model learns from
    #[command(subcommand)]
    Data(data::DataVerb),
    /// Train a model by a recipe, look at its records, draw its curves
    Train(train::TrainArgs),
    /// Fold what a run has learnt into its model, or average models
    Merge(merge::MergeArgs),
    /// Examine how well a model answers
    #[command(subcommand)]
    Eval(eval::EvalVerb),
    /// Measure a model of random weights at its true size
    Bench(bench::BenchArgs),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    end_with_the_reader();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::builder()
                .with_default_directive(LevelFilter::WARN.into())
                .from_env_lossy(),
        )
        .with_writer(|| progress::AboveBars)
        .init();
    let done = match Cli::parse().verb {
        Verb::Chat(args) => chat::run(args),
        Verb::Score(args) => score::run(args),
        Verb::Model(verb) => model::run(verb),
        Verb::Data(verb) => data::run(verb),
        Verb::Train(args) => train::run(args),
        Verb::Merge(args) => merge::run(args),
        Verb::Eval(verb) => eval::run(verb),
        Verb::Bench(args) => bench::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// A reader that closes the pipe, as `head` does, ends the program in silence, as it ends others;
/// Rust would have printing panic.
fn end_with_the_reader() {
    // SAFETY: nothing else runs yet, and the default action needs no handler.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// An error and its causes, each said once: some errors already say theirs.
fn one_line(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |text, cause| {
            let cause = cause.to_string();
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}
