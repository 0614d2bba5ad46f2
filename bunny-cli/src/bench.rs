//! `bunny-cli bench`: how fast a model of the true size is, with random weights.

mod train;

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bunny_core::{
    Bunny, BunnyConfig,
    checkpoint::Precision,
    config::presets::{Preset, preset_names},
    generate::{
        Engine, EngineOptions, GenerationOptions, Picture, Pipeline, Prompt, Sequence, Timings,
        Update,
    },
    input::{image::Pixels, tokenizer::Token},
    nn::{Packing, WeightFormat},
};
use bunny_train::run::memory::most_held;
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::{
    Format,
    args::{BackendArgs, ModelArgs, activations_name},
    backend::{Numbers, Work},
};

/// Measures a model of random weights at its true size, or one of yours.
///
/// Makes the weights (nothing is downloaded), or loads the model, and measures loading, encoding a
/// picture, reading a prompt, decoding, and peak memory.
///
/// Example: bunny-cli bench --arch bunny-phi-2-siglip --dtype f16
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    verb: Option<BenchVerb>,
    /// A name of `model list`
    #[arg(long, default_value = "bunny-phi-2-siglip")]
    arch: String,
    /// A model of your own instead: a folder or a hub id
    #[arg(long, short, conflicts_with = "arch")]
    model: Option<String>,
    #[command(flatten)]
    backend: BackendArgs,
    /// Positions of the prompt, the picture's included
    #[arg(long, default_value_t = 768)]
    prompt: usize,
    /// Tokens to decode behind the prompt
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// Runs; the fastest counts, and the slowest is shown
    #[arg(long, value_name = "N", default_value = "3")]
    repeats: NonZeroUsize,
    /// Unmeasured runs before
    #[arg(long, default_value_t = 1)]
    warmup: usize,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What else is measured.
#[derive(Debug, clap::Subcommand)]
enum BenchVerb {
    Train(train::BenchTrainArgs),
}

/// Runs the verb.
///
/// # Errors
/// When the model is unknown or the backend is not there.
pub fn run(args: BenchArgs) -> Result<()> {
    match args.verb {
        Some(BenchVerb::Train(args)) => train::run(args),
        None => args.backend.run(Measuring(args)),
    }
}

impl BenchArgs {
    /// What is measured, by the name it was given by.
    fn subject(&self) -> &str {
        self.model.as_deref().unwrap_or(&self.arch)
    }

    /// Refuses a prompt that the model cannot read, or not answer at the length asked for.
    fn check(&self, config: &BunnyConfig) -> Result<()> {
        let (picture, context) = room(config);
        if self.prompt < picture {
            bail!(
                "--prompt {}: the picture alone takes {picture} positions: ask for as many or more",
                self.prompt
            );
        }
        if self.prompt.saturating_add(self.decode) > context {
            bail!(
                "--prompt {} --decode {}: more than the model's {context} positions: ask for fewer",
                self.prompt,
                self.decode
            );
        }
        Ok(())
    }
}

/// The positions that a picture takes, and those there are.
fn room(config: &BunnyConfig) -> (usize, usize) {
    let context = config.decoder.max_position_embeddings;
    (config.vision.tokens(), context)
}

struct Measuring(BenchArgs);

impl Work for Measuring {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let started = Instant::now();
        let (model, precision) = match &args.model {
            Some(model) => {
                let open = ModelArgs::named(model).open()?;
                args.check(&open.config)?;
                let precision = numbers.precision::<B>(&device, open.weights.stored_format())?;
                let model = Pipeline::<B>::from_open(open, precision, device.clone())?.model;
                (model, precision)
            }
            None => {
                let config = Preset::named(&args.arch)
                    .with_context(|| {
                        let names = preset_names();
                        format!("no model `{}`; there are {names}", args.arch)
                    })?
                    .config();
                args.check(&config)?;
                let precision = numbers.precision::<B>(&device, WeightFormat::F32)?;
                {
                    let model = Bunny::random(&config, 0, precision, &device);
                    (Arc::new(model), precision)
                }
            }
        };
        let load = started.elapsed();
        for _ in 0..args.warmup {
            measure(&model, &args, &device)?;
        }
        let runs: Vec<Timings> = (0..args.repeats.get())
            .map(|_| measure(&model, &args, &device))
            .collect::<Result<_>>()?;
        let memory = most_held::<B>(&device);
        let subject = Subject {
            precision,
            packing: match model.language_model_format() {
                WeightFormat::Packed(packing) => Some(packing),
                _ => None,
            },
            // Halfway through the answer.
            bytes_per_token: model.bytes_per_token(args.prompt + args.decode / 2),
        };
        print(&args, numbers, &subject, load, memory, &runs);
        Ok(())
    }
}

/// One run: a picture through tower and projector, a prompt, and an answer token by token.
fn measure<B: Backend>(
    model: &Arc<Bunny<B>>,
    args: &BenchArgs,
    device: &B::Device,
) -> Result<Timings> {
    let size = model.config().vision.image_size();
    let grey = Pixels {
        data: (0..3 * size * size)
            .map(|at| (at % 255) as f32 / 127.5 - 1.0)
            .collect(),
        height: size,
        width: size,
    };
    let words = args.prompt - model.config().vision.tokens();
    let vocabulary = model.config().decoder.vocab_size;
    let text = (0..words).map(|at| Token::Text((at % 1000 % vocabulary) as u32));
    let tokens: Vec<Token> = std::iter::once(Token::Picture(0)).chain(text).collect();
    // The first token comes of the prompt.
    let tokens_said = args.decode + 1;
    let options = EngineOptions {
        slots: 1,
        chunk: usize::MAX,
        positions: Some(args.prompt + tokens_said),
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(model.clone(), options, device.clone());
    let options = GenerationOptions {
        max_new_tokens: tokens_said,
        ..GenerationOptions::default()
    };
    let sequence = Sequence::of_tokens(&tokens, &options);
    let pictures = vec![Picture::new(grey)];
    engine.admit(Prompt { tokens, pictures }, sequence)?;
    loop {
        for (_, update) in engine.step() {
            match update {
                Update::Finished(answer) => return Ok(answer.timings),
                Update::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
    }
}

/// What was measured.
struct Subject {
    precision: Precision,
    /// In which integers its language model is, if in any.
    packing: Option<Packing>,
    /// What a token of the answer reads.
    bytes_per_token: u64,
}

fn print(
    args: &BenchArgs,
    numbers: Numbers,
    subject: &Subject,
    load: Duration,
    memory: Option<u64>,
    runs: &[Timings],
) {
    let extremes = |part: fn(&Timings) -> Duration| {
        let seconds = || runs.iter().map(|run| part(run).as_secs_f64());
        (
            seconds().fold(f64::INFINITY, f64::min),
            seconds().fold(0.0, f64::max),
        )
    };
    let (vision, slowest_vision) = extremes(|run| run.vision);
    let (prefill, slowest_prefill) = extremes(|run| run.prefill);
    let (decode, slowest_decode) = extremes(|run| run.decode);
    let (prompt, answer) = (args.prompt as f64, args.decode as f64);
    let &Subject {
        precision, packing, ..
    } = subject;
    let dtype = precision.weights.name();
    let read = subject.bytes_per_token as f64 * answer / decode / 1e9;
    let threads = rayon::current_num_threads();
    let report = json!({
        "format_version": 1,
        "arch": args.subject(),
        "backend": numbers.backend(),
        "dtype": dtype,
        "weights": packing.map(|packing| packing.to_string()),
        "activations": packing.map(|_| activations_name(precision.activations)),
        "threads": threads,
        "prompt": args.prompt,
        "decode": args.decode,
        "repeats": runs.len(),
        "load_seconds": load.as_secs_f64(),
        "vision_seconds": vision,
        "vision_seconds_slowest": slowest_vision,
        "prefill_seconds": prefill,
        "prefill_tokens_per_second": prompt / prefill,
        "prefill_tokens_per_second_slowest": prompt / slowest_prefill,
        "decode_tokens_per_second": answer / decode,
        "decode_tokens_per_second_slowest": answer / slowest_decode,
        "gigabytes_read_per_second": read,
        "peak_memory_bytes": memory,
    });
    if args.format == Format::Json {
        println!("{report}");
        return;
    }
    println!(
        "{}, weights in {precision}, backend {}, {threads} threads; best (worst) of {}",
        args.subject(),
        numbers.backend(),
        runs.len()
    );
    println!("  load         {:9.2} s", load.as_secs_f64());
    println!("  vision       {vision:9.4} s        ({slowest_vision:.4})");
    println!(
        "  prefill {:4} {:9.1} tokens/s ({:.1})",
        args.prompt,
        prompt / prefill,
        prompt / slowest_prefill
    );
    println!(
        "  decode  {:4} {:9.2} tokens/s ({:.2}), {read:.1} GB/s read",
        args.decode,
        answer / decode,
        answer / slowest_decode
    );
    if let Some(bytes) = memory {
        println!(
            "  peak memory  {:9.2} GiB",
            bytes as f64 / (1u64 << 30) as f64
        );
    }
}
