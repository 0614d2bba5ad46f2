//! `bunny-cli export llava`: a folder that transformers opens.

use anyhow::Result;
use bunny_core::config::presets::Preset;
use bunny_train::report::{Origin, llava_card};

use crate::{
    args::{FloatName, OutputArgs, SourceArgs, own_dtype},
    load::builtin_card,
};

/// Writes a folder that transformers opens as LlavaForConditionalGeneration.
///
/// Weights, processor, tokenizer with its image token, chat template and a README.md with the licence
/// and a few lines of Python: what there is to say to transformers, 4.57 or 5, and to what is built on
/// it. Adapters are folded in, and weights in integers written as floats.
///
/// LLaVAs have a SigLIP or CLIP tower and a projector of two products: models with an EVA-CLIP tower,
/// with pictures at several sizes (S²) or with another projector are refused. A MiniCPM is written as a
/// Llama whose weights hold its scales.
///
/// A block of a tensor is in memory at a time, beside the files. The way back needs no verb: wherever a
/// model is asked for, such a folder will do.
///
/// Example: bunny-cli export llava BAAI/Bunny-v1_0-3B --out bunny-llava
#[derive(Debug, clap::Args)]
pub struct LlavaArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Number type of the weights [default: the model's own]
    #[arg(long, value_enum)]
    dtype: Option<FloatName>,
}

/// Runs the verb.
///
/// # Errors
/// When a LLaVA cannot hold the model, a part of it is missing, or a file cannot be written.
pub fn run(args: &LlavaArgs) -> Result<()> {
    // Before anything is downloaded.
    let _out = args.output.take()?;
    let model = args.source.model();
    if let Some(preset) = Preset::named(&model.model) {
        preset.config().require_llava()?;
    }
    let source = match model.is_builtin() {
        true => None,
        false => Some(model.source()?),
    };
    if let Some(source) = &source {
        args.output.refuse_source(source)?;
        source.configuration()?.require_llava()?;
    }
    let open = model.open()?;
    let dtype = args.dtype.map_or_else(|| own_dtype(&open), Into::into);
    let written = open.write_llava(&args.output.out, dtype)?;
    let origin = source
        .as_ref()
        .map_or(Origin::Program(builtin_card()), Origin::Files);
    let card = llava_card(&open.config, origin, &args.output.out)?;
    args.output.finish(written, Some(&card))
}
