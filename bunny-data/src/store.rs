//! Where a selection reads and writes, by keys, so that a task made on one machine can be done on
//! another.
//!
//! A key is text with `/` between its names. Those below [`EMBEDDINGS`] are the set, those below
//! [`WORK`] what the stages leave for each other: `work/scan-0f…/scores-00000.f64`. What they stand
//! for is the store's affair: [`Folders`] has a folder for each of the two.
//!
//! Work files carry a hash of what they hold (`store/checksum.rs`), whatever the store.

mod checksum;
mod folders;
mod map;
mod places;
#[cfg(feature = "s3")]
mod remote;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::checksum::{Sums, WorkFile, whole};
pub use self::folders::Folders;
pub(crate) use self::map::{map_file, release};
pub use self::places::{is_remote, open};
#[cfg(feature = "s3")]
pub use self::remote::{Remote, Traffic};
use crate::error::{DataError, Result};
use crate::whole::AtomicFile;

/// What the keys of a set of embeddings begin with.
pub const EMBEDDINGS: &str = "embeddings";

/// What the keys of work files begin with.
pub const WORK: &str = "work";

/// What the driver of a store elsewhere leaves among the work files while it is at work.
pub(crate) const DRIVER_CLAIM: &str = "driver.claim";

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

    /// As [`Self::open`], for a reader of some bytes, who says which by [`Opened::need`]: a store
    /// elsewhere then brings no others.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn open_partly(&self, key: &str) -> Result<Opened> {
        self.open(key)
    }

    /// Whether there is a file of this key.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn exists(&self, key: &str) -> Result<bool> {
        match self.open(key) {
            Ok(_) => Ok(true),
            Err(DataError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

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

    /// Makes the caller the one driver of the work files, as long as it holds what is returned; `None`
    /// where another is at work.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn claim(&self) -> Result<Option<Claim>> {
        Ok(Some(Box::new(())))
    }

    /// Bytes that can still be written; `None` where nobody can say.
    fn free(&self) -> Option<u64>;

    /// A folder of this machine for files without a name.
    fn scratch(&self) -> &Path;
}

/// What makes its holder the one driver of a store.
pub type Claim = Box<dyn Send>;

/// An open file of a store.
#[derive(Debug)]
pub struct Opened {
    /// The file, which may be a copy on this machine.
    pub file: File,
    /// What messages call it.
    pub path: PathBuf,
    /// Brings what is not in the copy yet.
    rest: Option<Box<dyn Fetch>>,
}

/// Brings bytes of a file elsewhere into its copy on this machine.
pub trait Fetch: Debug + Send + Sync {
    /// Makes these bytes of the copy those of the file; a range may go beyond its end.
    ///
    /// # Errors
    /// [`DataError::Io`].
    fn fetch(&self, copy: &File, bytes: Range<u64>) -> Result<()>;
}

impl Opened {
    /// A file that is all there.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            rest: None,
        }
    }

    /// A copy as long as its file, of which nothing may be there yet.
    pub fn partly(file: File, path: PathBuf, rest: Box<dyn Fetch>) -> Self {
        Self {
            file,
            path,
            rest: Some(rest),
        }
    }

    /// Opens a file of this machine that is no store's.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        Ok(Self::new(file, path.to_owned()))
    }

    /// Makes sure that these bytes are there.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn need(&self, bytes: Range<u64>) -> Result<()> {
        match &self.rest {
            Some(rest) => rest.fetch(&self.file, bytes),
            None => Ok(()),
        }
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
    /// Of a work file.
    sums: Option<Sums>,
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
        Self {
            path,
            file,
            sums: None,
        }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.write_all(bytes);
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
    pub fn finish(mut self) -> Result<()> {
        if let Some(sums) = self.sums.take() {
            self.put(&sums.tail())?;
        }
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
        let written = self.file.write(bytes)?;
        if let Some(sums) = &mut self.sums {
            sums.update(&bytes[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether a key is that of a work file.
pub(crate) fn is_work(key: &str) -> bool {
    key.split('/').next() == Some(WORK)
}

/// Writes a work file whole, or where `fill` fails not at all.
pub(crate) fn fill<T>(
    store: &dyn Store,
    key: &str,
    fill: impl FnOnce(&mut NewFile) -> Result<T>,
) -> Result<T> {
    let mut file = store.create(key)?;
    file.sums = Some(Sums::default());
    let value = fill(&mut file)?;
    file.finish()?;
    Ok(value)
}

/// What a work file holds, if it is there.
pub(crate) fn read(store: &dyn Store, key: &str) -> Result<Option<Vec<u8>>> {
    match WorkFile::whole(store, key) {
        Ok(file) => Ok(Some(file.payload().to_vec())),
        Err(DataError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
