//! Files that appear whole or not at all: written under a temporary name, brought to the disk, and
//! only then given their name.
//!
//! The temporary name hangs on the file's own, and whoever writes holds a lock on it that ends with
//! the process. So the next one that writes the same file knows what a killed process has left there,
//! and removes it: nothing hidden adds up.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::random::mix_bytes;

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
    /// Folders on the way to it are created. What killed processes left of earlier attempts at the
    /// same file is removed.
    ///
    /// # Errors
    /// When there is something at `path` that is no file, or the folder cannot be written to.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let prefix = draft_prefix(path);
        sweep(folder_of(path), &prefix);
        Self::start(path, Builder::new().prefix(&prefix).suffix(DRAFT))
    }

    /// As [`AtomicFile::create`], in a folder of many files that its owner sweeps by other means: it is
    /// not looked through.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_unswept(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        Self::start(
            path,
            Builder::new().prefix(&draft_prefix(path)).suffix(DRAFT),
        )
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
        loop {
            let file = builder
                .tempfile_in(folder)
                .map_err(|error| failed(without_draft(error)))?;
            // File systems that know no locks keep what is left behind.
            let _ = file.as_file().lock();
            // Between its making and its lock someone may have taken it for a dead process's.
            if file.path().exists() {
                return Ok(Self {
                    path: path.to_owned(),
                    file: BufWriter::with_capacity(1 << 20, file),
                });
            }
        }
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
            source: without_draft(source),
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
            Err(source) => Err(FileError {
                path,
                source: without_draft(source),
            }),
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
        self.file.write(bytes).map_err(without_draft)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(without_draft)
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

/// A folder in the making: a temporary neighbour of its path, which vanishes unless it is finished.
#[derive(Debug)]
pub struct AtomicFolder {
    path: PathBuf,
    draft: TempDir,
    /// Held until the end: who has it is alive.
    _lock: Option<File>,
}

impl AtomicFolder {
    /// Starts a folder that will stand at `path`. Folders on the way to it are created; what killed
    /// processes left of earlier attempts at the same folder is removed.
    ///
    /// # Errors
    /// When another process is making it, or the folder above cannot be written to.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let failed = |source| FileError {
            path: path.to_owned(),
            source,
        };
        let (above, prefix) = (folder_of(path), draft_prefix(path));
        fs::create_dir_all(above).map_err(failed)?;
        if sweep(above, &prefix) > 0 {
            return Err(failed(io::Error::other("another program is making it")));
        }
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(DRAFT);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        loop {
            let draft = builder
                .tempdir_in(above)
                .map_err(|error| failed(without_draft(error)))?;
            // Not all systems open folders; there, what is left behind stays.
            let lock = File::open(draft.path()).ok();
            if let Some(lock) = &lock {
                let _ = lock.lock();
            }
            if draft.path().exists() {
                return Ok(Self {
                    path: path.to_owned(),
                    draft,
                    _lock: lock,
                });
            }
        }
    }

    /// Where it is until it has its name.
    pub fn draft(&self) -> &Path {
        self.draft.path()
    }

    /// Gives the folder its name; an empty folder of that name gives way.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn finish(self) -> Result<(), FileError> {
        let Self { path, draft, .. } = self;
        let finish = || {
            if path.is_dir() {
                fs::remove_dir(&path)?;
            }
            fs::rename(draft.path(), &path)
        };
        match finish() {
            Ok(()) => {
                // The name it had is gone already.
                let _ = draft.keep();
                Ok(())
            }
            Err(source) => Err(FileError { path, source }),
        }
    }
}

/// What the names of drafts end in.
const DRAFT: &str = ".tmp";

/// What the names of drafts of a file or folder begin with: hidden, and of one length whatever the
/// name, which may be as long as a name can be.
fn draft_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!(".bunny-{:016x}-", mix_bytes(0, name.as_encoded_bytes()))
}

/// The system's own error: that of `tempfile` names the draft, which is nobody's affair.
fn without_draft(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((text, _)) => io::Error::new(error.kind(), text.to_owned()),
        None => error,
    }
}

/// Removes what dead processes have left of a file or folder in the making, and counts what living ones
/// hold. What cannot be looked at or removed stays.
fn sweep(folder: &Path, prefix: &str) -> usize {
    let mut living = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(prefix.as_bytes()) || !name.ends_with(DRAFT.as_bytes()) {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type());
        let Ok(draft) = File::open(&path) else {
            continue;
        };
        match draft.try_lock() {
            Ok(()) => {
                let _ = match kind {
                    Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                    _ => fs::remove_file(&path),
                };
            }
            Err(TryLockError::WouldBlock) => living += 1,
            Err(TryLockError::Error(_)) => {}
        }
    }
    living
}

/// A folder that one process at a time works in.
///
/// The lock ends with the process, however it ends, and leaves nothing behind. Where a system or a
/// file system has no locks on folders, everyone gets it.
#[derive(Debug)]
pub struct FolderLock {
    _folder: Option<File>,
}

impl FolderLock {
    /// Takes the lock of a folder that is there; `None` where another process, or another part of this
    /// one, has it.
    pub fn take(folder: impl AsRef<Path>) -> Option<Self> {
        let folder = File::open(folder).ok();
        match folder.as_ref().map(File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => None,
            _ => Some(Self { _folder: folder }),
        }
    }
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

    /// A file in the making as a killed process leaves it: no drop, and no lock.
    fn killed(file: AtomicFile) {
        let file = file.file.into_inner().unwrap();
        file.as_file().unlock().unwrap();
        std::mem::forget(file);
    }

    #[test]
    fn what_killed_processes_left_of_a_file_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // As long as a name can be.
        for name in ["mix.json".to_owned(), "n".repeat(255)] {
            let path = folder.path().join(&name);
            killed(AtomicFile::create(&path).unwrap());
            killed(AtomicFile::create_unswept(&path).unwrap());
            assert_eq!(entries(folder.path()), 2, "{name}");
            let living = AtomicFile::create(&path).unwrap();
            let other = AtomicFile::create(folder.path().join("other.json")).unwrap();
            assert_eq!(entries(folder.path()), 2, "{name}");
            write_atomic(&path, |file| file.write_all(b"whole")).unwrap();
            assert_eq!(entries(folder.path()), 3, "{name}");
            living.finish().unwrap();
            drop(other);
            assert_eq!(entries(folder.path()), 1, "{name}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_appears_whole_and_what_a_killed_process_left_of_it_goes() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("world");
        let AtomicFolder { draft, _lock, .. } = AtomicFolder::create(&path).unwrap();
        fs::write(draft.path().join("half"), "half").unwrap();
        let left = draft.keep();
        drop(_lock);
        assert!(left.exists());
        let living = AtomicFolder::create(&path).unwrap();
        assert!(!left.exists());
        fs::write(living.draft().join("whole"), "whole").unwrap();
        // One at a time.
        let refused = AtomicFolder::create(&path).unwrap_err().to_string();
        assert!(
            refused.contains("another program is making it"),
            "{refused}"
        );
        drop(AtomicFolder::create(above.path().join("other")).unwrap());
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        living.finish().unwrap();
        assert_eq!(fs::read(path.join("whole")).unwrap(), b"whole");
        assert_eq!(entries(above.path()), 1);
        // What holds something does not give way.
        assert!(AtomicFolder::create(&path).unwrap().finish().is_err());
        assert_eq!(entries(above.path()), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_one_process_s_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        assert!(FolderLock::take(folder.path()).is_none());
        drop(first);
        assert!(FolderLock::take(folder.path()).is_some());
        assert_eq!(entries(folder.path()), 0);
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

    #[test]
    fn an_error_names_the_file_and_not_its_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("a.json");
        fs::write(folder.path().join("gone"), "a file").unwrap();
        let error = AtomicFile::create(&path).unwrap_err();
        assert!(error.path.ends_with("a.json"), "{error}");
        // As `tempfile` tells of what it could not make.
        let drawn = Builder::new().prefix("draft").tempfile_in(&error.path);
        let plain = without_draft(drawn.unwrap_err());
        assert!(!plain.to_string().contains("draft"), "{plain}");
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
