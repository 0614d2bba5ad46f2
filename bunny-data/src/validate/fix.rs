//! A cleaned copy of a dataset, and the list of what was left out.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::{Finding, Problem, Report};
use crate::Progress;
use crate::error::Result;
use crate::record::{RecordFile, RecordWriter, one_line};
use crate::whole::AtomicFile;

/// What a fix kept and left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Records in the cleaned copy.
    pub kept: usize,
    /// Records left out.
    pub dropped: usize,
}

/// A line of the list of what was left out.
#[derive(Debug, Serialize)]
struct Dropped<'a> {
    record: usize,
    id: &'a str,
    problems: Vec<&'a Problem>,
}

/// Writes to `out` the records of `file` that `report` finds no error in, as they are, and to
/// `dropped` a line of JSON for each that is left out. `also` names kinds of problems, beyond the
/// errors, that are reason to leave a record out. Both files appear whole or not at all.
///
/// # Errors
/// [`crate::DataError::Io`], what reading `file` gives, and where no record would be kept.
pub fn write_fixed(
    file: &RecordFile,
    report: &Report,
    out: impl AsRef<Path>,
    dropped: impl AsRef<Path>,
    also: &BTreeSet<String>,
    progress: Progress<'_>,
) -> Result<Fixed> {
    let mut cleaned = AtomicFile::create(out.as_ref())?;
    let mut list = AtomicFile::create(dropped.as_ref())?;
    let mut records = RecordWriter::new(&mut cleaned, out.as_ref());
    let is_reason =
        |finding: &&Finding| finding.problem.is_error() || also.contains(finding.problem.kind());
    let io = crate::DataError::io;
    let mut findings = report.findings.iter().filter(is_reason).peekable();
    let mut fixed = Fixed {
        kept: 0,
        dropped: 0,
    };
    for index in 0..file.len() {
        let mut problems = Vec::new();
        let mut id = "";
        while let Some(finding) = findings.next_if(|finding| finding.record == index) {
            id = &finding.id;
            problems.push(&finding.problem);
        }
        if problems.is_empty() {
            let raw = file.raw(index)?;
            records
                .push(&one_line(&raw))
                .map_err(io(out.as_ref(), "write"))?;
            fixed.kept += 1;
        } else {
            let line = serde_json::to_string(&Dropped {
                record: index,
                id,
                problems,
            })
            .expect("strings, numbers and their lists always have a JSON text");
            let written = writeln!(list, "{line}");
            list.check(written)?;
            fixed.dropped += 1;
        }
        if (index + 1) % 16_384 == 0 || index + 1 == file.len() {
            progress(index as u64 + 1, file.len() as u64);
        }
    }
    records.finish().map_err(io(out.as_ref(), "write"))?;
    if fixed.kept == 0 {
        return Err(crate::DataError::NotRecords {
            path: file.path().to_owned(),
            what: "no record of it would be kept: the copy would be empty",
        });
    }
    cleaned.finish()?;
    list.finish()?;
    Ok(fixed)
}
