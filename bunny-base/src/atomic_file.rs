//! Files that appear whole or not at all: written under a temporary name, brought to the disk, and
//! only then given their name.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// A file that could not be created, written or named.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A file in the making: a temporary neighbour of its path, which vanishes unless it is finished.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts a file that will stand at `path`; what stands there now stays as it is until the end.
    /// Folders on the way to it are created.
    ///
    /// # Errors
    /// When there is something at `path` that is no file, or the folder cannot be written to.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        Self::start(path, Builder::new().prefix(".").suffix(".tmp"))
    }

    /// As [`AtomicFile::create`], in a folder that one process writes at a time: what that process
    /// left there when it was killed is written over, so that nothing adds up.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_alone(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        match fs::remove_file(path.with_file_name(&name).with_added_extension("tmp")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError {
                path: path.to_owned(),
                source: error,
            }),
            _ => Self::start(
                path,
                Builder::new().prefix(&name).suffix(".tmp").rand_bytes(0),
            ),
        }
    }

    fn start(path: &Path, builder: &mut Builder<'_, '_>) -> Result<Self, FileError> {
        let failed = |source| FileError {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_file() {
            return Err(failed(io::Error::other("it exists and is not a file")));
        }
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(failed)?;
        // Like any other new file, not for its owner alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }

    /// Writes bytes, with the file's name in the error.
    ///
    /// # Errors
    /// When the system cannot write them.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all(bytes);
        self.check(written)
    }

    /// Puts this file's name to what a write to it returned.
    ///
    /// # Errors
    /// The write's.
    pub fn check<T>(&self, written: io::Result<T>) -> Result<T, FileError> {
        written.map_err(|source| FileError {
            path: self.path.clone(),
            source,
        })
    }

    /// Brings the file to the disk, still without its name.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn sync(self) -> Result<SyncedFile, FileError> {
        let Self { path, file } = self;
        let sync = || {
            let file = file.into_inner().map_err(|error| error.into_error())?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        match sync() {
            Ok(file) => Ok(SyncedFile { path, file }),
            Err(source) => Err(FileError { path, source }),
        }
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// As [`AtomicFile::sync`], and when it cannot be renamed.
    pub fn finish(self) -> Result<(), FileError> {
        self.sync()?.publish()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is whole on the disk and has no name yet; it vanishes unless it gets one. Several of
/// them can wait for each other, so that files that belong together appear together.
#[derive(Debug)]
pub struct SyncedFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl SyncedFile {
    /// Where it will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn publish(self) -> Result<(), FileError> {
        let Self { path, file } = self;
        if let Err(error) = file.persist(&path) {
            return Err(FileError {
                path,
                source: error.error,
            });
        }
        // The name is on the disk when its folder is; file systems that cannot sync a folder say so,
        // and the file stands there all the same.
        #[cfg(unix)]
        let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Writes the whole of `path` by `write`: it stands there whole, or is left as it was.
///
/// # Errors
/// Those of `write`, with the file's name, and as [`AtomicFile::finish`].
pub fn write_atomic(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut file = AtomicFile::create(path)?;
    let written = write(&mut file);
    file.check(written)?;
    file.finish()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_left_unfinished_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        fs::write(&path, "before").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(&[0; 3 << 20]).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(entries(folder.path()), 1);
        write_atomic(&path, |file| file.write_all(b"after")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.txt");
        // As a kill: nothing is dropped.
        std::mem::forget(AtomicFile::create_alone(&path).unwrap());
        assert_eq!(entries(folder.path()), 1);
        let mut file = AtomicFile::create_alone(&path).unwrap();
        file.put(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn a_write_that_fails_is_told_with_the_file_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("keys.txt");
        write_atomic(&path, |file| file.write_all(b"whole")).unwrap();
        let error = write_atomic(&path, |_| Err(io::Error::other("broken"))).unwrap_err();
        assert!(error.to_string().contains("keys.txt: broken"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(entries(path.parent().unwrap()), 1);
    }

    #[test]
    fn files_that_belong_together_appear_together() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b"].map(|name| folder.path().join(name));
        let synced: Vec<SyncedFile> = names
            .iter()
            .map(|path| AtomicFile::create(path).unwrap().sync().unwrap())
            .collect();
        assert!(names.iter().all(|path| !path.exists()));
        for file in synced {
            file.publish().unwrap();
        }
        assert!(names.iter().all(|path| path.exists()));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_a_file_is_never_replaced() {
        let error = write_atomic("/dev/full", |file| file.write_all(b"x")).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(!Path::new("/dev/full").is_file());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_was_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, |file| file.write_all(b"x")).unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
