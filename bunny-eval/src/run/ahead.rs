//! Answers that were known before those of earlier questions, kept until it is their turn.
//!
//! Questions are asked by length and their answers stand in the questions' order, so that an answer
//! may have to wait for others. Meanwhile it is a line of `FILE.ahead`, the place of its question, a
//! tab and its row, and a run that is killed does not ask again for what it knew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{EvalError, Result};

/// The rows that wait, by the place of their question.
#[derive(Debug)]
pub(super) struct Ahead {
    path: PathBuf,
    /// Open once something waits.
    file: Option<File>,
    /// Bytes of whole lines, where a kill tore the last one.
    whole: Option<u64>,
    rows: BTreeMap<usize, String>,
}

impl Ahead {
    /// What an earlier run left beside the answers at `path`, as far as `is_asked` says of a place and
    /// its row that they would be asked for as they were.
    pub(super) fn open(
        path: &Path,
        mut is_asked: impl FnMut(usize, &str) -> Result<bool>,
    ) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".ahead");
        let path = PathBuf::from(name);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(EvalError::io(&path, "read")(error)),
        };
        let ends = text.iter().rposition(|byte| *byte == b'\n');
        let whole = ends.map_or(0, |end| end + 1);
        let whole = (whole < text.len()).then_some(whole as u64);
        let mut rows = BTreeMap::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // A line that a kill tore is one that is not known.
            if let Some((place, row)) = parsed(line)
                && is_asked(place, row)?
            {
                rows.insert(place, row.to_owned());
            }
        }
        Ok(Self {
            path,
            file: None,
            whole,
            rows,
        })
    }

    /// How many rows an earlier run left.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row that an earlier run left of the question at `place`.
    pub(super) fn take(&mut self, place: usize) -> Option<String> {
        self.rows.remove(&place)
    }

    /// Keeps the row, its line end included, of the question at `place`.
    pub(super) fn keep(&mut self, place: usize, row: &str) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)
                    .map_err(EvalError::io(&self.path, "open"))?;
                // A line that is torn would be joined, or made to look whole, by the next one.
                if let Some(whole) = self.whole.take() {
                    file.set_len(whole)
                        .map_err(EvalError::io(&self.path, "shorten"))?;
                }
                self.file.insert(file)
            }
        };
        let line = format!("{place}\t{row}");
        file.write_all(line.as_bytes())
            .map_err(EvalError::io(&self.path, "write"))
    }

    /// Drops the file: all that waited stands where it belongs.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.file = None;
        self.whole = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(EvalError::io(&self.path, "remove")(error))
            }
            _ => Ok(()),
        }
    }
}

fn parsed(line: &[u8]) -> Option<(usize, &str)> {
    let line = str::from_utf8(line).ok()?;
    let (place, row) = line.split_once('\t')?;
    row.ends_with('\n').then_some((place.parse().ok()?, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_behind_a_line_that_a_kill_tore_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        std::fs::write(
            folder.path().join("answers.jsonl.ahead"),
            "3\t{}\n9\t{\"que",
        )
        .unwrap();
        let open = || Ahead::open(&path, |_, _| Ok(true)).unwrap();
        let mut ahead = open();
        assert_eq!(ahead.len(), 1);
        ahead.keep(5, "[5]\n").unwrap();
        ahead.keep(6, "[6]\n").unwrap();
        let mut again = open();
        let rows = [3, 5, 6, 9].map(|place| again.take(place));
        let rows = rows.each_ref().map(Option::as_deref);
        assert_eq!(rows, [Some("{}\n"), Some("[5]\n"), Some("[6]\n"), None]);
    }
}
