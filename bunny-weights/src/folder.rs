//! A model's folder: its weights, and what lies beside them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use bunny_base::write_atomic;
use bytes::Bytes;
use serde_json::Value;

use crate::{
    error::CheckpointError,
    writer::{PlannedTensor, TensorSink, write_folder, write_folder_in_blocks},
};

/// The sizes and choices of a model.
pub const CONFIG: &str = "config.json";
/// How a model answers unless told otherwise.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// How a model's pictures are prepared.
pub const PREPROCESSOR_CONFIG: &str = "preprocessor_config.json";
/// The same as transformers 5 writes it, and what else a model's inputs are prepared by.
pub const PROCESSOR_CONFIG: &str = "processor_config.json";

/// What a tokenizer may be made of.
pub const TOKENIZER_FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// The files that lie beside a model's weights, in memory or to be copied, each under the path that
/// it has within the folder.
#[derive(Debug, Clone, Default)]
pub struct ModelFolder {
    files: Vec<(PathBuf, Content)>,
}

/// What a file holds.
#[derive(Debug, Clone)]
enum Content {
    Json(Value),
    Bytes(Bytes),
    CopyOf(PathBuf),
}

impl ModelFolder {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With those of `names` that the folder `from` holds, as they are there.
    #[must_use]
    pub fn with_files_of<N: AsRef<Path>>(
        mut self,
        from: impl AsRef<Path>,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        for name in names {
            let file = from.as_ref().join(&name);
            if bunny_base::files::is_file(&file) {
                self.put(name.as_ref().into(), Content::CopyOf(file));
            }
        }
        self
    }

    /// With this object under `path`, in place of what was there.
    #[must_use]
    pub fn with_json(mut self, path: impl Into<PathBuf>, json: Value) -> Self {
        self.put(path.into(), Content::Json(json));
        self
    }

    /// With these bytes under `path`, in place of what was there.
    #[must_use]
    pub fn with_bytes(mut self, path: impl Into<PathBuf>, bytes: impl Into<Bytes>) -> Self {
        self.put(path.into(), Content::Bytes(bytes.into()));
        self
    }

    /// Whether there is a file under `path`.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.files.iter().any(|(at, _)| at == path.as_ref())
    }

    /// The object under `path`, if there is one in memory.
    pub fn json(&self, path: impl AsRef<Path>) -> Option<&Value> {
        let mut files = self.files.iter();
        match files.find(|(at, _)| at == path.as_ref()) {
            Some((_, Content::Json(json))) => Some(json),
            _ => None,
        }
    }

    fn put(&mut self, path: PathBuf, content: Content) {
        match self.files.iter_mut().find(|(at, _)| *at == path) {
            Some((_, old)) => *old = content,
            None => self.files.push((path, content)),
        }
    }

    /// Writes the weights of `plan`, as [`write_folder`] does, and then every file, each whole or not
    /// at all. Gives the paths of all.
    ///
    /// # Errors
    /// Those of [`write_folder`], and when a file cannot be read or written.
    pub fn write<B, E>(
        &self,
        folder: impl AsRef<Path>,
        plan: &[PlannedTensor],
        max_shard_size: u64,
        read: impl FnMut(&PlannedTensor) -> Result<B, E>,
    ) -> Result<Vec<PathBuf>, E>
    where
        B: AsRef<[u8]>,
        E: From<CheckpointError>,
    {
        let mut written = write_folder(&folder, plan, max_shard_size, read)?;
        written.extend(self.write_files(&folder)?);
        Ok(written)
    }

    /// The same with a tensor's numbers in blocks, as [`write_folder_in_blocks`] takes them.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_in_blocks<E: From<CheckpointError>>(
        &self,
        folder: impl AsRef<Path>,
        plan: &[PlannedTensor],
        max_shard_size: u64,
        write: impl FnMut(&PlannedTensor, &mut TensorSink<'_>) -> Result<(), E>,
    ) -> Result<Vec<PathBuf>, E> {
        let mut written = write_folder_in_blocks(&folder, plan, max_shard_size, write)?;
        written.extend(self.write_files(&folder)?);
        Ok(written)
    }

    /// Writes every file but no weights. Gives their paths.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_files(&self, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut written = Vec::with_capacity(self.files.len());
        for (path, content) in &self.files {
            let path = folder.as_ref().join(path);
            match content {
                Content::Json(json) => write_atomic(&path, |file| writeln!(file, "{json:#}"))?,
                Content::Bytes(bytes) => write_atomic(&path, |file| file.write_all(bytes))?,
                // A folder may be written where it was read.
                Content::CopyOf(source) if is_same(source, &path) => {}
                Content::CopyOf(source) => {
                    let mut from = File::open(source).map_err(|fault| CheckpointError::Io {
                        path: source.clone(),
                        fault,
                    })?;
                    write_atomic(&path, |file| io::copy(&mut from, file).map(drop))?;
                }
            }
            written.push(path);
        }
        Ok(written)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{StoredDtype, writer::MAX_SHARD_SIZE};

    fn listing(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => found.extend(listing(&path)),
                false => found.push(path),
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_written_is_what_is_listed() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(from.path().join("vocab.json"), "{ }").unwrap();
        fs::write(from.path().join("notes.txt"), "mine").unwrap();
        let folder = ModelFolder::new()
            .with_files_of(from.path(), TOKENIZER_FILES)
            .with_json(CONFIG, json!({"old": true}))
            .with_json("tower/config.json", json!({}))
            .with_json(CONFIG, json!({"b": 1, "a": 0.5}))
            .with_bytes("merges.txt", &b"a b\n"[..]);
        assert_eq!(folder.json(CONFIG).unwrap()["b"], 1);
        assert!(folder.contains("vocab.json") && folder.json("vocab.json").is_none());

        let plan = [PlannedTensor {
            name: "a".into(),
            dtype: StoredDtype::U8,
            shape: vec![3],
        }];
        let read = |_: &PlannedTensor| Ok::<_, CheckpointError>([1u8, 2, 3]);
        let mut written = folder
            .write(to.path(), &plan, MAX_SHARD_SIZE, read)
            .unwrap();
        written.sort();
        assert_eq!(written, listing(to.path()));
        assert_eq!(written.len(), 5);
        let said = |name: &str| fs::read_to_string(to.path().join(name)).unwrap();
        assert_eq!(said(CONFIG), "{\n  \"b\": 1,\n  \"a\": 0.5\n}\n");
        assert_eq!(said("vocab.json"), "{ }");
        assert_eq!(said("merges.txt"), "a b\n");
    }

    #[test]
    fn a_folder_is_written_where_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vocab.json");
        fs::write(&file, "{ }").unwrap();
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        let beside = ModelFolder::new().with_files_of(folder.path().join("."), TOKENIZER_FILES);
        beside.write_files(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{ }");
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let file = from.path().join("vocab.json");
        fs::write(&file, "{}").unwrap();
        let beside = ModelFolder::new().with_files_of(from.path(), TOKENIZER_FILES);
        fs::remove_file(&file).unwrap();
        let error = beside.write_files(to.path()).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
