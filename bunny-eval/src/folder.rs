//! Where a benchmark's files are: a folder, and the archives that lie in it.
//!
//! A file is asked for by its published path, such as `val2014/COCO_val2014_000000310196.jpg`. It
//! is the plain file of that path, or else a member of a zip or a compressed tar in the folder,
//! whether the archive's members start at the folder's own level, below a folder named as the
//! archive, or one level higher.

mod archive;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use archive::Archive;

use crate::error::{EvalError, Result};

/// A folder of a benchmark, archives included.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    archives: Vec<Archive>,
}

/// Where a file was found.
#[derive(Debug)]
enum Found<'a> {
    Plain(PathBuf),
    Member(&'a Archive, usize),
}

impl Folder {
    /// Opens a folder, or an archive that stands for one.
    ///
    /// # Errors
    /// [`EvalError::Io`] when it is not there, or its list cannot be read.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let archives = if root.is_dir() {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(root).map_err(EvalError::io(root, "read"))? {
                paths.push(entry.map_err(EvalError::io(root, "read"))?.path());
            }
            // Whatever order the file system lists them in.
            paths.sort();
            paths
                .iter()
                .filter(|path| path.is_file())
                .filter_map(|path| Archive::at(path))
                .collect()
        } else {
            std::fs::metadata(root).map_err(EvalError::io(root, "open"))?;
            let archive = Archive::at(root)
                .ok_or_else(|| EvalError::unreadable(root, "a folder")("it is a file"))?;
            vec![archive]
        };
        Ok(Self {
            root: root.to_owned(),
            archives,
        })
    }

    /// The folder of one benchmark in `data`: the folder or archive below it with that `name`, or
    /// else `data` itself.
    ///
    /// # Errors
    /// Those of [`Folder::open`].
    pub fn of_benchmark(data: impl AsRef<Path>, name: &str) -> Result<Self> {
        let data = data.as_ref();
        let below = data.join(name);
        if below.is_dir() {
            return Self::open(below);
        }
        let archive = data.join(format!("{name}.zip"));
        if archive.is_file() {
            return Self::open(archive);
        }
        Self::open(data)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// When an archive cannot be read.
    pub fn has(&self, name: &str) -> Result<bool> {
        Ok(self.find(name)?.is_some())
    }

    /// The whole of a file, or `None` where there is none of this name.
    ///
    /// # Errors
    /// When the file or an archive cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.find(name)? {
            None => Ok(None),
            Some(Found::Plain(path)) => {
                let read = std::fs::read(&path).map_err(EvalError::io(&path, "read"))?;
                Ok(Some(read))
            }
            Some(Found::Member(archive, member)) => archive.read(member).map(Some),
        }
    }

    /// The whole of a file that must be there; `mend` says where it comes from.
    ///
    /// # Errors
    /// [`EvalError::Missing`] when there is none, otherwise as for [`Folder::read`].
    pub fn expect(&self, name: &str, mend: &str) -> Result<Vec<u8>> {
        self.read(name)?.ok_or_else(|| EvalError::Missing {
            folder: self.root.clone(),
            name: name.to_owned(),
            mend: mend.to_owned(),
        })
    }

    /// The path of a file, for messages: inside an archive, the archive's path and the member's.
    ///
    /// # Errors
    /// When an archive cannot be read.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        Ok(match self.find(name)? {
            Some(Found::Member(archive, member)) => {
                let names = &archive.members()?.names;
                archive.path.join(&names[member])
            }
            Some(Found::Plain(path)) => path,
            None => self.root.join(name),
        })
    }

    /// The path of a file for messages, where it could be, if it cannot be looked up.
    pub(crate) fn root_of(&self, name: &str) -> PathBuf {
        self.place(name).unwrap_or_else(|_| self.root.join(name))
    }

    /// The file itself, where it is no member of an archive.
    pub(crate) fn plain(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        path.is_file().then_some(path)
    }

    /// The names in a folder, without what is below them, sorted; empty where there is none.
    ///
    /// # Errors
    /// When the folder or an archive cannot be read.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        let plain = self.root.join(folder);
        if plain.is_dir() {
            for entry in std::fs::read_dir(&plain).map_err(EvalError::io(&plain, "read"))? {
                let name = entry.map_err(EvalError::io(&plain, "read"))?.file_name();
                found.extend(name.into_string().ok());
            }
        }
        let below = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        for archive in &self.archives {
            for name in archive.members()?.by_name.keys() {
                let inside = name.strip_prefix(&below).filter(|rest| !rest.is_empty());
                found.extend(
                    inside
                        .and_then(|rest| rest.split('/').next())
                        .map(str::to_owned),
                );
            }
        }
        Ok(found.into_iter().collect())
    }

    fn find(&self, name: &str) -> Result<Option<Found<'_>>> {
        if let Some(path) = self.plain(name) {
            return Ok(Some(Found::Plain(path)));
        }
        for archive in &self.archives {
            if let Some(member) = archive.members()?.by_name.get(name) {
                return Ok(Some(Found::Member(archive, *member)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn zip_of(path: &Path, files: &[(&str, &str)]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, content) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    fn text(folder: &Folder, name: &str) -> Option<String> {
        folder
            .read(name)
            .unwrap()
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_file_is_found_plain_or_in_an_archive_at_any_of_three_levels() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("val2014")).unwrap();
        std::fs::write(at("val2014/a.jpg"), "plain").unwrap();
        zip_of(
            &at("val2014.zip"),
            &[("val2014/a.jpg", "zipped"), ("val2014/b.jpg", "b")],
        );
        zip_of(&at("images.zip"), &[("n1.jpg", "n1")]);
        zip_of(&at("Bunny-main.zip"), &[("Bunny-main/eval/q.jsonl", "q")]);
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(text(&folder, "val2014/a.jpg").as_deref(), Some("plain"));
        assert_eq!(text(&folder, "val2014/b.jpg").as_deref(), Some("b"));
        assert_eq!(text(&folder, "images/n1.jpg").as_deref(), Some("n1"));
        assert_eq!(text(&folder, "eval/q.jsonl").as_deref(), Some("q"));
        assert_eq!(text(&folder, "val2014"), None);
        assert_eq!(folder.list("val2014").unwrap(), ["a.jpg", "b.jpg"]);
        assert!(
            folder
                .place("images/n1.jpg")
                .unwrap()
                .ends_with("images.zip/n1.jpg")
        );
    }

    #[test]
    fn a_compressed_tar_is_read_too() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("questions.tar.gz");
        let gzip =
            flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, content) in [("./one.jsonl", "1"), ("two.jsonl", "22")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(text(&folder, "two.jsonl").as_deref(), Some("22"));
        assert_eq!(text(&folder, "one.jsonl").as_deref(), Some("1"));
    }

    #[test]
    fn a_benchmark_is_a_folder_by_its_name_an_archive_by_its_name_or_the_folder_itself() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("mme")).unwrap();
        zip_of(&at("pope.zip"), &[("pope/q.jsonl", "q")]);
        let of = |name| Folder::of_benchmark(root.path(), name).unwrap();
        assert_eq!(of("mme").path(), at("mme"));
        assert_eq!(of("gqa").path(), root.path());
        assert_eq!(text(&of("pope"), "q.jsonl").as_deref(), Some("q"));
        let nowhere = Folder::of_benchmark(at("nowhere"), "mme").unwrap_err();
        assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
    }

    #[test]
    fn a_broken_archive_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("broken.zip"), "no zip").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let error = folder.read("a").unwrap_err().to_string();
        assert!(
            error.contains("broken.zip: not readable as a zip"),
            "{error}"
        );
    }
}
