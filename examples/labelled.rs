//! Pictures in folders that are named for what they show.

use std::{fs, io, path::Path, path::PathBuf};

use anyhow::{Context, Result};
use bunny_core::input::image::{DecodeOptions, decode_file};

/// A picture and its label.
pub type Labelled = (PathBuf, String);

/// The pictures of all labels, those kept for a test, every fifth of a label, before the rest.
pub fn pictures(folder: &Path) -> Result<(Vec<Labelled>, Vec<Labelled>)> {
    let (mut kept, mut learnt) = (Vec::new(), Vec::new());
    for shelf in sorted(folder)?.iter().filter(|path| path.is_dir()) {
        let label = shelf.file_name().unwrap_or_default().to_string_lossy();
        // What is no picture, such as a note beside them, is passed over.
        let shown = sorted(shelf)?.into_iter();
        let shown = shown.filter(|file| decode_file(file, DecodeOptions::upright()).is_ok());
        for (at, file) in shown.enumerate() {
            let list = if at % 5 == 4 { &mut kept } else { &mut learnt };
            list.push((file, label.to_string()));
        }
    }
    Ok((kept, learnt))
}

/// What is in a folder, by name.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
