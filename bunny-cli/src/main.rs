//! Talk about pictures, inspect, merge, train and select data with the Bunny models.
#![recursion_limit = "256"]

mod backend;
mod bench;
mod chat;
mod data;
mod load;
mod model;
mod picture;
mod progress;
mod score;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

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
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let done = match Cli::parse().verb {
        Verb::Chat(args) => chat::run(args),
        Verb::Score(args) => score::run(args),
        Verb::Model(verb) => model::run(verb),
        Verb::Data(verb) => data::run(verb),
        Verb::Bench(args) => bench::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
