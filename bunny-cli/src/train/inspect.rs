//! `bunny-cli train inspect`: records as the model sees them.

use std::{fmt::Write, io::IsTerminal, path::PathBuf};

use anyhow::{Context, Result};
use bunny_base::escape::for_terminal;
use bunny_core::checkpoint::Wanted;
use bunny_data::{record::RecordFile, write_whole};
use bunny_train::{
    data::{Layout, Sample},
    recipe::{StageKind, StageRecipe},
    report::inspect::{spans, to_html, to_terminal},
    stages::SetupConfig,
};

use super::RecipeArgs;
use crate::{args::ForceArgs, load, print, signals};

/// Shows records as the model sees them: the prompt, the picture, and what is learnt.
///
/// Example: bunny-cli train inspect recipes/tiny.toml --record 3
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Which record, from 0; may be given several times
    #[arg(
        long = "record",
        alias = "sample",
        value_name = "N",
        default_value = "0"
    )]
    records: Vec<usize>,
    /// Where the recipe's earlier stages have left what they made; runs/NAME unless given
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write a page with the records instead of printing them
    #[arg(long)]
    html: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
}

/// The top of a page: what is learnt is green, a picture is blue, as on a terminal.
const HEAD: &str = "<!doctype html><meta charset=\"utf-8\"><title>records</title>
<style>
body { font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
pre { white-space: pre-wrap; background: #f6f6f6; padding: 1em }
mark { background: #b7ebc0 }
em { background: #bfdbfe; font-style: normal }
del { color: #999 }
</style>
<p>Read by the model: plain. <mark>Learnt</mark>. <em>A picture</em>. <del>Cut off</del>.</p>
";

/// Runs the verb.
///
/// # Errors
/// When there is no such record, or it cannot be learnt from.
pub fn run(args: InspectArgs) -> Result<()> {
    signals::end_with_the_reader();
    let recipe = args.recipe.read()?;
    let records = recipe
        .stages
        .iter()
        .map(|(_, stage)| &stage.training().data_path);
    let read = records.chain([&recipe.origin]);
    args.over.allow(args.html.as_slice(), read)?;
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut page = String::from(HEAD);
    let out = args.out.unwrap_or_else(|| recipe.folder());
    for (kind, stage) in &recipe.with_results_in(&out).stages {
        // Of texts all is learnt, and of captions nothing is predicted.
        let StageRecipe::Bunny(stage) = stage else {
            continue;
        };
        let model = load::folder(&stage.model_name_or_path, Wanted::Configuration)?;
        let tower = stage.vision_tower.as_deref();
        let tower = tower.map(|tower| load::folder(tower, Wanted::Configuration));
        let tower = tower.transpose()?;
        let setup = SetupConfig::read(stage, &model, tower.as_deref())?;
        let layout = Layout::new(&setup.config, stage.model_max_length);
        let records = RecordFile::open(&stage.training.data_path)?;
        for index in &args.records {
            let record = records.get(*index)?;
            let sample = Sample::new(&record, setup.template, &setup.tokenizer)
                .with_context(|| format!("record {index} (`{}`)", record.id))?;
            let learnt: usize = sample.answers.iter().map(|answer| answer.len()).sum();
            let title = title(*kind, *index, &record.id, sample.tokens.len(), learnt);
            let spans = spans(&sample, &setup.tokenizer, layout)?;
            if args.html.is_some() {
                let title = title.replace('&', "&amp;").replace('<', "&lt;");
                // Writing to a string does not fail.
                let _ = writeln!(page, "<h3>{title}</h3>{}", to_html(&spans));
            } else {
                let title = for_terminal(&title);
                let text = format!("{title}\n{}\n", to_terminal(&spans, colours));
                print::drawn(&text, b"\n");
            }
        }
    }
    if let Some(path) = args.html {
        write_whole(&path, page.as_bytes())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn title(kind: StageKind, index: usize, id: &str, tokens: usize, learnt: usize) -> String {
    format!("{kind}: record {index} ({id}), {tokens} tokens, {learnt} of them answers")
}
