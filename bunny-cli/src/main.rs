//! Talk about pictures, inspect, merge, train and select data with the Bunny models.
#![recursion_limit = "256"]

// Before all that print.
#[macro_use]
mod print;

mod args;
mod backend;
mod bench;
mod chat;
mod completions;
mod data;
mod doctor;
mod duration;
mod eval;
mod export;
mod files;
mod keys;
mod load;
mod log;
mod machine;
mod merge;
mod model;
mod picture;
mod progress;
mod recipe;
mod samples;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod shell;
mod signals;
mod speed;
mod train;
#[cfg(all(feature = "serve", feature = "builtin-model"))]
mod web;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use bunny_base::escape::for_terminal;
use clap::{CommandFactory, Parser, Subcommand};

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

// What a verb says of itself stands with its arguments: a comment here would take its place.
#[derive(Debug, Subcommand)]
enum Verb {
    Chat(chat::ChatArgs),
    Ask(eval::ask::AskFileArgs),
    Score(score::ScoreArgs),
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    #[command(subcommand)]
    Model(model::ModelVerb),
    #[command(subcommand)]
    Data(data::DataVerb),
    Train(train::TrainArgs),
    #[command(subcommand)]
    Recipe(recipe::RecipeVerb),
    Merge(merge::MergeArgs),
    #[command(subcommand)]
    Export(export::ExportVerb),
    #[command(subcommand)]
    Eval(eval::EvalVerb),
    Bench(bench::BenchArgs),
    #[cfg(all(feature = "serve", feature = "builtin-model"))]
    Web(web::WebArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
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
    signals::outgrown_files_are_errors();
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        // Help or the version: what was asked for.
        Err(asked) => {
            signals::end_with_the_reader();
            print::require(asked.print().and_then(|()| io::stdout().flush()));
            return ExitCode::SUCCESS;
        }
    };
    match verb {
        // Training ends with a checkpoint, and not with whoever reads what it says.
        Verb::Train(_) | Verb::Data(data::DataVerb::Condense(_)) => signals::heed_nohup(),
        // A server neither, and clients close what it writes to.
        #[cfg(feature = "serve")]
        Verb::Serve(_) => signals::heed_nohup(),
        _ => signals::end_with_the_reader(),
    }
    log::start();
    let done = match verb {
        Verb::Chat(args) => chat::run(args),
        Verb::Ask(args) => eval::ask::run(args),
        Verb::Score(args) => score::run(args),
        #[cfg(feature = "serve")]
        Verb::Serve(args) => serve::run(args),
        Verb::Model(verb) => model::run(verb),
        Verb::Data(verb) => match data::run(verb) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Verb::Train(args) => train::run(args),
        Verb::Recipe(verb) => recipe::run(verb),
        Verb::Merge(args) => merge::run(args),
        Verb::Export(verb) => export::run(verb),
        Verb::Eval(verb) => eval::run(verb),
        Verb::Bench(args) => bench::run(args),
        #[cfg(all(feature = "serve", feature = "builtin-model"))]
        Verb::Web(args) => web::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completions(args) => completions::run(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who read this may be gone.
            let _ = writeln!(io::stderr(), "error: {}", for_terminal(&one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each said once: some errors already say theirs, some what they are about.
fn one_line(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |text, cause| {
            let cause = cause.to_string();
            let last = text.rsplit(": ").next().unwrap_or_default();
            if text.contains(&cause) {
                text
            } else if cause
                .strip_prefix(last)
                .is_some_and(|rest| rest.starts_with(": "))
            {
                format!("{}{cause}", &text[..text.len() - last.len()])
            } else {
                format!("{text}: {cause}")
            }
        })
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::{Cli, one_line};

    #[test]
    fn an_error_says_once_what_it_is_about() {
        let error = |cause: &'static str| anyhow::anyhow!(cause).context("a/b").context("stage x");
        for (cause, line) in [
            ("a/b: no such folder", "stage x: a/b: no such folder"),
            ("a/bc: no such folder", "stage x: a/b: a/bc: no such folder"),
            ("in a/b", "stage x: a/b: in a/b"),
            ("a/b", "stage x: a/b"),
        ] {
            assert_eq!(one_line(&error(cause)), line);
        }
    }

    /// The verbs below `command`, and those below them, each with the words that name it.
    fn verbs(command: &Command, before: &str) -> Vec<(String, Command)> {
        let own = command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help");
        own.flat_map(|verb| {
            let name = format!("{before} {}", verb.get_name());
            let below = verbs(verb, &name);
            std::iter::once((name, verb.clone())).chain(below)
        })
        .collect()
    }

    #[test]
    fn every_verb_has_a_line_in_the_list_and_an_example_in_its_long_help() {
        let verbs = verbs(&Cli::command(), "bunny-cli");
        assert!(verbs.len() > 15, "{}", verbs.len());
        for (name, mut verb) in verbs {
            let summary = verb.get_about().unwrap().to_string();
            assert!(
                !summary.contains('\n') && summary.len() < 100,
                "{name}: {summary}"
            );
            let example = format!("Example: {name} ");
            let long = verb.render_long_help().to_string();
            assert!(long.contains(&example), "{name}: {long}");
            let short = verb.render_help().to_string();
            assert!(
                short.contains(&summary) && !short.contains("Example"),
                "{short}"
            );
        }
    }
}
