//! `bunny-cli bench train`: how fast a model of the true size learns, with random weights.

use std::{num::NonZeroUsize, time::Instant};

use anyhow::{Context, Result, bail};
use bunny_core::{
    Bunny, BunnyConfig,
    config::presets::{Preset, preset_names},
    input::{image::Pixels, tokenizer::Token},
    model::Workload,
    nn::{Mode, Precision, WeightFormat},
};
use bunny_train::{
    data::{Batch, Layout, Sample},
    optimizer::{AdamWConfig, Optimizer},
    recipe::Optim,
    reduce::Alone,
    run::memory,
    step::{ForwardBackward, Gradients, Slots, clip_factor, global_norm},
    trainable::{LoraConfig, Rates, Trainable, TrainableParts, lora, unfreeze_parts},
};
use burn::{
    backend::Autodiff,
    tensor::{ElementConversion, backend::Backend},
};
use clap::{ValueEnum, builder::RangedU64ValueParser};
use serde_json::json;

use super::room;
use crate::{
    Format,
    args::{BackendArgs, activations_name},
    backend::{Numbers, Work},
};

/// Measures how fast a model of random weights learns, at its true size.
///
/// What is measured are whole steps of one micro-batch: tower, forward and backward pass, clipping
/// and AdamW, every row a picture and words.
///
/// Example: bunny-cli bench train --arch bunny-phi-2-siglip --dtype bf16
#[derive(Debug, clap::Args)]
pub struct BenchTrainArgs {
    /// A name of `model list`
    #[arg(long, default_value = "bunny-phi-2-siglip")]
    arch: String,
    #[command(flatten)]
    backend: BackendArgs,
    /// What learns: the projector, or adapters of rank 128 and the projector
    #[arg(long, value_enum, default_value = "finetune")]
    stage: Stage,
    /// Rows of the micro-batch
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 16))]
    batch: usize,
    /// Positions of a row, the picture's included
    #[arg(long, default_value_t = 768,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 20))]
    positions: usize,
    /// Keep all layers' results instead of computing them again on the way back
    #[arg(long)]
    no_gradient_checkpointing: bool,
    /// Steps; the fastest counts, and the slowest is shown
    #[arg(long, value_name = "N", default_value = "3")]
    repeats: NonZeroUsize,
    /// Unmeasured steps before
    #[arg(long, default_value_t = 1)]
    warmup: usize,
    /// The device's dense peak in the type of the activations, in TFLOP/s: gives the utilisation
    #[arg(long)]
    peak_tflops: Option<f64>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The projector.
    Pretrain,
    /// Adapters and projector.
    Finetune,
}

/// Runs the verb.
///
/// # Errors
/// When the model is unknown or the backend is not there.
pub fn run(args: BenchTrainArgs) -> Result<()> {
    args.backend.without_cache()?.run(Measuring(args))
}

impl BenchTrainArgs {
    /// Refuses rows that the model cannot read, or that have no word to learn.
    fn check(&self, config: &BunnyConfig) -> Result<()> {
        let (picture, context) = room(config);
        let least = picture + BEFORE + 1;
        if self.positions < least {
            bail!(
                "--positions {}: a row with a picture takes {least} or more: ask for as many",
                self.positions
            );
        }
        if self.positions > context {
            bail!(
                "--positions {}: more than the model's {context}: ask for fewer",
                self.positions
            );
        }
        Ok(())
    }
}

struct Measuring(BenchTrainArgs);

/// Rank of the adapters.
const RANK: usize = 128;

/// Words before the picture of a row; all words behind it are learnt.
const BEFORE: usize = 8;

impl Work for Measuring {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let names = preset_names;
        let preset = Preset::named(&args.arch)
            .with_context(|| format!("no model `{}`; there are {}", args.arch, names()))?;
        let precision = numbers.precision::<B>(&device, WeightFormat::F32)?;
        if precision.vision_int8 {
            bail!("the projector learns, and not in integers: leave --vision-weights out");
        }
        let config = preset.config();
        args.check(&config)?;
        let mut model = Bunny::<Autodiff<B>>::random(&config, 0, precision, &device);
        let parts = match args.stage {
            Stage::Pretrain => TrainableParts::PRETRAIN,
            Stage::Finetune => {
                let adapters = LoraConfig {
                    rank: RANK,
                    alpha: 256.0,
                    dropout: 0.05,
                    use_rslora: false,
                };
                lora::attach_new(&mut model, adapters, 0, &device);
                TrainableParts::LORA
            }
        };
        let (mut model, trainables) = unfreeze_parts(model, parts);
        let slots = Slots::new(&trainables);
        let adamw = AdamWConfig::default();
        let mut optimizer = Optimizer::new(Optim::Adamw, adamw, precision, &model, &trainables);
        let forward_backward = ForwardBackward {
            parts,
            slots,
            gradient_checkpointing: !args.no_gradient_checkpointing,
        };
        let layout = Layout::new(&config, args.positions);
        let size = config.vision.image_size();
        let rows = (0..args.batch).map(|_| row(size, layout));
        let batch = Batch::collate(rows, layout);
        let mut seconds = Vec::new();
        let mut loss = 0.0;
        for step in 0..args.warmup + args.repeats.get() {
            let began = Instant::now();
            let mode = Mode {
                training: true,
                step: step as u64,
                ..Mode::INFERENCE
            };
            let mut sums = Gradients::new(trainables.len());
            let mean = forward_backward.run(&model, &batch, &mode, 1.0, &mut sums, &device);
            let scale = clip_factor(global_norm(&sums), Some(1.0));
            let rates = Rates {
                language: 2e-4,
                projector: 2e-5,
                tower: 2e-5,
            };
            optimizer.step(sums, scale, rates, &trainables, &Alone)?;
            model = optimizer.update(model, &forward_backward.slots);
            loss = mean.map_or(f64::NAN, |mean| mean.into_scalar().elem());
            B::sync(&device).map_err(|error| anyhow::anyhow!("the device failed: {error:?}"))?;
            if step >= args.warmup {
                seconds.push(began.elapsed().as_secs_f64());
            }
        }
        let work = Workload {
            sequences: &batch.lengths(),
            predicted: batch.answers.len(),
            pictures: batch.pictures.len(),
            adapter_rank: match args.stage {
                Stage::Pretrain => 0,
                Stage::Finetune => RANK,
            },
        };
        let (flops, learning) = (config.flops(), forward_backward.parts.learning());
        let measured = Measured {
            seconds,
            flops: flops.forward(&work) + flops.backward(&work, learning, false),
            loss,
            trainable: trainables.iter().map(Trainable::count).sum(),
            memory: memory::most_held::<B>(&device),
        };
        print(&args, numbers, precision, &measured);
        Ok(())
    }
}

/// A row as long as asked for: a few words, a picture, and an answer.
fn row(size: usize, layout: Layout) -> (Sample, Vec<Pixels>) {
    let words = layout.max_length - layout.tokens_per_picture;
    let word = |at: usize| Token::Text((17 * at % 1000) as u32);
    let mut tokens: Vec<Token> = (0..BEFORE).map(word).collect();
    tokens.push(Token::Picture(0));
    tokens.extend((BEFORE..words).map(word));
    let grey = |at: usize| (at % 255) as f32 / 127.5 - 1.0;
    let pixels = Pixels {
        data: (0..3 * size * size).map(grey).collect(),
        height: size,
        width: size,
    };
    let sample = Sample {
        id: "row".into(),
        answers: std::iter::once(BEFORE + 1..tokens.len()).collect(),
        tokens,
        pictures: vec!["grey".into()],
    };
    (sample, vec![pixels])
}

/// What the steps showed.
struct Measured {
    /// Of each.
    seconds: Vec<f64>,
    /// Of the last.
    loss: f64,
    /// Operations of one, as the model counts them; what is computed twice is not counted twice.
    flops: u64,
    /// Numbers that learn.
    trainable: usize,
    /// Bytes, where the system tells.
    memory: Option<u64>,
}

fn print(args: &BenchTrainArgs, numbers: Numbers, precision: Precision, measured: &Measured) {
    let Measured {
        ref seconds,
        loss,
        trainable,
        memory,
        ..
    } = *measured;
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = seconds.iter().copied().fold(0.0, f64::max);
    let tokens = (args.batch * args.positions) as f64;
    let flops = measured.flops as f64;
    let utilisation = args.peak_tflops.map(|peak| flops / best / (peak * 1e12));
    let dtype = precision.weights.name();
    if args.format == Format::Json {
        let report = json!({
            "format_version": 1,
            "arch": args.arch,
            "backend": numbers.backend(),
            "dtype": dtype,
            "weights": precision.packing.map(|packing| packing.to_string()),
            "activations": precision
                .packing
                .map(|_| activations_name(precision.activations)),
            "threads": rayon::current_num_threads(),
            "batch": args.batch,
            "positions": args.positions,
            "train_step_seconds": best,
            "train_step_seconds_all": seconds,
            "train_tokens_per_second": tokens / best,
            "tflops_per_second": flops / best / 1e12,
            "model_flop_utilisation": utilisation,
            "trainable_parameters": trainable,
            "loss": loss,
            "peak_memory_bytes": memory,
        });
        println!("{report}");
        return;
    }
    println!(
        "{}, {} x {} positions, weights in {precision}, backend {}, {trainable} parameters learn",
        args.arch,
        args.batch,
        args.positions,
        numbers.backend()
    );
    println!("  step         {best:9.3} s ({worst:.3})");
    println!("  tokens/s     {:9.1}", tokens / best);
    println!("  TFLOP/s      {:9.3}", flops / best / 1e12);
    if let Some(utilisation) = utilisation {
        println!("  utilisation  {:9.1} %", 100.0 * utilisation);
    }
    if let Some(bytes) = memory {
        println!(
            "  peak memory  {:9.2} GiB",
            bytes as f64 / (1u64 << 30) as f64
        );
    }
}
