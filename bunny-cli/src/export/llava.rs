//! `bunny-cli export llava`: a folder that transformers opens.

use std::path::PathBuf;

use anyhow::Result;
use bunny_base::write_atomic;
use bunny_core::{checkpoint::OpenModel, config::presets::Preset, nn::WeightFormat};
use bunny_train::report::{CARD, Origin, llava_card};
use bunny_weights::StoredDtype;
use clap::ValueEnum;

use crate::{
    args::ModelArgs,
    files::{OutputFolder, refuse_same_file},
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
    /// The model: a folder, a hub id, or `builtin`
    model: String,
    /// The language model that a LoRA or projector folder belongs to: a folder or a hub id
    #[arg(long)]
    model_base: Option<String>,
    /// The vision tower, where the model lacks it: a folder, a file of weights, or a hub id
    #[arg(long)]
    vision_tower: Option<String>,
    /// Where the folder goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write into a folder that holds other files; what is read is never written over
    #[arg(long)]
    force: bool,
    /// Number type of the weights [default: the model's own]
    #[arg(long, value_enum)]
    dtype: Option<LlavaDtype>,
}

/// A number type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LlavaDtype {
    /// Half precision.
    F16,
    /// With f32's range.
    Bf16,
    /// Nothing is rounded.
    F32,
}

impl LlavaDtype {
    fn stored(self) -> StoredDtype {
        match self {
            Self::F16 => StoredDtype::F16,
            Self::Bf16 => StoredDtype::BF16,
            Self::F32 => StoredDtype::F32,
        }
    }
}

/// The type that most of a model's numbers have.
fn own(open: &OpenModel) -> StoredDtype {
    match open.weights.stored_format() {
        WeightFormat::F16 => StoredDtype::F16,
        WeightFormat::Bf16 => StoredDtype::BF16,
        _ => StoredDtype::F32,
    }
}

/// Runs the verb.
///
/// # Errors
/// When a LLaVA cannot hold the model, a part of it is missing, or a file cannot be written.
pub fn run(args: &LlavaArgs) -> Result<()> {
    // Before anything is downloaded.
    let _out = OutputFolder::take(&args.out, args.force)?;
    if let Some(preset) = Preset::named(&args.model) {
        preset.config().require_llava()?;
    }
    let model = ModelArgs {
        model_base: args.model_base.clone(),
        vision_tower: args.vision_tower.clone(),
        ..ModelArgs::named(&args.model)
    };
    let source = match model.is_builtin() {
        true => None,
        false => Some(model.source()?),
    };
    if let Some(source) = &source {
        let inputs = [
            Some(&source.model),
            source.base.as_ref(),
            source.vision_tower.as_ref(),
        ];
        refuse_same_file([&args.out], inputs.into_iter().flatten())?;
        source.configuration()?.require_llava()?;
    }
    let open = model.open()?;
    let dtype = args.dtype.map_or_else(|| own(&open), LlavaDtype::stored);
    let mut written = open.write_llava(&args.out, dtype)?;
    let origin = source
        .as_ref()
        .map_or(Origin::Program(builtin_card()), Origin::Files);
    let card = llava_card(&open.config, origin, &args.out)?;
    let file = args.out.join(CARD);
    write_atomic(&file, |file| file.write_all(card.as_bytes()))?;
    written.push(file);
    for path in written {
        println!("{}", path.display());
    }
    Ok(())
}
