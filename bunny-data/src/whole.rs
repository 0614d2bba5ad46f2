//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

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

/// A file that could not be created, written or named.
#[derive(Debug)]
pub(crate) struct Unwritten {
    path: PathBuf,
    source: io::Error,
}

impl From<Unwritten> for DataError {
    fn from(Unwritten { path, source }: Unwritten) -> Self {
        DataError::io(path, "write")(source)
    }
}

impl WholeFile {
    /// Starts a file that will stand at `path`, which may exist and stays as it is until the end.
    pub fn create(path: &Path) -> Result<Self, Unwritten> {
        Self::start(path, Builder::new().prefix(".bunny-").suffix(".part"))
    }

    /// Starts a file in a folder that one process writes at a time: what it left there when it was
    /// killed is written over, so that nothing adds up.
    pub fn create_alone(path: &Path) -> Result<Self, Unwritten> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        match std::fs::remove_file(path.with_file_name(&name).with_added_extension("part")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Unwritten {
                path: path.to_owned(),
                source: error,
            }),
            _ => Self::start(
                path,
                Builder::new().prefix(&name).suffix(".part").rand_bytes(0),
            ),
        }
    }

    fn start(path: &Path, builder: &mut Builder<'_, '_>) -> Result<Self, Unwritten> {
        let unwritten = |source| Unwritten {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_file() {
            return Err(unwritten(io::Error::other("it exists and is not a file")));
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        // As any new file: readable by others, within the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(unwritten)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }

    /// Writes a file of a folder that one process writes at a time: it appears whole or, where
    /// `fill` fails, not at all.
    ///
    /// # Errors
    /// Those of `fill`, and those of the operating system.
    pub fn fill<T, E: From<Unwritten>>(
        path: &Path,
        fill: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut file = Self::create_alone(path)?;
        let value = fill(&mut file)?;
        file.finish()?;
        Ok(value)
    }

    /// Writes bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let written = self.file.write_all(bytes);
        self.check(written)
    }

    /// Wraps what a write to this file returned.
    pub fn check<T>(&self, written: io::Result<T>) -> Result<T, Unwritten> {
        written.map_err(|source| Unwritten {
            path: self.path.clone(),
            source,
        })
    }

    /// Brings the file to the disk and gives it its name.
    pub fn finish(self) -> Result<(), Unwritten> {
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
        finish().map_err(|source| Unwritten { path, source })
    }
}

/// Writes `bytes` as the whole of `path`, which stands there whole or is left as it was.
///
/// # Errors
/// [`DataError::Io`].
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path.as_ref())?;
    file.put(bytes)?;
    Ok(file.finish()?)
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

    #[test]
    fn what_a_killed_process_left_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.txt");
        let file = WholeFile::create_alone(&path).unwrap();
        // As a kill: nothing is dropped.
        std::mem::forget(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        WholeFile::fill(&path, |file| file.put(b"whole")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let failed: Result<(), DataError> = WholeFile::fill(&path, |file| {
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
