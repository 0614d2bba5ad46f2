//! Which files a GGUF model consists of.

use std::path::{Path, PathBuf};

use bunny_base::files;
use bunny_weights::gguf::{GgufFile, Value};

use crate::Error;

/// The two files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::checkpoint) struct GgufFiles {
    /// The language model's.
    pub text: PathBuf,
    /// The projector's, where it is known.
    pub projector: Option<PathBuf>,
}

/// What a folder of `transformers` is known by; GGUF files in one are something beside.
const OTHERS: [&str; 7] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "mm_projector.bin",
    "mm_projector.safetensors",
];

/// Whether it is a projector file.
fn is_projector(path: &Path) -> Result<bool, Error> {
    let file = GgufFile::open(path)?;
    let says = |key: &str| file.metadata().get(key).and_then(Value::text);
    Ok(says("general.architecture") == Some("clip"))
}

/// The GGUF files of a folder, in the order of their names.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "gguf") && files::is_file(path)
    };
    let paths = files::entries(folder).unwrap_or_default().into_iter();
    let mut found: Vec<PathBuf> = paths.filter(is_one).collect();
    found.sort();
    found
}

/// The one of several.
fn only(files: Vec<PathBuf>, place: &Path, what: &'static str) -> Result<Option<PathBuf>, Error> {
    match files.len() {
        0 | 1 => Ok(files.into_iter().next()),
        _ => Err(Error::SeveralFiles {
            folder: place.into(),
            what,
            files: files
                .iter()
                .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

impl GgufFiles {
    /// Those of the model at `model`, a file or a folder, if it is one in GGUF: `projector` where it is
    /// given, else what lies beside.
    pub fn of(model: &Path, projector: Option<&Path>) -> Result<Option<Self>, Error> {
        let (text, folder) = match files::is_file(model) {
            true if !GgufFile::is_one(model) => return Ok(None),
            true => (Some(model), model.parent().unwrap_or(Path::new(""))),
            false if OTHERS.iter().any(|file| files::exists(model.join(file))) => return Ok(None),
            false => (None, model),
        };
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let (mut texts, mut projectors) = (Vec::new(), Vec::new());
        let mut beside = files_of(folder);
        if let Some(text) = text {
            beside.retain(|path| path.file_name() != text.file_name());
            let is_named = |path: &PathBuf| path.to_string_lossy().contains("mmproj");
            if beside.iter().any(is_named) {
                beside.retain(is_named);
            }
        }
        for path in beside {
            match is_projector(&path) {
                Ok(true) => projectors.push(path),
                Ok(false) => texts.push(path),
                // Beside a file that is given, others may be anything.
                Err(_) if text.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let text = match text {
            Some(text) if is_projector(text)? => {
                return Err(Error::NotAModel { file: text.into() });
            }
            Some(text) => Some(text.to_owned()),
            None => only(texts, folder, "language models")?,
        };
        let projector = match projector {
            Some(given) => Some(given.to_owned()),
            None => only(projectors, folder, "projector files")?,
        };
        Ok(match (text, projector) {
            (Some(text), projector) => Some(Self { text, projector }),
            (None, Some(file)) if file.starts_with(folder) => {
                return Err(Error::NotAModel { file });
            }
            (None, _) => None,
        })
    }

    /// The projector's file.
    pub fn projector(&self) -> Result<&Path, Error> {
        self.projector.as_deref().ok_or_else(|| Error::NoProjector {
            file: self.text.clone(),
        })
    }
}
