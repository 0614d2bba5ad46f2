//! `bunny-cli data condense`: pictures with captions to a pretraining file, by one recipe.

mod recipe;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, bail};
use bunny_data::coreset::{Division, OutputOptions, Paths};

use super::{
    coreset::{self, MachineArgs},
    embed::{self, EmbedArgs},
};
use crate::{
    args::BackendArgs,
    keys,
    recipe::{Kind, named},
    shell, signals,
    train::RunArgs,
};

pub use recipe::CondenseRecipe;

/// Condenses pictures with captions to what is worth learning from, by one recipe.
///
/// One after another it does what `data embed`, `data coreset` and, where the recipe says so, `train`
/// do, in folders of --out: embeddings/, coreset/ with pretrain.json, and one for each stage of
/// training, whose stage `pretrain` learns from what was selected. Started again after it was ended, it
/// goes on where it was; what is done already is not done again.
///
/// Example: bunny-cli data condense laion-2m --memory 8GB
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CondenseArgs {
    #[command(subcommand)]
    verb: Option<CondenseVerb>,
    #[command(flatten)]
    run: Option<CondenseOptions>,
}

#[derive(Debug, clap::Subcommand)]
enum CondenseVerb {
    /// Lists the keys of such a recipe: type, what it is unless given, and what it does.
    ///
    /// Example: bunny-cli data condense keys --format markdown
    Keys(keys::KeysArgs),
}

#[derive(Debug, clap::Args)]
// By this the whole is known to be there: a group does not see into what is flattened.
#[group(args = ["recipe"])]
struct CondenseOptions {
    /// The recipe: a file, or a name of `bunny-cli recipe list`
    recipe: PathBuf,
    /// Where the folders go; runs/NAME unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace embeddings and a selection that were made from something else or with other keys
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the verb.
///
/// # Errors
/// When the recipe cannot be followed, or a step fails.
pub fn run(args: CondenseArgs) -> Result<()> {
    match (args.verb, args.run) {
        (Some(CondenseVerb::Keys(args)), _) => {
            signals::end_with_the_reader();
            keys::print(&args, "the keys of `data condense`", recipe::schema())
        }
        (None, Some(options)) => condense(options),
        (None, None) => bail!("name the recipe"),
    }
}

fn condense(args: CondenseOptions) -> Result<()> {
    let recipe = match named(&args.recipe, Kind::Condense) {
        Some(carried) if !args.recipe.exists() => {
            CondenseRecipe::parse(&args.recipe, carried.text)?
        }
        _ => CondenseRecipe::read(&args.recipe)?,
    };
    let CondenseRecipe {
        name,
        embed: pairs,
        coreset: selection,
        train,
        ..
    } = recipe;
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(name));
    let (embeddings, selected) = (out.join("embeddings"), out.join("coreset"));
    let records = selected.join("pretrain.json");
    let images = pictures(&pairs.images).to_owned();
    // What would stop training is told before anything is done.
    let train = match train {
        Some(train) => Some(RunArgs::of_data(
            train.recipe,
            train.stage,
            &train.set,
            [&records, &images],
            &out,
            args.backend,
            args.machine.more,
        )?),
        None => None,
    };

    println!("embeddings");
    let start = Instant::now();
    let more = args.machine.more;
    let embed = EmbedArgs::new(pairs, embeddings.clone(), args.force, more, args.backend);
    embed::print(&embed.embed()?, start.elapsed().as_secs_f64());

    println!("\ncoreset");
    let mut options = selection.options();
    // What `embed` writes whatever it reads.
    let key = &mut options.embeddings.key_column;
    key.get_or_insert_with(|| "image_path".to_owned());
    let paths = Paths {
        embeddings,
        out: selected.clone(),
        work: None,
        keep_work: false,
        force: args.force,
        division: Division::default(),
    };
    let outputs = OutputOptions {
        images: Some(images.clone()),
        missing_images: selection.missing_images,
    };
    let report = args.machine.select(&paths, &options, &outputs)??;
    coreset::print(&report, &selected);

    println!();
    match train {
        Some(train) => train.run(),
        None => {
            let word = |path: &Path| shell::word(&path.to_string_lossy()).to_string();
            println!(
                "to train on them   bunny-cli train --set pretrain.data_path={} --set pretrain.image_folder={}",
                word(&records),
                word(&images)
            );
            Ok(())
        }
    }
}

/// The folder of pictures that lie in a Parquet file, whose rows say by themselves where they are; of
/// others the place that they are read from.
fn pictures(images: &Path) -> &Path {
    let is_table = images.extension().is_some_and(|ending| ending == "parquet");
    match images.parent().filter(|_| is_table) {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => images,
    }
}
