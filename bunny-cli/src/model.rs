//! `bunny-cli model`: what models there are, and what is in them.

#[cfg(feature = "hub")]
mod fetch;
mod quantize;

use std::path::Path;
#[cfg(feature = "builtin-model")]
use std::path::PathBuf;

use anyhow::{Result, bail};
use bunny_core::{
    BunnyConfig,
    checkpoint::{ModelSource, Wanted},
    config::presets::{PRESETS, Preset, preset_names},
};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{Format, args::PartsArgs, load};

/// Lists models, and shows what is in them.
///
/// Example: bunny-cli model inspect builtin
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Names the published models.
    ///
    /// Example: bunny-cli model list --format json
    List {
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Shows parts, shapes, parameters and memory of a model, without loading its weights.
    ///
    /// Example: bunny-cli model inspect bunny-phi-2-siglip
    Inspect {
        /// A name of `model list`, a folder, a file in GGUF, a hub id, or `builtin`
        model: String,
        #[command(flatten)]
        parts: PartsArgs,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    #[cfg(feature = "hub")]
    Fetch(fetch::FetchArgs),
    Quantize(Box<quantize::QuantizeArgs>),
    /// Writes the built-in model to a folder: to train from, or to read with other programs.
    ///
    /// Example: bunny-cli model unpack small-bunny
    #[cfg(feature = "builtin-model")]
    Unpack {
        /// The folder
        out: PathBuf,
        /// Write into a folder that holds other files
        #[arg(long)]
        force: bool,
    },
}

/// Runs the verb.
///
/// # Errors
/// When a model is unknown or its configuration cannot be read.
pub fn run(verb: ModelVerb) -> Result<()> {
    match verb {
        ModelVerb::List { format } => list(format),
        ModelVerb::Inspect {
            model,
            parts,
            format,
        } => inspect(&model, &parts, format),
        #[cfg(feature = "hub")]
        ModelVerb::Fetch(args) => fetch::run(&args),
        ModelVerb::Quantize(args) => quantize::run(&args),
        #[cfg(feature = "builtin-model")]
        ModelVerb::Unpack { out, force } => unpack(&out, force),
    }
}

#[cfg(feature = "builtin-model")]
fn unpack(out: &Path, force: bool) -> Result<()> {
    let _out = crate::files::OutputFolder::take(out, force)?;
    for file in bunny_core::checkpoint::builtin::write(out)? {
        println!("{}", file.display());
    }
    Ok(())
}

fn list(format: Format) -> Result<()> {
    let models: Vec<Value> = PRESETS
        .iter()
        .map(|preset| {
            json!({
                "name": preset.name,
                "language_model": preset.language_model,
                "vision_tower": preset.vision_tower,
                "weights": preset.weights,
                "parameters": preset.config().parameters().total(),
            })
        })
        .collect();
    match format {
        Format::Json => println!("{}", json!({"format_version": 1, "models": models})),
        Format::Text => {
            for preset in PRESETS {
                println!(
                    "{:26} {:>5.2} B   {} + {}, weights {}",
                    preset.name,
                    preset.config().parameters().total() as f64 / 1e9,
                    preset.language_model,
                    preset.vision_tower,
                    preset.weights,
                );
            }
        }
    }
    Ok(())
}

fn inspect(name: &str, parts: &PartsArgs, format: Format) -> Result<()> {
    let config = configuration(name, parts)?;
    let report = report(name, &config);
    match format {
        Format::Json => println!("{report}"),
        Format::Text => print_text(&report),
    }
    Ok(())
}

/// The configuration of a preset, of a folder, or of a hub id, `parts` of which may lie elsewhere.
fn configuration(name: &str, parts: &PartsArgs) -> Result<BunnyConfig> {
    let preset = Preset::named(name);
    if parts.is_empty() {
        if let Some(preset) = preset {
            return Ok(preset.config());
        }
        if name == load::BUILTIN {
            return Ok(load::builtin()?.config);
        }
    }
    let is_known = preset.is_some() || name == load::BUILTIN;
    if !is_known && !name.contains('/') && !Path::new(name).exists() {
        let names = preset_names();
        bail!("{name}: no such model or folder; the models are {names}");
    }
    let find = |name: &str| load::folder(name, Wanted::Configuration);
    let source = ModelSource {
        model: find(preset.map_or(name, |preset| preset.weights))?,
        base: parts.model_base.as_deref().map(find).transpose()?,
        vision_tower: parts.vision_tower.as_deref().map(find).transpose()?,
    };
    source.configuration().map_err(load::with_option)
}

/// All there is to say, from the configuration alone.
fn report(name: &str, config: &BunnyConfig) -> Value {
    let parameters = config.parameters();
    let decoder = &config.decoder;
    let vision = &config.vision;
    let tower = json!({
        "kind": vision.kind(),
        "hidden_size": vision.hidden_size(),
        "intermediate_size": vision.intermediate_size(),
        "layers_used": vision.layers_used(),
        "heads": vision.num_attention_heads(),
        "image_size": vision.image_size(),
        "passes": vision.passes(),
        "patch_size": vision.patch_size(),
        "tokens": vision.tokens(),
        "parameters": parameters.vision_tower,
    });
    let total = parameters.total();
    json!({
        "format_version": 1,
        "model": name,
        "model_type": config.family.model_type(),
        "vision_tower": tower,
        "projector": {
            "kind": config.projector.name(),
            "input": config.projector.input,
            "output": config.projector.output,
            "parameters": parameters.projector,
        },
        "language_model": {
            "hidden_size": decoder.hidden_size,
            "intermediate_size": decoder.intermediate_size,
            "layers": decoder.num_hidden_layers,
            "heads": decoder.num_attention_heads,
            "kv_heads": decoder.num_key_value_heads,
            "head_dim": decoder.head_dim,
            "rotary_dim": decoder.rotary_dim,
            "vocab_size": decoder.vocab_size,
            "positions": decoder.max_position_embeddings,
            "kv_numbers_per_token": decoder.kv_bytes_per_token(1),
            "parameters": parameters.language_model,
        },
        "parameters": total,
        "bytes": {"f32": 4 * total, "f16": 2 * total, "bf16": 2 * total},
    })
}

fn print_text(report: &Value) {
    println!(
        "{} ({})",
        text(&report["model"]),
        text(&report["model_type"])
    );
    for part in ["vision_tower", "projector", "language_model"] {
        let Some(fields) = report[part].as_object() else {
            continue;
        };
        let fields: Vec<String> = fields
            .iter()
            .filter(|(name, _)| *name != "parameters")
            .map(|(name, value)| format!("{name} {}", text(value)))
            .collect();
        println!(
            "  {part:15} {:>13} parameters   {}",
            thousands(report[part]["parameters"].as_u64().unwrap_or(0)),
            fields.join(", ")
        );
    }
    let total = report["parameters"].as_u64().unwrap_or(0);
    println!("  {:15} {:>13} parameters", "total", thousands(total));
    for (name, bytes) in report["bytes"].as_object().into_iter().flatten() {
        let bytes = bytes.as_u64().unwrap_or(0) as f64;
        println!("  weights in {name:4} {:>13.2} GB", bytes / 1e9);
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

/// `3182254624` as `3,182,254,624`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped_by_thousands() {
        let grouped = [0, 12, 999, 1000, 3_182_254_624].map(super::thousands);
        assert_eq!(grouped, ["0", "12", "999", "1,000", "3,182,254,624"]);
    }
}
