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
    if model.is_builtin() {
        return Ok(format!("{BUILTIN} of {}", env!("CARGO_PKG_VERSION")));
    }
    let source = model.source()?;
    of_parts(source.paths())
}

/// The same of a folder that stands alone.
///
/// # Errors
/// When a file cannot be read.
pub fn of_folder(folder: &Path) -> Result<String> {
    of_parts([folder])
}

fn of_parts<P: AsRef<Path>>(parts: impl IntoIterator<Item = P>) -> Result<String> {
    let mut told = Vec::new();
    for path in parts {
        let path = path.as_ref();
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
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if matches!(ending, Some("safetensors" | "bin" | "pt" | "pth")) {
                files.push(path);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    for file in files {
        // What is no file of tensors, such as a trainer's arguments, is no weight either.
        let Ok(tensors) = TensorFiles::open_file(&file) else {
            continue;
        };
        let mut names: Vec<&str> = tensors.names().collect();
        names.sort_unstable();
        for tensor in names.into_iter().filter_map(|name| tensors.get(name)) {
            let shape = format!("{} {} {:?}", tensor.name, tensor.dtype.name(), tensor.shape);
            told.extend_from_slice(shape.as_bytes());
            told.extend_from_slice(&tensor.bytes[..tensor.bytes.len().min(LOOKED_AT)]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_weights_and_other_configurations_are_told_apart() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
        let of = |folder: &Path| of_model(&ModelArgs::named(folder.to_str().unwrap())).unwrap();
        let (siglip, eva) = (fixture.join("phi-siglip"), fixture.join("stablelm-eva"));
        assert_eq!(of(&siglip), of(&siglip));
        assert_ne!(of(&siglip), of(&eva));
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&siglip).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        assert_eq!(of(copy.path()), of(&siglip));
        let config = copy.path().join("config.json");
        let changed = std::fs::read_to_string(&config).unwrap() + " ";
        std::fs::write(&config, changed).unwrap();
        assert_ne!(of(copy.path()), of(&siglip));
    }
}
