//! Stages that can be interrupted: each part's result appears whole, with a manifest that says what
//! it was made from, and is not made again.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Task;
use crate::coreset::files::remove_folder;
use crate::coreset::worker::Worker;
use crate::error::{DataError, Result, WorkFault};
use crate::whole::WholeFile;

/// The version of the work files.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// What the manifest of a whole selection is called.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A word for everything that a result depends on.
pub(crate) fn fingerprint(inputs: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(&(FORMAT_VERSION, inputs)).map_err(DataError::NotJson)?;
    let digest = Sha256::digest(&json);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The SHA-256 of a file.
pub(crate) fn file_fingerprint(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(DataError::io(path, "open"))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(DataError::io(path, "read"))?;
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The folder of a stage that was made from these inputs. Folders of the same stage made from
/// others are removed.
pub(crate) fn stage_folder(work: &Path, stage: &str, fingerprint: &str) -> Result<PathBuf> {
    let folder = work.join(format!("{stage}-{}", &fingerprint[..16]));
    if !folder.is_dir() {
        let entries = std::fs::read_dir(work).map_err(DataError::io(work, "read"))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let rest = name.as_encoded_bytes().strip_prefix(stage.as_bytes());
            if rest.is_some_and(|rest| rest.starts_with(b"-")) {
                remove_folder(&entry.path())?;
            }
        }
        std::fs::create_dir_all(&folder).map_err(DataError::io(&folder, "create"))?;
    }
    Ok(folder)
}

/// What stands beside a result.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest<T> {
    format_version: u32,
    fingerprint: String,
    output: T,
}

/// A task whose finished parts are not run again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resumable<T> {
    pub(crate) task: T,
    pub(crate) folder: PathBuf,
    pub(crate) fingerprint: String,
}

impl<T: Task> Task for Resumable<T> {
    const NAME: &'static str = T::NAME;
    type Output = T::Output;

    fn run(&self, part: usize, worker: &Worker<'_>) -> Result<T::Output> {
        let path = self.folder.join(format!("{}-{part:05}.json", T::NAME));
        if let Some(output) = read_manifest(&path, &self.fingerprint)? {
            return Ok(output);
        }
        let output = self.task.run(part, worker)?;
        write_manifest(&path, &self.fingerprint, &output)?;
        Ok(output)
    }
}

/// What a manifest says, if it is there and made from the same inputs.
pub(crate) fn read_manifest<T: DeserializeOwned>(
    path: &Path,
    fingerprint: &str,
) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataError::io(path, "read")(error)),
    };
    let broken = |_| DataError::work(path, WorkFault::Manifest);
    let header: Manifest<serde::de::IgnoredAny> = serde_json::from_slice(&bytes).map_err(broken)?;
    if header.format_version > FORMAT_VERSION {
        return Err(DataError::Newer {
            path: path.to_owned(),
            found: header.format_version,
            known: FORMAT_VERSION,
        });
    }
    if header.format_version != FORMAT_VERSION || header.fingerprint != fingerprint {
        return Ok(None);
    }
    let manifest: Manifest<T> = serde_json::from_slice(&bytes).map_err(broken)?;
    Ok(Some(manifest.output))
}

/// Writes a manifest.
pub(crate) fn write_manifest<T: Serialize>(
    path: &Path,
    fingerprint: &str,
    output: &T,
) -> Result<()> {
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        fingerprint: fingerprint.to_owned(),
        output,
    };
    WholeFile::fill(path, |file| {
        let written = serde_json::to_writer(&mut *file, &manifest);
        Ok(file.check(written.map_err(Into::into))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_inputs_have_other_fingerprints() {
        let words = ["a", "b", ""].map(|name| fingerprint(&(Path::new(name), 7)).unwrap());
        assert!(words[0] != words[1] && words[1] != words[2] && words[0] != words[2]);
    }

    #[cfg(unix)]
    #[test]
    fn inputs_that_cannot_be_written_down_have_no_fingerprint() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"img_emb_\xff.npy"));
        let error = fingerprint(&(name, 7)).unwrap_err();
        assert!(matches!(error, DataError::NotJson(_)), "{error}");
    }
}
