//! The parts of several machines, brought together in the questions' order.

use std::path::{Path, PathBuf};

use crate::answer::{Answers, BrokenLines, matched};
use crate::error::{EvalError, Result};
use crate::python;
use crate::question::Question;

/// Answers of several files as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The lines, in the questions' order, as they stood in their files.
    pub text: String,
    /// How many there are.
    pub rows: usize,
}

/// Brings files of answers together: every question once.
///
/// # Errors
/// [`EvalError::Overlap`] names the first question with two answers and their files,
/// [`EvalError::Gap`] the first without one; otherwise as for reading a file of answers.
pub fn merge(
    benchmark: impl std::fmt::Display,
    questions: &[Question],
    files: &[PathBuf],
    same: impl Fn(&Question, &str) -> bool,
) -> Result<Merged> {
    let mut found: Vec<Option<(String, &Path)>> = vec![None; questions.len()];
    for file in files {
        let bytes = std::fs::read(file).map_err(EvalError::io(file, "read"))?;
        let answers = Answers::parse(file, &bytes, BrokenLines::Refuse)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = python::lines(&text).collect();
        for (question, answer) in matched(&benchmark, questions, &answers, &same)?.rows {
            let line = lines.get(answer.line - 1).copied().unwrap_or_default();
            if let Some((_, other)) = &found[question] {
                return Err(EvalError::Overlap {
                    id: questions[question].id.clone(),
                    first: other.to_path_buf(),
                    second: file.clone(),
                });
            }
            found[question] = Some((line.to_owned(), file));
        }
    }
    let missing: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_none()).collect();
    if let Some(first) = missing.first() {
        return Err(EvalError::Gap {
            missing: missing.len(),
            questions: questions.len(),
            id: questions[*first].id.clone(),
            place: first + 1,
        });
    }
    let lines = found.iter().flatten().map(|(line, _)| format!("{line}\n"));
    Ok(Merged {
        text: lines.collect(),
        rows: questions.len(),
    })
}
