//! `bunny-cli recipe`: the recipes that this program carries.

mod carried;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bunny_base::write_atomic;
use clap::Subcommand;
use serde_json::json;

use crate::Format;

pub use carried::{Carried, Kind, find};

/// The carried recipe that someone means who names no file that is there.
pub fn named(name: &Path, kind: Kind) -> Option<&'static Carried> {
    let recipe = find(name.to_str()?).ok()?;
    (recipe.kind == kind).then_some(recipe)
}

/// Lists, shows and copies the recipes that this program carries, mixes included.
///
/// `train`, `data mix` and `data condense` take their names as they take files.
///
/// Example: bunny-cli recipe copy bunny-phi-2-siglip --out mine.toml
#[derive(Debug, Subcommand)]
pub enum RecipeVerb {
    List(ListArgs),
    Show(ShowArgs),
    Copy(CopyArgs),
}

/// Lists the recipes that this program carries.
///
/// Example: bunny-cli recipe list --format json
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// How the list is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Prints a recipe.
///
/// Example: bunny-cli recipe show bunny-695k
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Its name
    name: String,
}

/// Writes a recipe to a file, to be changed.
///
/// Example: bunny-cli recipe copy bunny-phi-2-siglip --out mine.toml
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// Its name
    name: String,
    /// The file [default: NAME.toml]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such recipe, or it cannot be written.
pub fn run(verb: RecipeVerb) -> Result<()> {
    match verb {
        RecipeVerb::List(args) => list(&args),
        RecipeVerb::Show(args) => print!("{}", find(&args.name)?.to_copy()),
        RecipeVerb::Copy(args) => return copy(&args),
    }
    Ok(())
}

fn list(args: &ListArgs) {
    if args.format == Format::Json {
        let row = |recipe: &Carried| json!({"name": recipe.name, "verb": recipe.kind.verb(), "about": recipe.about()});
        let rows: Vec<_> = carried::ALL.iter().map(row).collect();
        println!("{}", json!({"format_version": 1, "recipes": rows}));
        return;
    }
    let widest = carried::ALL.iter().map(|recipe| recipe.name.len()).max();
    let widest = widest.unwrap_or(0);
    for kind in [Kind::Training, Kind::Mix, Kind::Condense] {
        println!("bunny-cli {} NAME", kind.verb());
        for recipe in carried::ALL.iter().filter(|recipe| recipe.kind == kind) {
            println!("  {:<widest$}  {}", recipe.name, recipe.about());
        }
    }
}

fn copy(args: &CopyArgs) -> Result<()> {
    let recipe = find(&args.name)?;
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| Path::new(recipe.name).with_added_extension("toml"));
    if out.exists() && !args.force {
        bail!(
            "{}: is there already: name another file with --out, or say --force",
            out.display()
        );
    }
    write_atomic(&out, |file| file.write_all(recipe.to_copy().as_bytes()))?;
    println!("{}", out.display());
    Ok(())
}
