//! `bunny-cli data mix`: one training file made of several, as a recipe says.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bunny_data::images::ImageSource;
use bunny_data::mix::{Mix, MixRecipe, MixSource, dataoptim};
use bunny_data::{DataError, for_terminal};

use super::bar::Bar;
use crate::Format;
use crate::args::ForceArgs;
use crate::keys;
use crate::recipe::{self, Kind};

/// Mixes datasets into one training file, as a recipe says, and checks their counts.
///
/// Example: bunny-cli data mix recipes/mixes/bunny-695k.toml --data downloads --out bunny_695k.json
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct MixArgs {
    #[command(subcommand)]
    verb: Option<MixVerb>,
    #[command(flatten)]
    mix: Option<MixOptions>,
}

/// What else can be done with mixes.
#[derive(Debug, clap::Subcommand)]
enum MixVerb {
    /// Lists the keys of a mix: type, what it is unless given, and what it does.
    ///
    /// Example: bunny-cli data mix keys --format markdown
    Keys(keys::KeysArgs),
}

/// How a mix is made.
#[derive(Debug, clap::Args)]
struct MixOptions {
    /// The recipe: a file, or a name of `bunny-cli recipe list`
    recipe: PathBuf,
    /// The folder that the recipe's paths start in
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    data: PathBuf,
    /// The training file: a JSON array, or JSON lines where it is named .jsonl
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the pictures are; needed where a recipe converts boxes
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    /// Go on where counts differ from the recipe's; the manifest says so
    #[arg(long)]
    accept_counts: bool,
    /// Write over a file that is there
    // Not flattened: what may be left out as a whole, clap knows by its own arguments alone.
    #[arg(long)]
    force: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl MixOptions {
    /// What is written.
    fn written(&self) -> [PathBuf; 2] {
        let mut manifest = self.out.clone().into_os_string();
        manifest.push(".manifest.json");
        [self.out.clone(), manifest.into()]
    }

    /// What is read: the recipe, what it names, and the pictures, where they are in one file.
    fn read(&self, recipe: &MixRecipe) -> Vec<PathBuf> {
        let named = |source: &MixSource| {
            let dataoptim =
                || dataoptim::find(source.dataoptim.as_deref()?).map(|(_, file)| file.into());
            source.path.clone().or_else(dataoptim)
        };
        let sources = recipe.sources.iter().filter_map(named);
        let mut read: Vec<PathBuf> = sources.map(|file| self.data.join(file)).collect();
        read.push(self.recipe.clone());
        read.extend(self.images.clone());
        read
    }
}

/// Runs the verb.
///
/// # Errors
/// When the recipe or a source cannot be read, the mix cannot be written, or counts differ.
pub fn run(args: MixArgs) -> Result<()> {
    match (args.verb, args.mix) {
        (Some(MixVerb::Keys(args)), _) => {
            keys::print(&args, "the keys of a mix", bunny_data::mix::schema())
        }
        (None, Some(options)) => mix(options),
        (None, None) => bail!("name the recipe of the mix"),
    }
}

fn mix(args: MixOptions) -> Result<()> {
    let recipe = match recipe::named(&args.recipe, Kind::Mix) {
        Some(carried) if !args.recipe.exists() => MixRecipe::parse(&args.recipe, carried.text)?,
        _ => MixRecipe::read(&args.recipe)?,
    };
    let over = ForceArgs { force: args.force };
    over.allow(&args.written(), args.read(&recipe))?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be made a folder", folder.display()))?;
    }
    let images = args.images.as_ref().map(ImageSource::open).transpose()?;
    let mix = Mix::open(recipe, &args.data, images)?;
    let bar = Bar::new("mixing");
    let written = mix.write(&args.out, args.accept_counts, &|done, total| {
        bar.show(done, total)
    });
    drop(bar);
    let manifest = match written {
        Err(DataError::Counts {
            recipe,
            differences,
        }) => {
            for count in mix.counts() {
                eprintln!(
                    "{:<28} {:>9} records, {:>9} used",
                    for_terminal(&count.source),
                    count.records,
                    count.used
                );
            }
            for difference in &differences {
                eprintln!("{difference}");
            }
            bail!(
                "recipe {}: counts differ; look at the inputs, or go on with --accept-counts",
                for_terminal(&recipe)
            );
        }
        written => written?,
    };
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&manifest)?),
        Format::Text => {
            for source in &manifest.sources {
                println!(
                    "{:<28} {:>9} records, {:>9} used",
                    for_terminal(&source.name),
                    source.records,
                    source.used
                );
            }
            for difference in &manifest.differences {
                println!("accepted: {difference}");
            }
            println!(
                "{}: {} records",
                args.out.display(),
                manifest.output.records
            );
        }
    }
    Ok(())
}
