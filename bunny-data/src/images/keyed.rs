//! Pictures by the keys of image-text sets: which name the picture of a key has.
//!
//! A key is a picture's name without its ending, where tar shards were embedded, and a whole path with
//! its ending, where files were. Both are looked for as they are; then by their last part in the folders
//! below, as img2dataset leaves them:
//!
//! ```text
//! images/000000593.jpg   images/00000/000000593.webp   images/00000.tar: 000000593.png
//! ```

use std::path::Path;

use super::{ImageSource, Kind, NameHash, name_hash};
use crate::error::{DataError, Result};
use crate::record::Embedded;

/// What pictures' names end in; of a key's pictures the first is taken.
const ENDINGS: [&str; 11] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "JPG", "JPEG", "PNG",
];

/// Folders within folders that are looked into.
const DEPTH: usize = 4;

/// Pictures that are asked for by key.
#[derive(Debug)]
pub(crate) struct KeyedPictures {
    source: ImageSource,
    /// What lies in a folder; `None` for tar files, which know their members.
    tree: Option<Tree>,
}

/// The files of a folder and of those in it: 40 bytes each.
#[derive(Debug, Default)]
struct Tree {
    /// Paths below the folder, in order.
    paths: Vec<NameHash>,
    /// Names by themselves, in order, and the folder each lies in.
    names: Vec<(NameHash, u32)>,
    folders: Vec<String>,
}

impl KeyedPictures {
    /// Opens what [`ImageSource::open`] opens, and lists it.
    pub fn open(path: &Path) -> Result<Self> {
        let source = ImageSource::open(path)?;
        let tree = match source.kind {
            Kind::Folder => Some(Tree::list(path)?),
            Kind::Shards(_) => None,
        };
        Ok(Self { source, tree })
    }

    /// Where the pictures are.
    pub fn source(&self) -> &ImageSource {
        &self.source
    }

    /// The name of a key's picture.
    pub fn find(&self, key: &str) -> Option<String> {
        let key = key.strip_prefix("./").unwrap_or(key);
        let is_file = is_picture(key);
        let with_endings = |base: &str| {
            let whole = is_file.then(|| base.to_owned());
            let more = ENDINGS.map(|ending| format!("{base}.{ending}"));
            whole.into_iter().chain(more)
        };
        let relative = key.trim_start_matches('/');
        if let Some(name) = with_endings(relative).find(|name| self.contains(name)) {
            return Some(name);
        }
        // The path that a file had where it was embedded says less and less of where it is here.
        let mut rest = relative;
        while is_file && let Some((_, below)) = rest.split_once('/') {
            rest = below;
            if self.contains(rest) {
                return Some(rest.to_owned());
            }
        }
        // A key with folders and without an ending may share its last part with another.
        let last = match is_file {
            true => rest,
            false => relative,
        };
        if let Some(tree) = self.tree.as_ref().filter(|_| !last.contains('/'))
            && let Some(name) = with_endings(last).find_map(|name| tree.by_name(&name))
        {
            return Some(name);
        }
        // A row of a Parquet file says by itself where its picture is.
        let is_whole = Path::new(key).is_absolute() && is_file || Embedded::parse(key).is_some();
        (is_whole && self.source.contains(key)).then(|| key.to_owned())
    }

    fn contains(&self, name: &str) -> bool {
        match &self.tree {
            Some(tree) => tree.paths.binary_search(&name_hash(name)).is_ok(),
            None => self.source.contains(name),
        }
    }
}

/// Whether a name ends as those of pictures do.
pub(crate) fn is_picture(key: &str) -> bool {
    let ending = key.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(ending))
    })
}

impl Tree {
    fn list(folder: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let mut waiting = vec![(folder.to_owned(), String::new(), 0)];
        while let Some((path, below, depth)) = waiting.pop() {
            let number = tree.folders.len() as u32;
            for entry in std::fs::read_dir(&path).map_err(DataError::io(&path, "read"))? {
                let entry = entry.map_err(DataError::io(&path, "read"))?;
                let name = entry.file_name();
                // What is not text is no key's.
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                    continue;
                };
                if is_picture(name) {
                    tree.paths.push(name_hash(&format!("{below}{name}")));
                    tree.names.push((name_hash(name), number));
                } else if depth < DEPTH && entry.path().is_dir() {
                    waiting.push((entry.path(), format!("{below}{name}/"), depth + 1));
                }
            }
            tree.folders.push(below);
        }
        tree.paths.sort_unstable();
        tree.names.sort_unstable();
        Ok(tree)
    }

    /// The path of the one file of this name; of several, none is meant more than the others.
    fn by_name(&self, name: &str) -> Option<String> {
        let hash = name_hash(name);
        let first = self.names.partition_point(|(other, _)| *other < hash);
        let mut found = self.names[first..]
            .iter()
            .take_while(|(other, _)| *other == hash);
        match (found.next(), found.next()) {
            (Some((_, folder)), None) => Some(format!("{}{name}", self.folders[*folder as usize])),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn a_key_s_picture_is_found_as_img2dataset_and_clip_retrieval_leave_it() {
        let folder = folder(&[
            "000000001.jpg",
            "00000/000000593.jpg",
            "00001/000010007.webp",
            "00001/000010007.json",
            "a/b/c.png",
            "x/same.jpg",
            "y/same.jpg",
        ]);
        let pictures = KeyedPictures::open(folder.path()).unwrap();
        for (key, name) in [
            ("000000001", Some("000000001.jpg")),
            ("000000001.jpg", Some("000000001.jpg")),
            ("./000000001.jpg", Some("000000001.jpg")),
            ("/data/pictures/000000001.jpg", Some("000000001.jpg")),
            ("000000593", Some("00000/000000593.jpg")),
            ("/data/000000593.jpg", Some("00000/000000593.jpg")),
            ("000010007", Some("00001/000010007.webp")),
            ("a/b/c", Some("a/b/c.png")),
            ("/home/me/a/b/c.png", Some("a/b/c.png")),
            ("x/same", Some("x/same.jpg")),
            // Two of one name, folders that are not here, and what is no picture.
            ("same", None),
            ("z/same", None),
            ("000010007.json", None),
            ("000000002", None),
            ("", None),
        ] {
            assert_eq!(pictures.find(key).as_deref(), name, "{key}");
        }
    }

    #[test]
    fn an_absolute_key_is_its_own_picture_where_there_is_none_below() {
        let [here, there] = [folder(&[]), folder(&["a.jpg"])];
        let pictures = KeyedPictures::open(here.path()).unwrap();
        let key = there.path().join("a.jpg");
        let key = key.to_str().unwrap();
        assert_eq!(pictures.find(key).as_deref(), Some(key));
    }
}
