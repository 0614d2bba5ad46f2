//! The single checks: of one record, of its id among the others, of the pictures.

use rayon::prelude::*;

use super::{Finding, Problem, RecordStage, ValidateOptions};
use crate::Progress;
use crate::error::{DataError, Result};
use crate::images::{ImageSource, PictureCheck, faults};
use crate::record::{IMAGE_PLACEHOLDER, Record, RecordFile, Role};
use bunny_base::random::mix_bytes;

/// Pictures looked at together.
const PIECE: usize = 1024;

/// 128 bits of a text, which stand for it where millions are compared.
type TextHash = (u64, u64);

fn text_hash(text: &str) -> TextHash {
    (mix_bytes(3, text.as_bytes()), mix_bytes(4, text.as_bytes()))
}

/// What one record gives.
#[derive(Debug)]
pub(super) struct Looked {
    pub id: String,
    pub problems: Vec<Problem>,
    pub id_hash: Option<TextHash>,
    pub picture_hashes: Vec<TextHash>,
}

/// Looks at one record by itself.
pub(super) fn look(
    file: &RecordFile,
    index: usize,
    options: &ValidateOptions<'_>,
) -> Result<Looked> {
    let record = match file.get(index) {
        Ok(record) => record,
        Err(DataError::Record { source, .. }) => {
            return Ok(Looked {
                id: String::new(),
                problems: vec![Problem::NotARecord {
                    why: source.to_string(),
                }],
                id_hash: None,
                picture_hashes: Vec::new(),
            });
        }
        Err(error) => return Err(error),
    };
    let mut problems = Vec::new();
    turns(&record, &mut problems);
    placeholders(&record, &mut problems);
    if options.stage == RecordStage::Pretrain && !is_caption(&record) {
        problems.push(Problem::NotACaption);
    }
    if let (Some(counter), Some(limit)) = (options.tokens, options.max_tokens) {
        let tokens = counter.count(&record);
        if tokens > limit {
            problems.push(Problem::TooLong { tokens, limit });
        }
    }
    let picture_hashes = match options.images {
        Some(_) => record.images().iter().map(|path| text_hash(path)).collect(),
        None => Vec::new(),
    };
    let id_hash = (!record.id.is_empty()).then(|| text_hash(&record.id));
    Ok(Looked {
        id: record.id,
        problems,
        id_hash,
        picture_hashes,
    })
}

/// A picture, a turn with its place, and what the picture shows.
fn is_caption(record: &Record) -> bool {
    record.image.is_some()
        && matches!(&record.conversations[..], [human, gpt]
            if human.from == Role::Human && gpt.from == Role::Gpt && human.value.contains(IMAGE_PLACEHOLDER))
}

/// Who speaks when, and whether anything is said.
fn turns(record: &Record, problems: &mut Vec<Problem>) {
    // The system may speak first; what is said then begins behind it.
    let start = spoken_from(record);
    let turns = &record.conversations;
    let Some(last) = turns[start..].last() else {
        problems.push(Problem::NoTurns);
        return;
    };
    for (at, turn) in turns.iter().enumerate().skip(start) {
        if !matches!(turn.from, Role::Human | Role::Gpt) {
            problems.push(Problem::UnknownRole {
                turn: at,
                role: turn.from.to_string(),
            });
        } else if at > 0 && turns[at - 1].from == turn.from {
            problems.push(Problem::NotAlternating { turn: at });
        }
        if turn.value.trim().is_empty() {
            problems.push(Problem::EmptyTurn { turn: at });
        }
    }
    match &turns[start..] {
        [only] if only.from == Role::Gpt => problems.push(Problem::NoAnswer),
        [first, ..] if first.from == Role::Gpt => problems.push(Problem::StartsWithAnswer),
        _ => {}
    }
    if last.from == Role::Human {
        problems.push(Problem::EndsWithoutAnswer);
    }
}

/// Where people begin to speak: behind what the system says first.
fn spoken_from(record: &Record) -> usize {
    let first = record.conversations.first();
    usize::from(first.is_some_and(|turn| turn.from == Role::System))
}

/// Whether the pictures have their places in the text. The loader gathers the placeholders of a turn
/// into one at its start, and leaves out an answer that starts a conversation.
fn placeholders(record: &Record, problems: &mut Vec<Problem>) {
    let start = spoken_from(record);
    let with: Vec<usize> = record
        .conversations
        .iter()
        .enumerate()
        .skip(start)
        .filter(|(at, turn)| *at > start || turn.from != Role::Gpt)
        .filter(|(_, turn)| turn.value.contains(IMAGE_PLACEHOLDER))
        .map(|(at, _)| at)
        .collect();
    if record.image.is_none() {
        if !with.is_empty() {
            problems.push(Problem::PlaceholderWithoutPicture);
        }
        return;
    }
    for at in &with {
        if record.conversations[*at].from == Role::Gpt {
            problems.push(Problem::PlaceholderInAnswer { turn: *at });
        }
    }
    let (placeholders, pictures) = (with.len(), record.images().len());
    if placeholders != pictures {
        problems.push(Problem::PlaceholderCount {
            placeholders,
            pictures,
        });
    }
}

/// A finding for every record whose id an earlier one has.
pub(super) fn duplicates(
    file: &RecordFile,
    mut ids: Vec<(u64, u64, usize)>,
) -> Result<Vec<Finding>> {
    ids.par_sort_unstable();
    let mut again: Vec<(usize, usize)> = ids
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .flat_map(|same| same[1..].iter().map(|(_, _, record)| (*record, same[0].2)))
        .collect();
    again.sort_unstable();
    again
        .into_iter()
        .map(|(record, first)| {
            Ok(Finding {
                record,
                id: file.get(record)?.id,
                problem: Problem::DuplicateId { first },
            })
        })
        .collect()
}

/// The pictures of all records, each looked at once however many records show it.
#[derive(Debug, Default)]
pub(super) struct Pictures(Vec<Shown>);

/// One picture in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    name: TextHash,
    record: usize,
    at: usize,
}

impl Pictures {
    /// Notes the pictures of a record.
    pub fn add(&mut self, record: usize, names: Vec<TextHash>) {
        self.0.extend(
            names
                .into_iter()
                .enumerate()
                .map(|(at, name)| Shown { name, record, at }),
        );
    }

    /// Looks at each; gives the findings and how many distinct pictures there are.
    pub fn look(
        mut self,
        file: &RecordFile,
        images: &ImageSource,
        check: PictureCheck,
        progress: Progress<'_>,
    ) -> Result<(Vec<Finding>, usize)> {
        self.0.par_sort_unstable();
        let mut groups: Vec<&[Shown]> = self.0.chunk_by(|a, b| a.name == b.name).collect();
        // In the order of the file, for the disk's sake.
        groups.par_sort_unstable_by_key(|group| (group[0].record, group[0].at));
        let mut findings = Vec::new();
        for (piece, part) in groups.chunks(PIECE).enumerate() {
            let found: Vec<Vec<Finding>> = part
                .par_iter()
                .map(|group| {
                    let record = file.get(group[0].record)?;
                    let path = &record.images()[group[0].at];
                    let problems = look_at(images, path, check)?;
                    let mut findings = Vec::new();
                    if !problems.is_empty() {
                        for shown in *group {
                            let id = file.get(shown.record)?.id;
                            findings.extend(problems.iter().map(|problem| Finding {
                                record: shown.record,
                                id: id.clone(),
                                problem: problem.clone(),
                            }));
                        }
                    }
                    Ok(findings)
                })
                .collect::<Result<_>>()?;
            findings.extend(found.into_iter().flatten());
            progress((piece * PIECE + part.len()) as u64, groups.len() as u64);
        }
        Ok((findings, groups.len()))
    }
}

fn look_at(images: &ImageSource, path: &str, check: PictureCheck) -> Result<Vec<Problem>> {
    let missing = || {
        vec![Problem::MissingPicture {
            path: path.to_owned(),
        }]
    };
    if check == PictureCheck::Exist {
        return Ok(if images.contains(path) {
            Vec::new()
        } else {
            missing()
        });
    }
    match images.read(path) {
        Ok(bytes) => Ok(faults(path, &bytes, check)
            .into_iter()
            .map(|fault| Problem::BadPicture {
                path: path.to_owned(),
                fault,
            })
            .collect()),
        Err(DataError::NoPicture { .. }) => Ok(missing()),
        Err(error) => Err(error),
    }
}
