//! What the folder of results holds before a selection begins: nothing is written over that took days
//! to make, or that is none of a selection's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::coreset::manifest::{self, MANIFEST, file_fingerprint};
use crate::coreset::options::CoresetOptions;
use crate::coreset::report::Report;
use crate::coreset::stages::output::{OutputOptions, Pictured, RESULTS};
use crate::error::{DataError, Result, SetFault};
use crate::store::{DRIVER_CLAIM, Store, WORK};

/// What the names of the folders of stages begin with.
const STAGES: [&str; 9] = [
    "unpacked-",
    "scan-",
    "given-",
    "kmeans-",
    "assign-",
    "duplicates-",
    "ranks-",
    "survivors-",
    "keys-",
];

/// The folders of a set that are read.
const LAYOUT: [&str; 3] = ["img_emb", "text_emb", "metadata"];

/// Differences that are told.
const TOLD: usize = 4;

/// What the manifest of a selection keeps.
#[derive(Serialize, Deserialize)]
pub(super) struct Finished {
    pub report: Report,
    pub pictured: Option<Pictured>,
    /// Beside the options.
    #[serde(default)]
    pub made_from: Option<MadeFrom>,
    /// Of the files that were written, by name.
    #[serde(default)]
    pub hashes: BTreeMap<String, String>,
}

/// Words for what a selection was made from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MadeFrom {
    /// The files of the set.
    pub identity: String,
    /// The files of centroids that the options name.
    pub given: String,
}

/// The finished selection of a folder, and the word for everything it was made from.
pub(super) fn finished(out: &Path) -> Result<Option<(String, Finished)>> {
    let path = out.join(MANIFEST);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io(&path, "read")(error)),
        Ok(bytes) => manifest::read_any(&bytes, &path),
    }
}

/// The hashes of files in a folder.
pub(super) fn hashes(out: &Path, files: &[String]) -> Result<BTreeMap<String, String>> {
    let hash = |name: &String| Ok((name.clone(), file_fingerprint(&out.join(name))?));
    files.iter().map(hash).collect()
}

impl Finished {
    /// Whether all files are as they were written, and the pictures as they were.
    ///
    /// # Errors
    /// For a file that is another than the one that was written, unless it may be replaced.
    pub fn still_stands(&self, out: &Path, outputs: &OutputOptions, force: bool) -> Result<bool> {
        let files = &self.report.written.files;
        if !files.iter().all(|name| out.join(name).is_file()) {
            return Ok(false);
        }
        for (name, written) in &self.hashes {
            let path = out.join(name);
            if file_fingerprint(&path)? != *written {
                return match force {
                    true => Ok(false),
                    false => Err(DataError::set(path, SetFault::Touched)),
                };
            }
        }
        let look = |images: &PathBuf| Pictured::look(out, images);
        Ok(self.pictured == outputs.images.as_ref().map(look).transpose()?)
    }

    /// Fails unless this is a selection of the same rows.
    pub fn check_options(
        &self,
        out: &Path,
        options: &CoresetOptions,
        made_from: &MadeFrom,
    ) -> Result<()> {
        let json = |options| serde_json::to_value(options).map_err(DataError::NotJson);
        let mut told = Vec::new();
        differences("", &json(&self.report.options)?, &json(options)?, &mut told);
        if let Some(before) = &self.made_from {
            if before.identity != made_from.identity {
                told.push("the embeddings are others, or were written again".to_owned());
            }
            if before.given != made_from.given {
                told.push("the file of centroids is another".to_owned());
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        if told.len() > TOLD {
            let more = told.len() - TOLD;
            told.truncate(TOLD);
            told.push(format!("and {more} more"));
        }
        let differences = told.join(", ");
        Err(DataError::set(out, SetFault::OtherSelection(differences)))
    }
}

/// Where two values differ, as `clusters.count: 200 before, 100 now`.
fn differences(place: &str, before: &Value, now: &Value, told: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let place = match place {
                    "" => key.clone(),
                    _ => format!("{place}.{key}"),
                };
                let value = |values: &serde_json::Map<String, Value>| {
                    values.get(key).cloned().unwrap_or_default()
                };
                differences(&place, &value(before), &value(now), told);
            }
        }
        _ if before == now => {}
        _ => told.push(format!("{place}: {before} before, {now} now")),
    }
}

/// Fails where a folder holds anything and no selection.
pub(super) fn check_folder(out: &Path) -> Result<()> {
    let entries = |folder: &Path| -> Result<Vec<std::ffi::OsString>> {
        let read = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(DataError::io(folder, "read"))?,
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name());
        read.map(name)
            .collect::<std::io::Result<_>>()
            .map_err(DataError::io(folder, "read"))
    };
    let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let other = |place: PathBuf| DataError::set(out, SetFault::HoldsOther(place));
    let names = entries(out)?;
    let own = |name: &OsStr| {
        let results = RESULTS.iter().chain([&MANIFEST, &"work", &"centroids.npy"]);
        is_hidden(name) || results.into_iter().any(|result| name == *result)
    };
    let has_begun = names.iter().any(|name| name == MANIFEST || name == "work");
    if let Some(name) = names.iter().find(|name| !has_begun && !own(name)) {
        return Err(other(name.into()));
    }
    Ok(())
}

/// Fails where there is anything among the work files that is none of a selection's: they are removed
/// in the end.
pub(super) fn check_work(store: &dyn Store, out: &Path) -> Result<()> {
    match work(store)?.into_iter().find(|name| !is_work(name)) {
        Some(name) => {
            let path = store.path(WORK).join(name);
            let place = path.strip_prefix(out).unwrap_or(&path).to_owned();
            Err(DataError::set(out, SetFault::HoldsOther(place)))
        }
        None => Ok(()),
    }
}

/// Removes the work files, and their folder if it holds nothing else.
pub(super) fn remove_work(store: &dyn Store) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = work(store)?.into_iter().partition(|name| is_work(name));
    if others.is_empty() {
        return store.remove(WORK);
    }
    let mut own = own.iter().filter_map(|name| name.to_str());
    own.try_for_each(|name| store.remove(&format!("{WORK}/{name}")))
}

/// The names among the work files.
fn work(store: &dyn Store) -> Result<Vec<OsString>> {
    match store.entries(WORK) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(DataError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_work(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let known = STAGES
        .iter()
        .any(|stage| name.starts_with(stage.as_bytes()));
    known || name.starts_with(b".") || name.starts_with(DRIVER_CLAIM.as_bytes())
}

/// Fails where results would be written into the set they are selected from.
pub(super) fn check_outside(embeddings: &Path, out: &Path) -> Result<()> {
    let Ok(set) = embeddings.canonicalize() else {
        return Ok(()); // Not there, which is said in its place.
    };
    // Of a folder that is not there yet, what of its path is there.
    let absolute = std::path::absolute(out).map_err(DataError::io(out, "open"))?;
    let there = absolute.ancestors().find_map(|above| {
        let rest = absolute.strip_prefix(above).unwrap_or(Path::new(""));
        Some(above.canonicalize().ok()?.join(rest))
    });
    let there = there.unwrap_or(absolute);
    // Folders of a set are not looked into, but for those of one layout.
    let is_read = there.strip_prefix(&set).is_ok_and(|below| {
        let first = below.components().next();
        first.is_none_or(|first| LAYOUT.iter().any(|name| first.as_os_str() == *name))
    });
    match is_read {
        true => Err(DataError::set(out, SetFault::InsideTheSet)),
        false => Ok(()),
    }
}
