//! `bunny-cli merge`: one model out of several parts or several models.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bunny_core::{
    checkpoint::MeanSquares,
    nn::{Packing, ParameterSpec},
};
use bunny_train::report::{average_card, merged_card};
use bunny_weights::StoredDtype;

use crate::{
    args::{FloatName, MemoryArgs, ModelArgs, OutputArgs, PartsArgs},
    files::refuse_same_file,
    load::with_option,
};

/// Folds what a training run has learnt into its model, or averages models.
///
/// A README.md beside the weights says what the model was made of.
///
/// Example: bunny-cli merge --model runs/tiny/finetune --out merged
///
/// Example: bunny-cli merge --average recipe-1=0.42 --average recipe-2=0.58 --out averaged
#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// The folder with an adapter or a projector
    #[arg(long, short, required_unless_present = "average")]
    model: Option<String>,
    #[command(flatten)]
    parts: PartsArgs,
    /// A merged model and its weight in an average, as FOLDER=WEIGHT; give it once for each
    #[arg(long, value_parser = weighted, conflicts_with_all = ["model", "model_base", "vision_tower"])]
    average: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    output: OutputArgs,
    /// Number type of the merged weights; not for an average, which keeps its last model's
    #[arg(long, value_enum, default_value = "f16", conflicts_with = "average")]
    dtype: FloatName,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Put the language model in integers, int8 or int4, with a group where that is not 32: int4:128
    #[arg(long, value_name = "FORMAT", conflicts_with = "average")]
    weights: Option<Packing>,
}

fn weighted(text: &str) -> Result<(PathBuf, f64), String> {
    let parsed = text.rsplit_once('=').and_then(|(folder, weight)| {
        let weight: f64 = weight.parse().ok()?;
        (weight.is_finite() && !folder.is_empty()).then(|| (folder.into(), weight))
    });
    parsed.ok_or_else(|| "expected FOLDER=WEIGHT, as in models/one=0.42".into())
}

/// Runs the verb.
///
/// # Errors
/// When parts are missing or do not fit each other, or a file cannot be written.
pub fn run(args: MergeArgs) -> Result<()> {
    // Before anything is downloaded.
    let _out = args.output.take()?;
    let out = &args.output.out;
    let (written, card) = match args.model {
        None if args.average.len() < 2 => bail!("an average takes two models or more"),
        None => {
            let inputs = args.average.iter().map(|(folder, _)| folder);
            refuse_same_file([out], inputs)?;
            let written = bunny_train::merge::average(&args.average, out)?;
            (written, average_card(&args.average, out))
        }
        Some(model) => {
            let source = ModelArgs {
                model,
                parts: args.parts,
                memory: args.memory,
            }
            .source()?;
            args.output.refuse_source(&source)?;
            let dtype = StoredDtype::from(args.dtype);
            let open = source.open().map_err(with_option)?;
            let specs = open.config.describe();
            let largest = specs.iter().map(ParameterSpec::count).max().unwrap_or(0);
            // In f32, and rounded.
            let bytes = largest * (4 + dtype.size() as u64);
            args.memory
                .require("the largest tensor", bytes, "merge on a larger machine")?;
            let written = match args.weights {
                None => open.write_merged(out, dtype)?,
                Some(packing) => {
                    // To the scales that suit the numbers: `model quantize` asks what they are given too.
                    let alike = MeanSquares::new();
                    open.write_quantized(out, packing, &alike, dtype, |_| {})?
                        .files
                }
            };
            (written, merged_card(&source, out)?)
        }
    };
    args.output.finish(written, Some(&card))
}
