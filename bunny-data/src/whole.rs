//! Files that appear whole or not at all, with this crate's errors.

use std::path::Path;

pub(crate) use bunny_base::AtomicFile;
use bunny_base::FileError;

use crate::error::{DataError, Result};

impl From<FileError> for DataError {
    fn from(FileError { path, source }: FileError) -> Self {
        DataError::io(path, "write")(source)
    }
}

/// Writes a file of a folder that one process writes at a time: it appears whole or, where `fill`
/// fails, not at all.
pub(crate) fn fill_whole<T, E: Into<DataError>>(
    path: &Path,
    fill: impl FnOnce(&mut AtomicFile) -> Result<T, E>,
) -> Result<T> {
    let mut file = AtomicFile::create_alone(path)?;
    let value = fill(&mut file).map_err(Into::into)?;
    file.finish()?;
    Ok(value)
}

/// Writes `bytes` as the whole of `path`, which stands there whole or is left as it was.
///
/// # Errors
/// [`DataError::Io`].
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.put(bytes)?;
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_fails_while_it_is_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.txt");
        // As a kill: nothing is dropped.
        std::mem::forget(AtomicFile::create_alone(&path).unwrap());
        fill_whole(&path, |file| file.put(b"whole")).unwrap();
        let failed: Result<()> = fill_whole(&path, |file| {
            file.put(b"in part")?;
            Err(DataError::io("elsewhere", "read")(io::Error::other(
                "broken",
            )))
        });
        assert!(failed.unwrap_err().to_string().starts_with("elsewhere: "));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn an_error_begins_with_the_file() {
        let error = write_whole("/dev/full", b"x").unwrap_err().to_string();
        assert!(error.starts_with("/dev/full: cannot write: "), "{error}");
    }
}
