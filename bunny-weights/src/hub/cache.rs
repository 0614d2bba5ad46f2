//! The cache on disk, in the layout that Python's `huggingface_hub` reads and writes.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::io_error;
use super::{HubError, ModelId};
use bunny_base::write_atomic;

/// The folder of all models.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// `models--org--name`
    fn folder_name(model: &ModelId) -> String {
        format!("models--{}", model.name().replace('/', "--"))
    }

    fn folder(&self, model: &ModelId) -> PathBuf {
        self.root.join(Self::folder_name(model))
    }

    fn reference(&self, model: &ModelId) -> PathBuf {
        self.folder(model).join("refs").join(model.revision())
    }

    /// The folder of a commit's files, under their names.
    pub fn snapshot(&self, model: &ModelId, commit: &str) -> PathBuf {
        self.folder(model).join("snapshots").join(commit)
    }

    /// The file of contents with this tag.
    pub fn blob(&self, model: &ModelId, etag: &str) -> PathBuf {
        self.folder(model).join("blobs").join(etag)
    }

    /// The folder of the files that a revision stood for when it was last downloaded.
    pub fn resolve(&self, model: &ModelId) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.reference(model)).ok();
        // A revision that no reference explains may be a commit itself.
        let commit = commit.as_deref().map_or(model.revision(), str::trim);
        let is_hash = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(self.snapshot(model, commit)).filter(|snapshot| is_hash && snapshot.is_dir())
    }

    /// Notes the commit that a revision stands for.
    pub fn point(&self, model: &ModelId, commit: &str) -> Result<(), HubError> {
        if model.revision() == commit {
            return Ok(());
        }
        let reference = self.reference(model);
        if fs::read_to_string(&reference).is_ok_and(|old| old.trim() == commit) {
            return Ok(());
        }
        write_atomic(&reference, |file| file.write_all(commit.as_bytes()))
            .map_err(|error| io_error(&error.path)(error.source))
    }

    /// Waits until nobody else downloads this content; it stays so until the lock is dropped.
    pub fn lock(&self, model: &ModelId, etag: &str) -> Result<File, HubError> {
        let folder = self.root.join(".locks").join(Self::folder_name(model));
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let path = folder.join(format!("{etag}.lock"));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                tracing::info!(
                    "waiting for another download of the same file ({})",
                    path.display()
                );
                file.lock().map_err(io_error(&path))?;
            }
            // A file system without locks costs, at worst, a download whose hash is then wrong.
            Err(fs::TryLockError::Error(fault)) => tracing::debug!("no lock: {fault}"),
        }
        Ok(file)
    }
}

/// Makes the content `blob` available as `pointer`, the path of `file` in a snapshot.
pub(super) fn link(blob: &Path, pointer: &Path, file: &str) -> Result<(), HubError> {
    let io = io_error(pointer);
    if let Some(folder) = pointer.parent() {
        fs::create_dir_all(folder).map_err(&io)?;
    }
    match fs::remove_file(pointer) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    // From snapshots/<commit>/a/b up to the model's folder, so that the cache can be moved.
    let mut target: PathBuf = Path::new(file)
        .components()
        .map(|_| Component::ParentDir)
        .collect();
    target.push(Component::ParentDir);
    target.extend(
        blob.iter()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev(),
    );
    match symlink(&target, blob, pointer) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io(error)),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

/// Links need a privilege on Windows; without it the content is there twice.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(drop))
}

/// Whether a file's name in a model stays within the model's folder, on any system.
pub(super) fn is_safe_path(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Names of the files in a snapshot, as a hub lists them.
pub(super) fn files(snapshot: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(snapshot.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let name = format!("{prefix}{name}");
            // Files are links, folders are not: no link is followed into a circle.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push((entry.path(), format!("{name}/"))),
                _ if entry.path().exists() => found.push(name),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
