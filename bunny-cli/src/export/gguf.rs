//! `bunny-cli export gguf`: a model for llama.cpp, and for what is built on it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use bunny_base::write_atomic;
use bunny_core::checkpoint::{GgufExport, GgufProjector, GgufWeights};
use bunny_train::report::{CARD, Origin, with_origin};
use clap::ValueEnum;

use crate::{
    args::{OutputArgs, SourceArgs},
    load::{BUILTIN, builtin_card},
    progress::Spinner,
};

/// Writes a model as GGUF, for llama.cpp, ollama, LM Studio and what else is built on llama.cpp.
///
/// Two files: the language model with its tokenizer and chat template, and a projector file (mmproj) with
/// the vision tower. A Modelfile for ollama and a README.md with the commands, and with what the model's own
/// says of where it comes from, lie beside them. Adapters are folded in; a model that is in integers already
/// keeps their numbers where --weights asks for as few bits. Tower and projector stay in 16 bits.
///
/// Models with SigLIP and a projector of two layers can be written: those with EVA-CLIP, CLIP or several
/// sizes of a picture (S²) are refused, since llama.cpp computes no such towers. Every verb here takes the
/// files back as a model.
///
/// Example: bunny-cli export gguf BAAI/Bunny-v1_0-3B --weights q4_0 --out bunny-gguf
#[derive(Debug, clap::Args)]
pub struct GgufArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// In what the language model's weights are held
    #[arg(long, value_enum, default_value = "f16")]
    weights: Weights,
    /// What the projector file says it is
    #[arg(long, value_enum, default_value = "janus_pro")]
    mmproj: Projector,
    /// What the model is called, in the names of its files too [default: the last part of its name]
    #[arg(long, value_parser = file_name)]
    name: Option<String>,
}

fn file_name(name: &str) -> Result<String, String> {
    match plain(name) == name {
        true => Ok(name.into()),
        false => Err("letters, digits, dots, dashes and underscores make a name of a file".into()),
    }
}

/// In what weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    /// Floats of 16 bits
    F16,
    /// Eight bits
    #[value(name = "q8_0")]
    Q8_0,
    /// Four bits, the head six
    #[value(name = "q4_0")]
    Q4_0,
    /// Four bits with scales and minima; what loses most, six
    #[value(name = "q4_k_m")]
    Q4KM,
}

/// What a projector file says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Projector {
    /// Pictures are padded as the model was trained; llama.cpp since the end of 2025
    #[value(name = "janus_pro")]
    JanusPro,
    /// What older readers know; pictures that are not square are padded otherwise
    Mlp,
}

/// Runs the verb.
///
/// # Errors
/// When the model cannot be read, llama.cpp runs no such model, or a file cannot be written.
pub fn run(args: &GgufArgs) -> Result<()> {
    // Before anything is downloaded.
    let _out = args.output.take()?;
    let model = args.source.model();
    let source = match model.is_builtin() {
        true => None,
        false => Some(model.source()?),
    };
    if let Some(source) = &source {
        args.output.refuse_source(source)?;
    }
    let export = GgufExport {
        name: match &args.name {
            Some(name) => name.clone(),
            None if model.is_builtin() => format!("bunny-{BUILTIN}"),
            None => plain(&model.model),
        },
        weights: match args.weights {
            Weights::F16 => GgufWeights::F16,
            Weights::Q8_0 => GgufWeights::Q8_0,
            Weights::Q4_0 => GgufWeights::Q4_0,
            Weights::Q4KM => GgufWeights::Q4KM,
        },
        projector: match args.mmproj {
            Projector::JanusPro => GgufProjector::JanusPro,
            Projector::Mlp => GgufProjector::Mlp,
        },
    };
    let open = model.open()?;
    let written = {
        let _shown = Spinner::new("writing");
        open.export_gguf(&args.output.out, &export)?
    };
    // The card that says how the files are used says where they come from too.
    let card = args.output.out.join(CARD);
    let text = fs::read_to_string(&card).with_context(|| card.display().to_string())?;
    let origin = source
        .as_ref()
        .map_or(Origin::Program(builtin_card()), Origin::Files);
    let text = with_origin(&text, origin);
    write_atomic(&card, |file| file.write_all(text.as_bytes()))?;
    args.output.finish(written, None)
}

/// The last part of a model's name, as the name of a file.
fn plain(model: &str) -> String {
    let model = model.split('@').next().unwrap_or(model);
    let path = Path::new(model);
    let name = match path.is_file() {
        true => path.file_stem(),
        false => path.file_name(),
    };
    let name = name.map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    match name.trim_matches(['.', '-']) {
        "" => "bunny".into(),
        // A projector file is known by this word.
        name if name.contains("mmproj") => name.replace("mmproj", "bunny"),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_model_s_name_is_the_last_part_of_where_it_is_from() {
        for (model, name) in [
            ("builtin", "builtin"),
            ("BAAI/Bunny-v1_0-3B", "Bunny-v1_0-3B"),
            ("org/name@v1", "name"),
            ("models/my bunny/", "my-bunny"),
            ("..", "bunny"),
        ] {
            assert_eq!(plain(model), name, "{model}");
        }
    }
}
