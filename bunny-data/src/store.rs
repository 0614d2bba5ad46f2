//! Where a selection reads and writes, by keys, so that a task made on one machine can be done on
//! another.
//!
//! A key is text with `/` between its names. Those below [`EMBEDDINGS`] are the set, those below
//! [`WORK`] what the stages leave for each other: `work/scan-0f…/scores-00000.f64`. What they stand
//! for is the store's affair: [`Folders`] has a folder for each of the two.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::whole::AtomicFile;

/// What the keys of a set of embeddings begin with.
pub const EMBEDDINGS: &str = "embeddings";

/// What the keys of work files begin with.
pub const WORK: &str = "work";

/// Files by keys. Results appear whole or not at all, and one that is made twice is the same bytes
/// both times, so that an attempt may be repeated, or overtaken by another.
pub trait Store: Debug + Send + Sync {
    /// Where a file is or will be, as messages name it.
    fn path(&self, key: &str) -> PathBuf;

    /// Opens a file, to be read or mapped.
    ///
    /// # Errors
    /// [`DataError::Io`], of kind `NotFound` where there is no such file.
    fn open(&self, key: &str) -> Result<Opened>;

    /// What lies directly in a folder, in no order.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn entries(&self, folder: &str) -> Result<Vec<Entry>>;

    /// Begins a file that takes the name of its key once it is whole, in place of what has it. No
    /// two attempts at the same file meet before.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn create(&self, key: &str) -> Result<NewFile>;

    /// Makes a folder, if the store has folders and this one is not there.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn make_folder(&self, folder: &str) -> Result<()>;

    /// Removes a file, or a folder and what is in it, if it is there.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn remove(&self, key: &str) -> Result<()>;

    /// Removes what attempts that were killed have left in a folder. Called where no attempt is
    /// under way.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn sweep(&self, folder: &str) -> Result<()>;

    /// Bytes that can still be written; `None` where nobody can say.
    fn free(&self) -> Option<u64>;

    /// A folder of this machine for files without a name.
    fn scratch(&self) -> &Path;
}

/// An open file of a store.
#[derive(Debug)]
pub struct Opened {
    /// The file, which may be a copy on this machine.
    pub file: File,
    /// What messages call it.
    pub path: PathBuf,
}

impl Opened {
    /// Opens a file of this machine that is no store's.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(DataError::io(&self.path, "read"))?.len())
    }
}

/// What lies in a folder of a store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the folder, of which a key is made where it is UTF-8.
    pub name: OsString,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it is a file: what is neither is of no use here.
    pub is_file: bool,
    /// Its bytes.
    pub bytes: u64,
    /// What tells two files of the same name and length apart.
    pub version: Version,
}

/// What changes whenever a file is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Version {
    /// When it was written, in nanoseconds since 1970.
    Time(u128),
    /// A word that the store gives each version of a file.
    Word(String),
}

/// A file in the making, which is gone unless it is finished.
pub struct NewFile {
    path: PathBuf,
    file: Box<dyn Finish>,
}

/// What a [`NewFile`] writes to.
pub trait Finish: Write + Send {
    /// Gives what was written its name.
    ///
    /// # Errors
    /// When it cannot be brought to where it belongs, or named.
    fn finish(self: Box<Self>) -> Result<()>;
}

impl Finish for AtomicFile {
    fn finish(self: Box<Self>) -> Result<()> {
        Ok((*self).finish()?)
    }
}

impl NewFile {
    /// A file that messages call `path`.
    pub fn new(path: PathBuf, file: Box<dyn Finish>) -> Self {
        Self { path, file }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        self.check(written)
    }

    /// Puts this file's name to what a write to it returned.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn check<T>(&self, written: io::Result<T>) -> Result<T> {
        written.map_err(DataError::io(&self.path, "write"))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn finish(self) -> Result<()> {
        self.file.finish()
    }
}

impl Debug for NewFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file whole, or where `fill` fails not at all.
pub(crate) fn fill<T>(
    store: &dyn Store,
    key: &str,
    fill: impl FnOnce(&mut NewFile) -> Result<T>,
) -> Result<T> {
    let mut file = store.create(key)?;
    let value = fill(&mut file)?;
    file.finish()?;
    Ok(value)
}

/// The bytes of a file, if it is there.
pub(crate) fn read(store: &dyn Store, key: &str) -> Result<Option<Vec<u8>>> {
    match store.open(key) {
        Ok(mut opened) => {
            let mut bytes = Vec::new();
            let read = opened.file.read_to_end(&mut bytes);
            read.map_err(DataError::io(&opened.path, "read"))?;
            Ok(Some(bytes))
        }
        Err(DataError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is there.
pub(crate) fn exists(store: &dyn Store, key: &str) -> Result<bool> {
    match store.open(key) {
        Ok(_) => Ok(true),
        Err(DataError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A folder of this machine for the embeddings, and one for the work files.
#[derive(Clone, Debug)]
pub struct Folders {
    embeddings: PathBuf,
    work: PathBuf,
}

impl Folders {
    /// A store of two folders.
    pub fn new(embeddings: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        Self {
            embeddings: embeddings.into(),
            work: work.into(),
        }
    }

    /// The path of a key that leads into one of the folders, and not out of it.
    fn locate(&self, key: &str) -> Result<PathBuf> {
        let (first, rest) = key.split_once('/').unwrap_or((key, ""));
        let folder = match first {
            EMBEDDINGS => &self.embeddings,
            WORK => &self.work,
            _ => return Err(DataError::Key(key.to_owned())),
        };
        let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
        match Path::new(rest).components().all(is_name) {
            true if rest.is_empty() => Ok(folder.clone()),
            true => Ok(folder.join(rest)),
            false => Err(DataError::Key(key.to_owned())),
        }
    }
}

impl Store for Folders {
    fn path(&self, key: &str) -> PathBuf {
        self.locate(key).unwrap_or_else(|_| key.into())
    }

    fn open(&self, key: &str) -> Result<Opened> {
        Opened::at(self.locate(key)?)
    }

    fn entries(&self, folder: &str) -> Result<Vec<Entry>> {
        let path = self.locate(folder)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(DataError::io(&path, "open"))? {
            let entry = entry.map_err(DataError::io(&path, "read"))?;
            // A link is what it leads to; one that leads nowhere is nothing.
            let metadata = match std::fs::metadata(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(DataError::io(entry.path(), "read"))?,
            };
            let modified = metadata.modified().ok();
            let time = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            found.push(Entry {
                name: entry.file_name(),
                is_folder: metadata.is_dir(),
                is_file: metadata.is_file(),
                bytes: metadata.len(),
                version: Version::Time(time.map_or(0, |time| time.as_nanos())),
            });
        }
        Ok(found)
    }

    fn create(&self, key: &str) -> Result<NewFile> {
        let path = self.locate(key)?;
        // Its temporary name is drawn, so that attempts do not meet; `sweep` is for what they leave.
        let file = AtomicFile::create_unswept(&path)?;
        Ok(NewFile::new(path, Box::new(file)))
    }

    fn make_folder(&self, folder: &str) -> Result<()> {
        let path = self.locate(folder)?;
        std::fs::create_dir_all(&path).map_err(DataError::io(&path, "create"))
    }

    fn remove(&self, key: &str) -> Result<()> {
        let path = self.locate(key)?;
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DataError::io(&path, "remove")(error))
            }
            _ => Ok(()),
        }
    }

    fn sweep(&self, folder: &str) -> Result<()> {
        // Files in the making, and they alone, have hidden names.
        for entry in self.entries(folder)? {
            match entry.name.to_str() {
                Some(name) if name.starts_with('.') => self.remove(&format!("{folder}/{name}"))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        #[cfg(unix)]
        {
            let stat = rustix::fs::statvfs(&self.work).ok()?;
            Some(stat.f_bavail * stat.f_frsize)
        }
        #[cfg(not(unix))]
        None
    }

    fn scratch(&self) -> &Path {
        &self.work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_into_the_two_folders_and_not_out_of_them() {
        let store = Folders::new("set", "out/work");
        assert_eq!(store.path("embeddings"), Path::new("set"));
        let image = store.path("embeddings/img_emb/img_emb_0.npy");
        assert_eq!(image, Path::new("set/img_emb/img_emb_0.npy"));
        let scores = store.path("work/scan-1/scores-00000.f64");
        assert_eq!(scores, Path::new("out/work/scan-1/scores-00000.f64"));
        for key in [
            "",
            "/",
            "set",
            "work/..",
            "work/a/../b",
            "work//etc/passwd",
            "../work",
        ] {
            let error = store.open(key).unwrap_err();
            assert!(matches!(error, DataError::Key(_)), "{key}: {error}");
        }
    }

    #[test]
    fn a_file_takes_its_name_when_it_is_whole_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folders::new(dir.path(), dir.path());
        let names = || {
            let entries = store.entries(WORK).unwrap();
            let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
            names.sort();
            names
        };
        assert_eq!(read(&store, "work/a").unwrap(), None);
        let [mut first, mut second] = ["work/a"; 2].map(|key| store.create(key).unwrap());
        first.put(b"first").unwrap();
        second.put(b"second").unwrap();
        assert!(!exists(&store, "work/a").unwrap());
        first.finish().unwrap();
        assert_eq!(read(&store, "work/a").unwrap().unwrap(), b"first");
        second.finish().unwrap();
        assert_eq!(read(&store, "work/a").unwrap().unwrap(), b"second");
        assert_eq!(names(), ["a"]);
        // One that fails leaves nothing, one that is killed what a sweep removes.
        let failed = fill(&store, "work/b", |file| {
            file.put(b"half")?;
            Err::<(), _>(DataError::Key("b".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(names(), ["a"]);
        std::mem::forget(store.create("work/b").unwrap());
        assert_eq!(names().len(), 2);
        store.sweep(WORK).unwrap();
        assert_eq!(names(), ["a"]);
        store.remove("work/a").unwrap();
        store.remove("work/a").unwrap();
        assert_eq!(names(), [""; 0]);
    }
}
