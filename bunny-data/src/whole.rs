//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{DataError, Result};

/// A file in the making: a temporary neighbour of `path`, which takes its name in [`finish`] and
/// is gone if that is never reached.
///
/// [`finish`]: WholeFile::finish
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl WholeFile {
    /// Starts a file that will stand at `path`, which may exist and stays as it is until the end.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() && !path.is_file() {
            return Err(DataError::Io {
                path: path.to_owned(),
                action: "write",
                source: io::Error::other("it exists and is not a file"),
            });
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bunny-").suffix(".part");
        // As any new file: readable by others, within the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(DataError::io(path, "write"))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }

    /// Wraps what a write to this file returned.
    pub fn check<T>(&self, written: io::Result<T>) -> Result<T> {
        written.map_err(DataError::io(&self.path, "write"))
    }

    /// Brings the file to the disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        let Self { path, file } = self;
        let finish = || {
            let file = file.into_inner().map_err(|error| error.into_error())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            // The name itself is on the disk once its folder is; not all systems let a folder sync.
            if let Some(folder) = path.parent() {
                let _ = File::open(folder).and_then(|folder| folder.sync_all());
            }
            Ok(())
        };
        finish().map_err(DataError::io(&path, "write"))
    }
}

/// Writes `bytes` as the whole of `path`, which stands there whole or is left as it was.
///
/// # Errors
/// [`DataError::Io`].
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path.as_ref())?;
    let written = file.write_all(bytes);
    file.check(written)?;
    file.finish()
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_left_unfinished_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        std::fs::write(&path, "before").unwrap();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(&[0; 3 << 20]).unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_whole(&path, b"after").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_a_file_is_never_replaced() {
        let error = write_whole("/dev/full", b"x").unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(!Path::new("/dev/full").is_file());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_was_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_whole(&ours, b"x").unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
