//! `bunny-cli model quantize`: a model with its language model in integers.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bunny_core::{
    checkpoint::{LayerLoss, MeanSquares, ModelSource, OpenModel},
    nn::Packing,
};
use serde_json::json;

use crate::{
    Format,
    args::{OutputArgs, SourceArgs, own_dtype},
    progress::add_bar,
};

/// Writes a model with its language model in integers, in safetensors as compressed-tensors has them.
///
/// Products of the language model's layers are rounded to the integers that are asked for, the head to
/// eight bits; tower, projector and the token table stay as they are. For each group of numbers the scale
/// is searched for that costs the layer's output least, given what it is given on pictures and texts: a
/// small set, or your own. Every verb opens the folder as any model's, on any backend; transformers
/// reads its language model.
///
/// One tensor is in memory at a time, beside the files. To use a model in integers without writing it,
/// say --weights to the verb that uses it.
///
/// Example: bunny-cli model quantize BAAI/Bunny-v1_0-3B --weights int4 --out bunny-int4
#[derive(Debug, clap::Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// int8 or int4, with a group of numbers to a scale where that is not 32: int4:128
    #[arg(long, value_name = "FORMAT")]
    weights: Packing,
    /// Where the model goes
    #[arg(long, value_name = "DIR", required_unless_present = "cached")]
    out: Option<PathBuf>,
    /// Put it beside the hub's own files, in the cache; the folder is said at the end
    #[arg(long, conflicts_with = "out")]
    cached: bool,
    /// Write into a folder that holds other files; what is read is never written over
    #[arg(long)]
    force: bool,
    /// Pictures, texts (.txt, .md) or folders of them that say what the model will be given; `none`
    /// counts all inputs alike [default: a small set]
    #[arg(long, value_name = "PATH")]
    calibration: Vec<PathBuf>,
    /// How the report of what each layer lost is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When the model or what it is calibrated on cannot be read, or a file cannot be written.
pub fn run(args: &QuantizeArgs) -> Result<()> {
    let output = |out: PathBuf| OutputArgs {
        out,
        force: args.force,
    };
    // Before anything is downloaded.
    let given = args.out.clone().map(output);
    let taken = given.as_ref().map(OutputArgs::take).transpose()?;
    let model = args.source.model();
    let source = match model.is_builtin() {
        true => None,
        false => Some(model.source()?),
    };
    let output = match given {
        Some(given) => given,
        None => output(beside(&model.model, source.as_ref(), args.weights)?),
    };
    let _out = match taken {
        Some(taken) => taken,
        None => output.take()?,
    };
    if let Some(source) = &source {
        output.refuse_source(source)?;
    }
    let inputs = match &args.calibration[..] {
        [none] if none.as_os_str() == "none" => MeanSquares::new(),
        paths => calibrate(model.open()?, paths)?,
    };
    let open = model.open()?;
    let dtype = own_dtype(&open);
    let bar = add_bar("{spinner} rounding {msg}");
    let told = |loss: &LayerLoss| {
        bar.set_message(loss.layer.clone());
        bar.tick();
    };
    let written = open.write_quantized(&output.out, args.weights, &inputs, dtype, told)?;
    bar.finish_and_clear();
    print(args, &output.out, &written.layers, !inputs.is_empty());
    Ok(())
}

/// A folder of the hub's cache, of the same model and revision as its snapshot.
///
/// ```text
/// models--ORG--NAME/snapshots/REVISION            what was downloaded
///                  /quantized/REVISION/int4-32    this
/// ```
fn beside(name: &str, source: Option<&ModelSource>, weights: Packing) -> Result<PathBuf> {
    let snapshot = source.map(|source| source.model.as_path());
    let snapshot = snapshot.filter(|_| !Path::new(name).exists());
    let parts = snapshot.and_then(|snapshot| {
        let (revision, snapshots) = (snapshot.file_name()?, snapshot.parent()?);
        let is_cache = snapshots.file_name()? == "snapshots";
        Some((revision, snapshots.parent()?)).filter(|_| is_cache)
    });
    let Some((revision, repository)) = parts else {
        bail!("{name}: --cached is for models of a hub: name a folder with --out");
    };
    let weights = weights.to_string().replace(':', "-");
    Ok(repository.join("quantized").join(revision).join(weights))
}

/// What products are given on these pictures and texts.
#[cfg(feature = "flex")]
fn calibrate(open: OpenModel, paths: &[PathBuf]) -> Result<MeanSquares> {
    use std::sync::Arc;

    use bunny_core::{
        checkpoint::Precision,
        generate::{Pipeline, mean_squares},
    };
    use burn_flex::Flex;

    let samples = crate::samples::read(paths)?;
    let _shown = crate::progress::Spinner::new("calibrating");
    let device = Default::default();
    let precision = Precision::suited::<Flex>(&device, open.weights.stored_format());
    let mut pipeline = Pipeline::<Flex>::from_open(open, precision, device)?;
    let texts = samples.iter().map(|sample| sample.whole(&pipeline));
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let model = Arc::get_mut(&mut pipeline.model).expect("nobody else has the model");
    Ok(mean_squares(model, texts, &pipeline.device)?)
}

#[cfg(not(feature = "flex"))]
fn calibrate(_: OpenModel, _: &[PathBuf]) -> Result<MeanSquares> {
    anyhow::bail!(
        "calibration runs on the processor: build with `--features flex`, or say --calibration none"
    )
}

fn print(args: &QuantizeArgs, out: &Path, layers: &[LayerLoss], is_calibrated: bool) {
    let mut layers: Vec<&LayerLoss> = layers.iter().collect();
    layers.sort_by(|a, b| b.of_outputs.total_cmp(&a.of_outputs));
    let bytes: u64 = layers.iter().map(|layer| layer.bytes).sum();
    if args.format == Format::Json {
        let of_layers = layers.iter().map(|layer| {
            json!({
                "layer": layer.layer,
                "weights": layer.packing.to_string(),
                "bytes": layer.bytes,
                "error_of_weights": layer.of_weights,
                "error_of_outputs": layer.of_outputs,
            })
        });
        let report = json!({
            "format_version": 1,
            "model": args.source.model,
            "weights": args.weights.to_string(),
            "out": out.to_string_lossy(),
            "calibrated": is_calibrated,
            "bytes_in_integers": bytes,
            "layers": of_layers.collect::<Vec<_>>(),
        });
        println!("{report}");
        return;
    }
    println!(
        "{:<44} {:>10} {:>12} {:>12}",
        "layer", "weights", "of weights", "of outputs"
    );
    for layer in &layers {
        println!(
            "{:<44} {:>10} {:>10.3} % {:>10.3} %",
            layer.layer,
            layer.packing.to_string(),
            100.0 * layer.of_weights,
            100.0 * layer.of_outputs
        );
    }
    println!(
        "{} layers, {:.3} GB in integers; what each is off by, root mean square, of its own",
        layers.len(),
        bytes as f64 / 1e9
    );
    println!("{}", out.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cached_lies_beside_its_snapshot() {
        let weights: Packing = "int4:128".parse().unwrap();
        let source = |path: &str| ModelSource::merged(path);
        let snapshot = source("/cache/models--a--b/snapshots/0123");
        let found = beside("a/b", Some(&snapshot), weights).unwrap();
        let expected = "/cache/models--a--b/quantized/0123/int4-128";
        assert_eq!(found, Path::new(expected));
        for (name, source) in [("a/b", Some(source("/models/b"))), ("builtin", None)] {
            let error = beside(name, source.as_ref(), weights).unwrap_err();
            assert!(error.to_string().contains("--out"), "{error}");
        }
    }
}
