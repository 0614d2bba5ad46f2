//! Stores by what people call them: paths of folders, and addresses as `s3://bucket/path`.

use std::path::{Path, PathBuf};

use super::{Claim, Entry, Folders, NewFile, Opened, Store, WORK, is_work};
use crate::error::Result;
#[cfg(not(feature = "s3"))]
use crate::error::{DataError, OptionFault};

/// Whether a place is an address rather than a folder.
pub fn is_remote(place: &Path) -> bool {
    place.to_str().is_some_and(|text| text.starts_with("s3://"))
}

/// A store whose embeddings and work files are at these places; copies of what is elsewhere lie in
/// `scratch` while they are read.
///
/// # Errors
/// For an address that is none, or where this was built without the feature `s3`.
pub fn open(embeddings: &Path, work: &Path, scratch: &Path) -> Result<Box<dyn Store>> {
    if !is_remote(embeddings) && !is_remote(work) {
        return Ok(Box::new(Folders::new(embeddings, work)));
    }
    let side = |place: &Path| -> Result<Box<dyn Store>> {
        match is_remote(place) {
            true => remote(place, scratch),
            false => Ok(Box::new(Folders::new(place, place))),
        }
    };
    Ok(Box::new(Places {
        embeddings: side(embeddings)?,
        work: side(work)?,
    }))
}

#[cfg(feature = "s3")]
fn remote(place: &Path, scratch: &Path) -> Result<Box<dyn Store>> {
    let address = place.to_str().unwrap_or_default();
    Ok(Box::new(super::Remote::open(address, scratch)?))
}

#[cfg(not(feature = "s3"))]
fn remote(place: &Path, _scratch: &Path) -> Result<Box<dyn Store>> {
    let fault = OptionFault::NoS3(place.to_owned());
    Err(DataError::option("an address", fault))
}

/// The embeddings at one place, the work files at another.
#[derive(Debug)]
struct Places {
    embeddings: Box<dyn Store>,
    work: Box<dyn Store>,
}

impl Places {
    fn of(&self, key: &str) -> &dyn Store {
        match is_work(key) {
            true => &*self.work,
            false => &*self.embeddings,
        }
    }
}

impl Store for Places {
    fn path(&self, key: &str) -> PathBuf {
        self.of(key).path(key)
    }

    fn open(&self, key: &str) -> Result<Opened> {
        self.of(key).open(key)
    }

    fn open_partly(&self, key: &str) -> Result<Opened> {
        self.of(key).open_partly(key)
    }

    fn exists(&self, key: &str) -> Result<bool> {
        self.of(key).exists(key)
    }

    fn entries(&self, folder: &str) -> Result<Vec<Entry>> {
        self.of(folder).entries(folder)
    }

    fn create(&self, key: &str) -> Result<NewFile> {
        self.of(key).create(key)
    }

    fn make_folder(&self, folder: &str) -> Result<()> {
        self.of(folder).make_folder(folder)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.of(key).remove(key)
    }

    fn sweep(&self, folder: &str) -> Result<()> {
        self.of(folder).sweep(folder)
    }

    fn claim(&self) -> Result<Option<Claim>> {
        self.of(WORK).claim()
    }

    fn free(&self) -> Option<u64> {
        self.work.free()
    }

    fn scratch(&self) -> &Path {
        self.work.scratch()
    }
}
