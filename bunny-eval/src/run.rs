//! Asks questions and keeps the answers: one line an answer, on the disk as soon as it is known.
//!
//! A run that ends half way goes on where it stood, and its file ends with the same bytes. What is
//! stored must have been asked as it would be now: the same prompt, pictures, options and model.

mod ahead;
mod marks;
mod merge;
mod row;
mod shard;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{EvalError, Failure, Result};
use crate::facts::blob_id;
use crate::question::{PictureRef, Question, QuestionId};
use ahead::Ahead;
use marks::Marks;

pub use merge::{Merged, merge};
pub use shard::{Shard, ShardError};

/// What changes an answer besides the question and the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// The most tokens of an answer.
    pub max_new_tokens: usize,
    /// Further settings, by name: whatever the model would answer otherwise with.
    #[serde(flatten)]
    pub more: BTreeMap<String, String>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What rows call it: `model_id`.
    pub name: String,
    /// What tells its weights from others, such as a hash; also its number type.
    pub fingerprint: String,
}

/// A question as it is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its place among those that are asked together, from 0.
    pub place: usize,
    /// What names it, for messages.
    pub id: QuestionId,
    /// The whole prompt, `<image>` where the picture goes.
    pub prompt: String,
    /// The pictures, as they are encoded.
    pub pictures: Vec<Arc<[u8]>>,
    /// What the benchmark calls them, for messages.
    pub picture_names: Vec<String>,
}

impl Asked {
    /// The question and its pictures by name, for messages.
    pub fn told(&self) -> String {
        let id = &self.id;
        match &self.picture_names[..] {
            [] => format!("question_id {id}"),
            names => format!("question_id {id} ({})", names.join(", ")),
        }
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The decoded text, the end of text left out.
    pub text: String,
    /// How many tokens it has.
    pub tokens: usize,
    /// Whether it ended because it had as many tokens as it may.
    pub is_cut: bool,
}

/// Something that answers questions: an engine, a server, a list.
pub trait Answerer {
    /// Who it is.
    fn model(&self) -> Model;

    /// Answers some questions together, each once, in any order; `done` takes the place of each
    /// and what was answered. The same question must get the same answer in any company.
    ///
    /// # Errors
    /// What keeps it from answering; and that of `done`, after which it must stop.
    fn answer(
        &mut self,
        asked: Vec<Asked>,
        options: &Options,
        done: &mut dyn FnMut(usize, Reply) -> Result<()>,
    ) -> Result<(), Failure>;
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Answers that are known, those included that wait for their turn in the file.
    pub done: usize,
    /// Of how many.
    pub total: usize,
    /// How many were known when the run began.
    pub before: usize,
}

/// What is asked, and how.
pub struct Job<'a> {
    /// The questions, in the order of the file.
    pub questions: &'a [Question],
    /// The whole prompt of a question.
    pub prompt: &'a dyn Fn(&Question) -> String,
    /// The bytes of a picture.
    pub picture: &'a dyn Fn(&PictureRef) -> Result<Arc<[u8]>>,
    /// What is kept of an answer's text: scripts strip it, or do not.
    pub clean: &'a dyn Fn(&str) -> String,
    /// What changes answers.
    pub options: Options,
    /// How many questions are handed over together; they are sorted by length within.
    pub window: usize,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("questions", &self.questions.len())
            .field("options", &self.options)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// The questions that are handed over together, where nothing else is asked for.
pub const WINDOW: usize = 256;

/// Asks what the file at `path` does not hold yet, and appends the answers in the questions' order.
/// One that is known before its turn waits in a file beside it, `path` with `.ahead` behind.
///
/// # Errors
/// When a stored row was asked otherwise ([`EvalError::Stored`]), another run writes the file, a
/// picture or the file cannot be read or written, or the model fails.
pub fn run(
    path: &Path,
    job: &Job<'_>,
    answerer: &mut dyn Answerer,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut own = Own::open(path)?;
    let file = &mut own.0;
    let model = answerer.model();
    let mut marks = Marks::new(job, &model);
    let mut first = stored(file, path, job, &model, &mut marks)?;
    let in_file = first;
    let mut ahead = Ahead::open(path, |place, line| {
        let question = job.questions.get(place).filter(|_| place >= in_file);
        let (Some(question), Ok(row)) = (question, row::read(line.as_bytes())) else {
            return Ok(false);
        };
        let picture = |at: usize| (job.picture)(&question.pictures[at]);
        let now = marks.of(question, &(job.prompt)(question), picture)?;
        Ok(row.question_id == question.id && row.asked == now && row.model_id == model.name)
    })?;
    let before = in_file + ahead.len();
    let total = job.questions.len();
    progress(Progress {
        done: before,
        total,
        before,
    });
    let mut done = before;
    for window in job.questions[in_file..].chunks(job.window.max(1)) {
        let mut asked = Vec::with_capacity(window.len());
        let mut asked_with = Vec::with_capacity(window.len());
        let mut waiting = BTreeMap::new();
        for (place, question) in window.iter().enumerate() {
            let prompt = (job.prompt)(question);
            let pictures: Result<Vec<_>> = question.pictures.iter().map(job.picture).collect();
            let pictures = pictures?;
            asked_with.push(marks.of(question, &prompt, |at| Ok(pictures[at].clone()))?);
            match ahead.take(first + place) {
                Some(line) => {
                    waiting.insert(place, line);
                }
                None => asked.push(Asked {
                    place,
                    id: question.id.clone(),
                    prompt,
                    pictures,
                    picture_names: names_of(question),
                }),
            }
        }
        // Alike lengths stand together; of one length those of one picture stay neighbours.
        asked.sort_by_key(|one| one.prompt.len());
        let mut next = append_ready(file, path, &mut waiting, 0)?;
        let mut keep = |place: usize, reply: Reply| -> Result<()> {
            if place >= window.len() || place < next || waiting.contains_key(&place) {
                return Err(EvalError::Unasked { place });
            }
            let text = (job.clean)(&reply.text);
            let line = row::line(&window[place], &text, &reply, &asked_with[place], &model);
            if place > next {
                ahead.keep(first + place, &line)?;
            }
            waiting.insert(place, line);
            next = append_ready(file, path, &mut waiting, next)?;
            done += 1;
            progress(Progress {
                done,
                total,
                before,
            });
            Ok(())
        };
        let answered = if asked.is_empty() {
            Ok(())
        } else {
            answerer.answer(asked, &job.options, &mut keep)
        };
        answered.map_err(|source| match source.downcast::<EvalError>() {
            Ok(error) => *error,
            Err(source) => EvalError::Answerer { source },
        })?;
        if next < window.len() {
            return Err(EvalError::Unanswered {
                id: window[next].id.clone(),
            });
        }
        ahead.clear()?;
        first += window.len();
    }
    // A run may have been killed before it came to that.
    ahead.clear()?;
    file.sync_all().map_err(EvalError::io(path, "write"))
}

/// A file that one run writes.
struct Own(File);

impl Own {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(EvalError::io(path, "open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(EvalError::Busy {
                path: path.to_owned(),
            }),
            // Some file systems have no locks.
            Err(std::fs::TryLockError::Error(_)) => Ok(Self(file)),
        }
    }
}

impl Drop for Own {
    /// Closing is not enough: a process that another thread starts holds a copy of every open
    /// file, and with it the lock, until it has become another program.
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

fn names_of(question: &Question) -> Vec<String> {
    let names = question.pictures.iter().map(|picture| picture.name.clone());
    names.collect()
}

/// Appends the lines from `next` on until one is not known yet: that one.
fn append_ready(
    file: &mut File,
    path: &Path,
    waiting: &mut BTreeMap<usize, String>,
    mut next: usize,
) -> Result<usize> {
    while let Some(line) = waiting.remove(&next) {
        append(file, path, &line)?;
        next += 1;
    }
    Ok(next)
}

/// One line, in one write, on its way to the disk.
fn append(file: &mut File, path: &Path, line: &str) -> Result<()> {
    file.write_all(line.as_bytes())
        .and_then(|()| file.flush())
        .map_err(EvalError::io(path, "write"))
}

/// How many questions the file answers already. A last line without an end is taken away: what
/// wrote it was killed.
fn stored(
    file: &mut File,
    path: &Path,
    job: &Job<'_>,
    model: &Model,
    marks: &mut Marks,
) -> Result<usize> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .map_err(EvalError::io(path, "read"))?;
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> = text[..whole]
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    for (at, line) in lines.iter().enumerate() {
        let differs = |what, stored: String, now: String| EvalError::Stored {
            path: path.to_owned(),
            line: at + 1,
            what,
            stored,
            now,
        };
        let Some(question) = job.questions.get(at) else {
            let more = format!("{} rows", lines.len());
            return Err(differs("questions", more, job.questions.len().to_string()));
        };
        let row = row::read(line).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            line: Some(at + 1),
            expected: "a row that such a run wrote (question_id, model_id, metadata.asked)",
            source,
        })?;
        if row.question_id != question.id {
            return Err(differs(
                "questions",
                row.question_id.to_string(),
                question.id.to_string(),
            ));
        }
        let picture = |at: usize| (job.picture)(&question.pictures[at]);
        let now = marks.of(question, &(job.prompt)(question), picture)?;
        if let Some((what, stored, now)) = row.asked.difference(&now) {
            return Err(differs(what, stored.to_owned(), now.to_owned()));
        }
        if row.model_id != model.name {
            return Err(differs("names of models", row.model_id, model.name.clone()));
        }
    }
    // Not before: what is refused stays as it is.
    if whole < text.len() {
        file.set_len(whole as u64)
            .and_then(|()| file.seek(std::io::SeekFrom::End(0)))
            .map_err(EvalError::io(path, "write"))?;
    }
    Ok(lines.len())
}

/// What tells some text from another: its blob id, of which a part is enough.
fn short(text: &[u8]) -> String {
    let mut id = blob_id(text);
    id.truncate(16);
    id
}
