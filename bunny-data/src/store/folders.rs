//! A store of two folders of this machine, or of a file system that machines share.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use bunny_base::FolderLock;

use super::{Claim, EMBEDDINGS, Entry, NewFile, Opened, Store, Version, WORK};
use crate::error::{DataError, Result};
use crate::whole::AtomicFile;

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

    fn claim(&self) -> Result<Option<Claim>> {
        let lock = FolderLock::take(&self.work);
        Ok(lock.map(|lock| Box::new(lock) as Claim))
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
    use crate::store::{fill, read};

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
        assert!(!store.exists("work/a").unwrap());
        first.finish().unwrap();
        let held = || std::fs::read(dir.path().join("a")).unwrap();
        assert_eq!(held(), b"first");
        second.finish().unwrap();
        assert_eq!(held(), b"second");
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
