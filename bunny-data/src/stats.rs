//! What is in a dataset: where its records come from, how long they are, how large their pictures.

mod distribution;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use crate::Progress;
use crate::error::{DataError, Result};
use crate::images::{ImageSource, dimensions};
use crate::record::{Record, RecordFile, Role};
use crate::validate::TokenCounter;
use bunny_base::random::mix_bytes;

pub use distribution::{Bin, Distribution};

/// What to count.
#[non_exhaustive]
pub struct StatsOptions<'a> {
    /// Where the pictures are; without it their sizes are not looked at.
    pub images: Option<&'a ImageSource>,
    /// How many of the distinct pictures are looked at, chosen by their names.
    pub picture_sample: usize,
    /// Counts tokens; without it only words are counted.
    pub tokens: Option<&'a dyn TokenCounter>,
}

impl Default for StatsOptions<'_> {
    fn default() -> Self {
        Self {
            images: None,
            picture_sample: 10_000,
            tokens: None,
        }
    }
}

impl std::fmt::Debug for StatsOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatsOptions")
            .field("images", &self.images.map(ImageSource::path))
            .field("picture_sample", &self.picture_sample)
            .field("tokens", &self.tokens.is_some())
            .finish()
    }
}

/// What is in a dataset. [`to_text`](Self::to_text) and [`to_html`](Self::to_html) write it for
/// people, serde for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// 1.
    pub format_version: u32,
    /// The file.
    pub file: PathBuf,
    /// Records in it.
    pub records: usize,
    /// Of them, those that are no records and are not counted below.
    pub unreadable: usize,
    /// Records by how many pictures they have.
    pub modality: Modality,
    /// Records by what their id starts with, most first.
    pub id_prefixes: Vec<Count>,
    /// Records by the folder of their first picture, most first.
    pub image_roots: Vec<Count>,
    /// Turns of a record.
    pub turns: Distribution,
    /// Words of a record, all turns together.
    pub words: Distribution,
    /// Words of its answers.
    pub answer_words: Distribution,
    /// Tokens of a record, where a tokenizer was given.
    pub tokens: Option<Distribution>,
    /// The pictures, where their folder was given.
    pub pictures: Option<PictureStats>,
}

/// Records by how many pictures they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Modality {
    /// None.
    pub text: usize,
    /// One.
    pub one_picture: usize,
    /// Two or more.
    pub several_pictures: usize,
}

/// How often something was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What.
    pub name: String,
    /// How often.
    pub count: usize,
}

/// The pictures of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PictureStats {
    /// Distinct pictures that the records name.
    pub distinct: usize,
    /// How many of them were looked at.
    pub sampled: usize,
    /// Of these, those that are missing or no pictures.
    pub unreadable: usize,
    /// Width, in pixels.
    pub width: Distribution,
    /// Height, in pixels.
    pub height: Distribution,
    /// The longer side in hundredths of the shorter one.
    pub aspect: Distribution,
}

/// Records looked at together.
const PIECE: usize = 16_384;
/// Names kept apart in a list; the rest is one entry.
const NAMES: usize = 40;

/// What one record adds.
struct Seen {
    prefix: String,
    root: Option<String>,
    pictures: Vec<u64>,
    turns: u32,
    words: u32,
    answer_words: u32,
    tokens: Option<u32>,
}

/// Counts over every record of `file`, on all cores.
///
/// # Errors
/// What keeps the file from being read; single records that are none are counted as unreadable.
pub fn stats(
    file: &RecordFile,
    options: &StatsOptions<'_>,
    progress: Progress<'_>,
) -> Result<Stats> {
    let (mut prefixes, mut roots) = (HashMap::new(), HashMap::new());
    let (mut turns, mut words, mut answers, mut tokens) = (vec![], vec![], vec![], vec![]);
    // Each distinct picture by the hash of its name, with the first place that names it.
    let mut pictures: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    let mut modality = Modality::default();
    let mut unreadable = 0;
    for start in (0..file.len()).step_by(PIECE) {
        let end = (start + PIECE).min(file.len());
        let seen: Vec<Option<Seen>> = (start..end)
            .into_par_iter()
            .map(|index| match file.get(index) {
                Ok(record) => Ok(Some(see(&record, options))),
                Err(DataError::Record { .. }) => Ok(None),
                Err(error) => Err(error),
            })
            .collect::<Result<_>>()?;
        for (index, seen) in (start..end).zip(seen) {
            let Some(seen) = seen else {
                unreadable += 1;
                continue;
            };
            match seen.pictures.len() {
                0 => modality.text += 1,
                1 => modality.one_picture += 1,
                _ => modality.several_pictures += 1,
            }
            *prefixes.entry(seen.prefix).or_insert(0) += 1;
            *roots
                .entry(seen.root.unwrap_or_else(|| "(no picture)".to_owned()))
                .or_insert(0) += 1;
            turns.push(seen.turns);
            words.push(seen.words);
            answers.push(seen.answer_words);
            tokens.extend(seen.tokens);
            for (at, picture) in seen.pictures.into_iter().enumerate() {
                pictures.entry(picture).or_insert((index, at));
            }
        }
        progress(end as u64, file.len() as u64);
    }
    Ok(Stats {
        format_version: 1,
        file: file.path().to_owned(),
        records: file.len(),
        unreadable,
        modality,
        id_prefixes: most_first(prefixes),
        image_roots: most_first(roots),
        turns: Distribution::of(turns),
        words: Distribution::of(words),
        answer_words: Distribution::of(answers),
        tokens: options.tokens.map(|_| Distribution::of(tokens)),
        pictures: options
            .images
            .map(|images| picture_stats(file, images, pictures, options.picture_sample, progress))
            .transpose()?,
    })
}

fn see(record: &Record, options: &StatsOptions<'_>) -> Seen {
    let answers = record
        .conversations
        .iter()
        .filter(|turn| turn.from == Role::Gpt);
    Seen {
        prefix: id_prefix(&record.id).to_owned(),
        root: record.images().first().map(|path| {
            path.split_once('/')
                .map_or(".", |(root, _)| root)
                .to_owned()
        }),
        pictures: record
            .images()
            .iter()
            .map(|path| mix_bytes(5, path.as_bytes()))
            .collect(),
        turns: count(record.conversations.len()),
        words: count(record.words()),
        answer_words: count(
            answers
                .map(|turn| turn.value.split_whitespace().count())
                .sum(),
        ),
        tokens: options.tokens.map(|tokens| count(tokens.count(record))),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What an id starts with, before its number: `llavav1.5_` of `llavav1.5_12`.
fn id_prefix(id: &str) -> &str {
    if id.is_empty() {
        return "(none)";
    }
    match id.trim_end_matches(|character: char| character.is_ascii_digit()) {
        "" => "(a number)",
        prefix => prefix,
    }
}

/// The most frequent names, and one entry for the rest.
fn most_first(counts: HashMap<String, usize>) -> Vec<Count> {
    let mut counts: Vec<Count> = counts
        .into_iter()
        .map(|(name, count)| Count { name, count })
        .collect();
    counts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    if counts.len() > NAMES {
        let rest = counts.split_off(NAMES);
        let count = rest.iter().map(|count| count.count).sum();
        counts.push(Count {
            name: format!("({} others)", rest.len()),
            count,
        });
    }
    counts
}

fn picture_stats(
    file: &RecordFile,
    images: &ImageSource,
    pictures: BTreeMap<u64, (usize, usize)>,
    sample: usize,
    progress: Progress<'_>,
) -> Result<PictureStats> {
    let distinct = pictures.len();
    // The lowest hashes are as good as chance, and the same on every run.
    let mut chosen: Vec<(usize, usize)> = pictures.into_values().take(sample).collect();
    chosen.sort_unstable();
    let mut sizes = Vec::with_capacity(chosen.len());
    for piece in chosen.chunks(1024) {
        let looked: Vec<Option<(u32, u32)>> = piece
            .par_iter()
            .map(|(record, at)| {
                let record = file.get(*record)?;
                match images.read(&record.images()[*at]) {
                    Ok(bytes) => Ok(dimensions(&bytes)),
                    Err(DataError::NoPicture { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .collect::<Result<_>>()?;
        sizes.extend(looked);
        progress(sizes.len() as u64, chosen.len() as u64);
    }
    let read: Vec<(u32, u32)> = sizes
        .iter()
        .flatten()
        .copied()
        .filter(|(w, h)| *w > 0 && *h > 0)
        .collect();
    let aspect = |(width, height): &(u32, u32)| {
        let (long, short) = (u64::from(*width.max(height)), u64::from(*width.min(height)));
        u32::try_from(long * 100 / short).unwrap_or(u32::MAX)
    };
    Ok(PictureStats {
        distinct,
        sampled: sizes.len(),
        unreadable: sizes.len() - read.len(),
        width: Distribution::of(read.iter().map(|size| size.0).collect()),
        height: Distribution::of(read.iter().map(|size| size.1).collect()),
        aspect: Distribution::of(read.iter().map(aspect).collect()),
    })
}
