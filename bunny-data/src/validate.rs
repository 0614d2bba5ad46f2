//! What is wrong with a dataset, before a training run finds out.

mod check;
mod fix;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use crate::Progress;
use crate::error::{Result, one_line, short};
use crate::images::{ImageSource, PictureCheck, PictureFault};
use crate::record::{Record, RecordFile, Role};

pub use fix::{Fixed, write_fixed};

/// Counts the tokens of a record's conversation; filled in by who has the tokenizer.
pub trait TokenCounter: Sync {
    /// How many tokens the record takes in training, pictures counted as their features.
    fn count(&self, record: &Record) -> usize;
}

impl<F: Fn(&Record) -> usize + Sync> TokenCounter for F {
    fn count(&self, record: &Record) -> usize {
        self(record)
    }
}

/// What to look at.
#[derive(Default)]
#[non_exhaustive]
pub struct ValidateOptions<'a> {
    /// Which stage the records are for.
    pub stage: RecordStage,
    /// Where the pictures are; without it they are not looked at.
    pub images: Option<&'a ImageSource>,
    /// How closely pictures are looked at.
    pub pictures: PictureCheck,
    /// Counts tokens; without it lengths are not looked at.
    pub tokens: Option<&'a dyn TokenCounter>,
    /// Conversations of more tokens are too long (the reference cuts them).
    pub max_tokens: Option<usize>,
}

impl std::fmt::Debug for ValidateOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidateOptions")
            .field("stage", &self.stage)
            .field("images", &self.images.map(ImageSource::path))
            .field("pictures", &self.pictures)
            .field("tokens", &self.tokens.is_some())
            .field("max_tokens", &self.max_tokens)
            .finish()
    }
}

/// Which stage the records are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordStage {
    /// Conversations.
    #[default]
    Finetune,
    /// Captions: a turn with the picture, and one that says what it shows.
    Pretrain,
}

/// One thing that is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// It is not the JSON of a record.
    NotARecord {
        /// What the JSON reader found.
        why: String,
    },
    /// It has no turn.
    NoTurns,
    /// Someone speaks who is neither `human` nor `gpt`.
    UnknownRole {
        /// Which turn, from 0.
        turn: usize,
        /// Who.
        role: String,
    },
    /// The first turn is not the person's; the reference leaves such a turn out.
    StartsWithAnswer,
    /// Two turns of the same side follow each other.
    NotAlternating {
        /// The second of them, from 0.
        turn: usize,
    },
    /// The last turn is the person's: there is nothing to learn from it.
    EndsWithoutAnswer,
    /// Its only turn is an answer, which is left out as one that starts a conversation.
    NoAnswer,
    /// A turn says nothing.
    EmptyTurn {
        /// Which turn, from 0.
        turn: usize,
    },
    /// There are more or fewer turns with `<image>` than pictures: however often it stands in a turn,
    /// it is the place of one.
    PlaceholderCount {
        /// Turns with `<image>`.
        placeholders: usize,
        /// Pictures of the record.
        pictures: usize,
    },
    /// `<image>` in a record without pictures, where it stays as text.
    PlaceholderWithoutPicture,
    /// `<image>` in an answer.
    PlaceholderInAnswer {
        /// Which turn, from 0.
        turn: usize,
    },
    /// Not a caption: pre-training takes a picture, a turn with `<image>` and one answer.
    NotACaption,
    /// An earlier record has the same id.
    DuplicateId {
        /// The first record of this id.
        first: usize,
    },
    /// The conversation is too long.
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A picture is not there.
    MissingPicture {
        /// Its path.
        path: String,
    },
    /// A picture cannot be used, or is not what its name says.
    BadPicture {
        /// Its path.
        path: String,
        /// What is wrong with it.
        #[serde(flatten)]
        fault: PictureFault,
    },
}

impl Problem {
    /// Its name in reports and on the command line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotARecord { .. } => "not_a_record",
            Self::NoTurns => "no_turns",
            Self::UnknownRole { .. } => "unknown_role",
            Self::StartsWithAnswer => "starts_with_answer",
            Self::NotAlternating { .. } => "not_alternating",
            Self::EndsWithoutAnswer => "ends_without_answer",
            Self::NoAnswer => "no_answer",
            Self::EmptyTurn { .. } => "empty_turn",
            Self::PlaceholderCount { .. } => "placeholder_count",
            Self::PlaceholderWithoutPicture => "placeholder_without_picture",
            Self::PlaceholderInAnswer { .. } => "placeholder_in_answer",
            Self::NotACaption => "not_a_caption",
            Self::DuplicateId { .. } => "duplicate_id",
            Self::TooLong { .. } => "too_long",
            Self::MissingPicture { .. } => "missing_picture",
            Self::BadPicture { fault, .. } => match fault {
                PictureFault::Truncated => "truncated_picture",
                PictureFault::NotAPicture => "not_a_picture",
                PictureFault::Mislabelled { .. } => "mislabelled_picture",
                PictureFault::Undecodable { .. } => "undecodable_picture",
            },
        }
    }

    /// Whether training stops on such a record or learns nothing or the wrong thing from it; the
    /// others are worth knowing, and are kept by a fix unless it is told otherwise.
    pub fn is_error(&self) -> bool {
        !matches!(
            self,
            Self::StartsWithAnswer
                | Self::PlaceholderWithoutPicture
                | Self::DuplicateId { .. }
                | Self::TooLong { .. }
                | Self::BadPicture {
                    fault: PictureFault::Mislabelled { .. },
                    ..
                }
        )
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotARecord { why } => write!(f, "not a record: {}", one_line(why)),
            Self::NoTurns => write!(f, "it has no turn"),
            Self::UnknownRole { turn, role } if role == Role::System.as_str() => write!(
                f,
                "turn {turn}: the system speaks first or not at all: put it into the question, or leave \
                 it out"
            ),
            Self::UnknownRole { turn, role } => {
                write!(f, "turn {turn}: unknown role `{}`", one_line(role))
            }
            Self::StartsWithAnswer => write!(f, "the first turn is an answer, and is left out"),
            Self::NotAlternating { turn } => {
                write!(f, "turn {turn}: the same side as the turn before")
            }
            Self::EndsWithoutAnswer => write!(f, "the last turn has no answer"),
            Self::NoAnswer => write!(f, "the only turn is an answer, and is left out"),
            Self::EmptyTurn { turn } => write!(f, "turn {turn}: empty"),
            Self::PlaceholderCount {
                placeholders,
                pictures,
            } => match (placeholders, pictures) {
                (0, 1) => write!(f, "no `<image>` for its picture"),
                (_, 1) => write!(f, "{placeholders} turns with `<image>`, and one picture"),
                _ => write!(
                    f,
                    "{placeholders} turns with `<image>` for {pictures} pictures"
                ),
            },
            Self::PlaceholderWithoutPicture => write!(f, "`<image>` without a picture"),
            Self::PlaceholderInAnswer { turn } => write!(f, "turn {turn}: `<image>` in an answer"),
            Self::NotACaption => write!(f, "not a picture, a turn with `<image>` and its caption"),
            Self::DuplicateId { first } => write!(f, "record {first} has the same id"),
            Self::TooLong { tokens, limit } => write!(f, "{tokens} tokens, {limit} at most"),
            Self::MissingPicture { path } => write!(f, "{}: not there", short(path)),
            Self::BadPicture { path, fault } => {
                let path = short(path);
                match fault {
                    PictureFault::Truncated => write!(f, "{path}: cut short"),
                    PictureFault::NotAPicture => write!(f, "{path}: not a picture"),
                    PictureFault::Mislabelled { is } => write!(f, "{path}: it is a {is}"),
                    PictureFault::Undecodable { why } => {
                        write!(f, "{path}: cannot be decoded: {}", one_line(why))
                    }
                }
            }
        }
    }
}

/// The kinds of [`Problem`]s that are no errors, which a fix may be told to drop as well.
pub const WARNINGS: [&str; 5] = [
    "starts_with_answer",
    "placeholder_without_picture",
    "duplicate_id",
    "too_long",
    "mislabelled_picture",
];

/// One problem of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which record, from 0.
    pub record: usize,
    /// Its id.
    pub id: String,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What was found in a file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// 1.
    pub format_version: u32,
    /// The file.
    pub file: PathBuf,
    /// Records in it.
    pub records: usize,
    /// Distinct pictures that were looked at.
    pub pictures: usize,
    /// Records with at least one error.
    pub records_with_errors: usize,
    /// How often each kind of problem was found.
    pub counts: BTreeMap<&'static str, usize>,
    /// Every problem, by record.
    pub findings: Vec<Finding>,
}

/// Records looked at together.
const PIECE: usize = 16_384;

/// Looks at every record of `file`, on all cores. The report does not depend on their number.
///
/// # Errors
/// Only what keeps the file from being read at all; what is wrong with single records, or with
/// their pictures, is in the report.
pub fn validate(
    file: &RecordFile,
    options: &ValidateOptions<'_>,
    progress: Progress<'_>,
) -> Result<Report> {
    let mut findings = Vec::new();
    let mut ids: Vec<(u64, u64, usize)> = Vec::new();
    let mut pictures = check::Pictures::default();
    for start in (0..file.len()).step_by(PIECE) {
        let end = (start + PIECE).min(file.len());
        let looked: Vec<check::Looked> = (start..end)
            .into_par_iter()
            .map(|index| check::look(file, index, options))
            .collect::<Result<_>>()?;
        for (index, looked) in (start..end).zip(looked) {
            findings.extend(looked.problems.into_iter().map(|problem| Finding {
                record: index,
                id: looked.id.clone(),
                problem,
            }));
            ids.extend(looked.id_hash.map(|(a, b)| (a, b, index)));
            pictures.add(index, looked.picture_hashes);
        }
        progress(end as u64, file.len() as u64);
    }
    findings.extend(check::duplicates(file, ids)?);
    let mut looked_at = 0;
    if let Some(images) = options
        .images
        .filter(|_| options.pictures > PictureCheck::None)
    {
        let (found, distinct) = pictures.look(file, images, options.pictures, progress)?;
        findings.extend(found);
        looked_at = distinct;
    }
    // Stable: of one record the problems of its turns come first, in the order of the turns.
    findings.sort_by_key(|finding| finding.record);
    let mut counts = BTreeMap::new();
    for finding in &findings {
        *counts.entry(finding.problem.kind()).or_default() += 1;
    }
    let mut wrong: Vec<usize> = findings
        .iter()
        .filter(|finding| finding.problem.is_error())
        .map(|finding| finding.record)
        .collect();
    wrong.dedup();
    Ok(Report {
        format_version: 1,
        file: file.path().to_owned(),
        records: file.len(),
        pictures: looked_at,
        records_with_errors: wrong.len(),
        counts,
        findings,
    })
}
