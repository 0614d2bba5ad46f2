//! Files that are written beside files that are read.

use std::{
    collections::HashSet,
    fs::{create_dir_all, remove_dir},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bunny_base::FolderLock;

/// Refuses to write `outputs` over any of `inputs`, by whatever paths they are named.
///
/// # Errors
/// When one of `outputs` is one of `inputs`.
pub fn refuse_same_file<O: AsRef<Path>, I: AsRef<Path>>(
    outputs: impl IntoIterator<Item = O>,
    inputs: impl IntoIterator<Item = I>,
) -> Result<()> {
    // What is not there yet is no other file.
    let read: HashSet<PathBuf> = inputs
        .into_iter()
        .filter_map(|path| path.as_ref().canonicalize().ok())
        .collect();
    for output in outputs {
        let output = output.as_ref();
        if output.canonicalize().is_ok_and(|path| read.contains(&path)) {
            bail!(
                "{}: it would be written over, and it is read: name another file to write",
                output.display()
            );
        }
    }
    Ok(())
}

/// Refuses to write over files that hold something, unless `force` is said. What is no file, as
/// `/dev/stdout`, holds nothing.
///
/// # Errors
/// When one of `outputs` is there.
pub fn require_new_files<O: AsRef<Path>>(
    outputs: impl IntoIterator<Item = O>,
    force: bool,
) -> Result<()> {
    for output in outputs {
        let output = output.as_ref();
        let holds = |file: std::fs::Metadata| file.is_file() && file.len() > 0;
        if !force && output.metadata().is_ok_and(holds) {
            bail!(
                "{}: is there already: name another file, or say --force to write over it",
                output.display()
            );
        }
    }
    Ok(())
}

/// A folder that is written to, by this program alone until it is dropped. One that was made for it and
/// is still empty then goes.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    is_new: bool,
    _lock: FolderLock,
}

impl OutputFolder {
    /// Takes a folder that is empty or not there yet, or, where `force` is said, any.
    ///
    /// # Errors
    /// When it holds something, another program writes to it, or it cannot be made.
    pub fn take(path: &Path, force: bool) -> Result<Self> {
        let is_new = !path.exists();
        create_dir_all(path).with_context(|| format!("{}: cannot be made", path.display()))?;
        // Before anything is said of what it holds: that may be the other's.
        let Some(lock) = FolderLock::take(path) else {
            bail!("{}: another program is writing to it", path.display());
        };
        let folder = Self {
            path: path.to_owned(),
            is_new,
            _lock: lock,
        };
        require_new_folder(path, force)?;
        Ok(folder)
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if self.is_new {
            // It stays where it holds anything.
            let _ = remove_dir(&self.path);
        }
    }
}

/// Refuses to write into the folder `out` where it holds anything, unless `force` is said.
///
/// # Errors
/// When it is refused.
fn require_new_folder(out: &Path, force: bool) -> Result<()> {
    let Ok(entries) = out.read_dir() else {
        return Ok(());
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if names.is_empty() || force {
        return Ok(());
    }
    const SHOWN: usize = 3;
    let rest = names.len().saturating_sub(SHOWN);
    let mut held = names[..names.len().min(SHOWN)].join(", ");
    if rest > 0 {
        held += &format!(" and {rest} more");
    }
    bail!(
        "{}: holds files already ({held}): name a new folder, or say --force to write over them",
        out.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_something_is_written_when_it_is_said_twice() {
        let folder = tempfile::tempdir().unwrap();
        require_new_folder(&folder.path().join("new"), false).unwrap();
        require_new_folder(folder.path(), false).unwrap();
        for name in ["a", "b", "c", "d"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let refused = require_new_folder(folder.path(), false).unwrap_err();
        assert!(
            refused.to_string().contains("(a, b, c and 1 more)"),
            "{refused}"
        );
        require_new_folder(folder.path(), true).unwrap();
        // What is read is never written over.
        let same = folder
            .path()
            .join("../")
            .join(folder.path().file_name().unwrap());
        assert!(refuse_same_file([folder.path()], [same]).is_err());
    }

    #[test]
    fn a_folder_is_written_to_by_one_and_gone_when_nothing_was_written() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/new");
        let first = OutputFolder::take(&path, false).unwrap();
        if cfg!(unix) {
            let refused = OutputFolder::take(&path, true).unwrap_err().to_string();
            assert!(refused.contains("another program is writing"), "{refused}");
        }
        drop(first);
        assert!(!path.exists());
        let again = OutputFolder::take(&path, false).unwrap();
        std::fs::write(path.join("model"), "").unwrap();
        drop(again);
        assert!(path.join("model").exists());
        assert!(OutputFolder::take(&path, false).is_err());
    }

    #[test]
    fn a_file_that_holds_something_is_written_over_when_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let [new, empty, full] = ["new", "empty", "full"].map(|name| folder.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&full, "mine").unwrap();
        require_new_files([&new, &empty], false).unwrap();
        // A folder is refused by whoever writes a file.
        require_new_files([folder.path()], false).unwrap();
        let refused = require_new_files([&new, &full], false).unwrap_err();
        assert!(refused.to_string().contains("full: is there already"));
        require_new_files([&full], true).unwrap();
        require_new_files(None::<&Path>, false).unwrap();
    }

    #[test]
    fn a_file_is_known_by_all_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.json");
        let detour = folder.path().join("./folder/../records.json");
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        std::fs::write(&file, "[]").unwrap();
        for output in [&file, &detour] {
            let refused = refuse_same_file([output], [&file]).unwrap_err();
            assert!(refused.to_string().contains("records.json"), "{refused}");
        }
        let other = folder.path().join("other.json");
        refuse_same_file([&other], [&file]).unwrap();
        refuse_same_file([&other], [&other]).unwrap();
        refuse_same_file(Some(&file), None::<&Path>).unwrap();
    }
}
