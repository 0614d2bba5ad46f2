//! Manifests: what stands beside a result and says what it was made from, so that it is not made
//! again.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{DataError, Result, WorkFault};

/// The version of manifests.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The version of work files: those of another are not looked at.
pub(crate) const WORK_VERSION: u32 = 2;

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

/// What stands beside a result.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest<T> {
    format_version: u32,
    fingerprint: String,
    output: T,
}

/// The manifest of an output.
pub(crate) fn write<T: Serialize>(fingerprint: &str, output: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(&Manifest {
        format_version: FORMAT_VERSION,
        fingerprint: fingerprint.to_owned(),
        output,
    })
    .map_err(DataError::NotJson)
}

/// What a manifest says, of whatever inputs, and their fingerprint; `None` for one of an older version.
/// Errors name `path`.
pub(crate) fn read_any<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
) -> Result<Option<(String, T)>> {
    let broken = |_| DataError::work(path, WorkFault::Manifest);
    let header: Manifest<serde::de::IgnoredAny> = serde_json::from_slice(bytes).map_err(broken)?;
    let output = read(bytes, path, &header.fingerprint)?;
    Ok(output.map(|output| (header.fingerprint, output)))
}

/// What a manifest says, if it is of the same inputs. Errors name `path`.
pub(crate) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    fingerprint: &str,
) -> Result<Option<T>> {
    let broken = |_| DataError::work(path, WorkFault::Manifest);
    let header: Manifest<serde::de::IgnoredAny> = serde_json::from_slice(bytes).map_err(broken)?;
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
    let manifest: Manifest<T> = serde_json::from_slice(bytes).map_err(broken)?;
    Ok(Some(manifest.output))
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
