//! What tells one model's weights from another's.

use std::path::Path;

use anyhow::{Context, Result};
use bunny_eval::facts::blob_id;
use bunny_weights::TensorFiles;

use crate::args::ModelArgs;
use crate::load::BUILTIN;

/// Bytes of each tensor that are looked at: whoever trains changes all of a tensor, or nothing.
const LOOKED_AT: usize = 4096;

/// Tells a model's weights from others without reading them whole: its configuration, and of every
/// tensor the name, type, shape and first bytes.
///
/// # Errors
/// When a file cannot be read.
pub fn of_model(model: &ModelArgs) -> Result<String> {
    if model.model == BUILTIN && model.model_base.is_none() && model.vision_tower.is_none() {
        return Ok(format!("{BUILTIN} of {}", env!("CARGO_PKG_VERSION")));
    }
    let source = model.source()?;
    let mut told = Vec::new();
    let parts = [
        Some(&source.model),
        source.base.as_ref(),
        source.vision_tower.as_ref(),
    ];
    for path in parts.into_iter().flatten() {
        if path.is_dir() {
            configuration(path, &mut told)?;
        }
        tensors(path, &mut told)?;
    }
    Ok(blob_id(&told))
}

fn configuration(folder: &Path, told: &mut Vec<u8>) -> Result<()> {
    for name in [
        "config.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
    ] {
        let path = folder.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            told.extend_from_slice(blob_id(&bytes).as_bytes());
        }
    }
    Ok(())
}

fn tensors(path: &Path, told: &mut Vec<u8>) -> Result<()> {
    let files = if path.is_dir() {
        TensorFiles::open_folder(path)?
    } else {
        TensorFiles::open_file(path)?
    };
    let mut names: Vec<&str> = files.names().collect();
    names.sort_unstable();
    for tensor in names.into_iter().filter_map(|name| files.get(name)) {
        let shape = format!("{} {} {:?}", tensor.name, tensor.dtype.name(), tensor.shape);
        told.extend_from_slice(shape.as_bytes());
        told.extend_from_slice(&tensor.bytes[..tensor.bytes.len().min(LOOKED_AT)]);
    }
    Ok(())
}
