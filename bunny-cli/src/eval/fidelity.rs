//! `bunny-cli eval fidelity`: what a model loses when its weights are held in fewer bits.

use std::path::PathBuf;

use anyhow::Result;
use bunny_core::{
    checkpoint::Precision,
    generate::{
        Engine, EngineOptions, Fidelity, Foretold, GenerationOptions, Pipeline, Update, foretell,
    },
    nn::{Activations, Packing, WeightFormat},
};
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use crate::{
    Format,
    args::{ActivationsName, EightBits, ModelArgs, activations_name},
    progress::Spinner,
    samples::{self, Sample},
};

/// Says how far a model in integers, or in bf16, is from itself in f32.
///
/// Texts are read word by word as they stand, and what is held likely in each place is compared: the mean
/// of Kullback and Leibler's divergence, what 99.9 % of the places do not exceed, how often the likeliest
/// token is the same, and the perplexity of the texts. Questions are answered too, in a few words, and
/// answers counted that are the same to the letter.
///
/// Example: bunny-cli eval fidelity builtin --weights int8 --weights int4
#[derive(Debug, clap::Args)]
pub struct FidelityArgs {
    /// The model: a folder, a hub id, or `builtin`
    #[arg(default_value = crate::load::BUILTIN)]
    model: String,
    /// Integers to hold the language model in, rounded to the nearest: int8 or int4, with a group where
    /// that is not 32; give it once for each
    #[arg(long, value_name = "FORMAT")]
    weights: Vec<Packing>,
    /// The same model in other files, as `model quantize` wrote them; give it once for each
    #[arg(long, value_name = "DIR")]
    quantized: Vec<PathBuf>,
    /// Keys and values in integers: beside the model in f32
    #[arg(long, value_enum, value_name = "FORMAT")]
    kv_cache_dtype: Option<EightBits>,
    /// Pictures, texts (.txt, .md) or folders of them [default: a small set]
    #[arg(long, value_name = "PATH")]
    texts: Vec<PathBuf>,
    /// How what is multiplied with integers is rounded
    #[arg(long, value_enum, default_value = "int8")]
    activations: ActivationsName,
    /// The most tokens an answer may have
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    max_new_tokens: u16,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When a model or a text cannot be read.
#[cfg(feature = "flex")]
pub fn run(args: FidelityArgs) -> Result<()> {
    run_on::<burn_flex::Flex>(&args)
}

/// Runs the verb.
///
/// # Errors
/// Always: the processor is what compares them.
#[cfg(not(feature = "flex"))]
pub fn run(_: FidelityArgs) -> Result<()> {
    anyhow::bail!("models are compared on the processor: build with `--features flex`")
}

/// What a model said of the samples.
struct Said {
    foretold: Foretold,
    answers: Vec<Vec<u32>>,
}

#[cfg_attr(
    not(feature = "flex"),
    allow(dead_code, reason = "the processor compares")
)]
fn run_on<B: Backend>(args: &FidelityArgs) -> Result<()> {
    let samples = samples::read(&args.texts)?;
    let activations = Activations::from(args.activations);
    let own = Precision {
        activations,
        ..Precision::F32
    };
    let said = |name: &str, precision| args.said::<B>(name, precision, &samples);
    let right = said(&args.model, own)?;
    let bf16 = Precision {
        activations,
        ..Precision::weights_only(WeightFormat::Bf16)
    };
    let mut rows = vec![row("bf16", &right, &said(&args.model, bf16)?)];
    for packing in &args.weights {
        let packed = said(&args.model, own.packed(Some(*packing)))?;
        rows.push(row(&packing.to_string(), &right, &packed));
    }
    if let Some(EightBits::Int8) = args.kv_cache_dtype {
        let cached = Precision {
            cache_int8: true,
            ..own
        };
        rows.push(row("int8 cache", &right, &said(&args.model, cached)?));
    }
    for folder in &args.quantized {
        let name = folder.to_string_lossy();
        rows.push(row(&name, &right, &said(&name, own)?));
    }
    args.print(&rows);
    Ok(())
}

/// How a model in other numbers compares.
struct Row {
    name: String,
    fidelity: Fidelity,
    same_answers: usize,
    answers: usize,
}

fn row(name: &str, right: &Said, other: &Said) -> Row {
    let pairs = right.answers.iter().zip(&other.answers);
    Row {
        name: name.into(),
        fidelity: right.foretold.compare(&other.foretold),
        same_answers: pairs.filter(|(right, other)| right == other).count(),
        answers: right.answers.len(),
    }
}

#[cfg_attr(
    not(feature = "flex"),
    allow(dead_code, reason = "the processor compares")
)]
impl FidelityArgs {
    /// What a model says of the samples in these numbers.
    fn said<B: Backend>(
        &self,
        name: &str,
        precision: Precision,
        samples: &[Sample],
    ) -> Result<Said> {
        let _shown = Spinner::new(format!("{name}, {precision}"));
        let device = B::Device::default();
        let open = ModelArgs::named(name).open()?;
        let pipeline = Pipeline::<B>::from_open(open, precision, device.clone())?;
        let mut foretold = Foretold::default();
        let mut answers = Vec::new();
        for sample in samples {
            let text = sample.whole(&pipeline)?;
            foretold.extend(foretell(&pipeline.model, text, &device)?);
            answers.extend(self.answer(&pipeline, sample)?);
        }
        Ok(Said { foretold, answers })
    }

    /// The answer to the question of a sample, if it has one.
    fn answer<B: Backend>(
        &self,
        pipeline: &Pipeline<B>,
        sample: &Sample,
    ) -> Result<Option<Vec<u32>>> {
        let Some(prompt) = sample.question(pipeline)? else {
            return Ok(None);
        };
        let options = GenerationOptions {
            max_new_tokens: self.max_new_tokens.into(),
            ..GenerationOptions::default()
        };
        let sequence = pipeline.sequence(&prompt.tokens, &options);
        let mut engine: Engine<B> = pipeline.engine(EngineOptions {
            slots: 1,
            ..EngineOptions::default()
        });
        engine.admit(prompt, sequence)?;
        loop {
            for (_, update) in engine.step() {
                match update {
                    Update::Finished(answer) => return Ok(Some(answer.sequence.ids().to_vec())),
                    Update::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
        }
    }

    fn print(&self, rows: &[Row]) {
        if self.format == Format::Json {
            let report = json!({
                "format_version": 1,
                "model": self.model,
                "activations": activations_name(self.activations.into()),
                "max_new_tokens": self.max_new_tokens,
                "formats": rows.iter().map(Row::json).collect::<Vec<_>>(),
            });
            println!("{report}");
            return;
        }
        println!(
            "{:<16} {:>8} {:>12} {:>12} {:>14} {:>22} {:>14}",
            "weights",
            "places",
            "mean KL",
            "99.9 % KL",
            "same likeliest",
            "perplexity",
            "same answers"
        );
        for row in rows {
            let Fidelity {
                places,
                mean_divergence,
                far_divergence,
                same_likeliest,
                perplexities: [right, own],
            } = row.fidelity;
            println!(
                "{:<16} {places:>8} {mean_divergence:>12.5} {far_divergence:>12.4} {:>12.2} % {:>22} {:>14}",
                row.name,
                100.0 * same_likeliest,
                format!("{right:.3} → {own:.3}"),
                format!("{} of {}", row.same_answers, row.answers),
            );
        }
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "weights": self.name,
            "places": self.fidelity.places,
            "mean_kl": self.fidelity.mean_divergence,
            "kl_of_999_in_1000": self.fidelity.far_divergence,
            "same_likeliest": self.fidelity.same_likeliest,
            "perplexity_in_f32": self.fidelity.perplexities[0],
            "perplexity": self.fidelity.perplexities[1],
            "same_answers": self.same_answers,
            "answers": self.answers,
        })
    }
}
