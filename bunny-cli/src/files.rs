//! Files that are written beside files that are read.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

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

#[cfg(test)]
mod tests {
    use super::*;

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
