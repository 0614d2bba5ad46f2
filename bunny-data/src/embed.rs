//! Pictures and captions to embeddings: what a coreset is selected by.
//!
//! ```text
//! tars · a folder · Parquet · records ─► parts ─► read ─► prepare (threads) ─► Encoder ─► OUT/
//!
//! OUT/img_emb/img_emb_3.npy        float16, rows of length 1          one row a pair,
//! OUT/text_emb/text_emb_3.npy      the same of captions               in the order in which
//! OUT/metadata/metadata_3.parquet  image_path, caption, and more      they were read
//! OUT/stats/part_3.json            what came of part 3, pictures that are broken among it
//! OUT/embed.json                   what all of it was made from
//! ```
//!
//! Names and types are clip-retrieval's, so whatever reads its folders reads these. A part is some whole
//! files; its results appear whole, and a run that was ended goes on behind the last part that is there,
//! with the same bytes as one that was not.

mod metadata;
mod part;
mod source;

use std::error::Error;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use source::{EmbedSource, SourceOptions};

use crate::error::{DataError, Result};
use crate::whole::write_whole;
use bunny_base::random::{mix_all, mix_bytes};

/// What goes wrong in an encoder.
pub type EncoderError = Box<dyn Error + Send + Sync>;

/// A model that makes vectors of pictures and captions, handed in: this crate knows none.
pub trait Encoder: Sync {
    /// A picture as the model reads it.
    type Picture: Send;

    /// What the vectors depend on: the model's weights and the numbers it computes with, in words.
    fn fingerprint(&self) -> &str;

    /// Numbers in a vector.
    fn dims(&self) -> usize;

    /// Makes of a file's bytes what the model reads; called from many threads at once.
    ///
    /// # Errors
    /// When the bytes are no picture. It is left out and listed, and the work goes on.
    fn prepare(&self, bytes: &[u8]) -> Result<Self::Picture, EncoderError>;

    /// The vectors of pictures, of whatever length, `[pictures, dims]`.
    ///
    /// # Errors
    /// When the model fails, which ends the work.
    fn pictures(&self, pictures: &[Self::Picture]) -> Result<Vec<f32>, EncoderError>;

    /// The vectors of captions, of whatever length, `[captions, dims]`.
    ///
    /// # Errors
    /// As for pictures.
    fn captions(&self, captions: &[String]) -> Result<Vec<f32>, EncoderError>;
}

/// How pictures are embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Pairs that are encoded together.
    pub batch: usize,
    /// The first pairs alone, so many of them.
    pub limit: Option<u64>,
    /// Embeddings that were made of something else are removed first.
    pub force: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            batch: 64,
            limit: None,
            force: false,
        }
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbedProgress {
    /// The part under way, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
    /// Pairs that are embedded, those of an earlier run included.
    pub pairs: u64,
}

/// A picture that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenPicture {
    /// Its key.
    pub image_path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What came of a part, or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedCounts {
    /// Rows that were written.
    pub pairs: u64,
    /// Pictures that could not be read.
    pub broken: u64,
    /// Pictures that have no caption.
    pub without_caption: u64,
    /// Captions that have no picture.
    pub without_picture: u64,
}

impl EmbedCounts {
    fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.broken += other.broken;
        self.without_caption += other.without_caption;
        self.without_picture += other.without_picture;
    }
}

/// What came of all: `embed.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedReport {
    /// Of this layout; a reader refuses what is newer.
    pub format_version: u32,
    /// What the vectors depend on: the pictures' files, the model and the options.
    pub word: String,
    /// The model.
    pub encoder: String,
    /// Numbers in a vector.
    pub dims: usize,
    /// How many parts there are.
    pub parts: usize,
    /// What came of them; nothing until all are done.
    pub counts: Option<EmbedCounts>,
    /// The first broken pictures; `stats/` lists all.
    pub broken: Vec<BrokenPicture>,
}

/// What came of a part: `stats/part_N.json`, which is written last and says that the part is done.
#[derive(Debug, Serialize, Deserialize)]
struct PartReport {
    format_version: u32,
    word: String,
    files: Vec<String>,
    counts: EmbedCounts,
    broken: Vec<BrokenPicture>,
}

const FORMAT_VERSION: u32 = 1;
/// What is made from what; there from the start.
pub const MANIFEST: &str = "embed.json";
/// Broken pictures that the whole report lists.
const LISTED: usize = 20;
/// The folders of results, with what their files' names begin and end with.
const FOLDERS: [(&str, &str); 4] = [
    ("img_emb", ".npy"),
    ("text_emb", ".npy"),
    ("metadata", ".parquet"),
    ("stats", ".json"),
];

/// Whether a folder holds embeddings that were made here, finished or not.
pub fn is_embeddings(out: impl AsRef<Path>) -> bool {
    out.as_ref().join(MANIFEST).is_file()
}

/// Embeds all pairs of a source and writes them to `out`, which one program writes to at a time. What an
/// earlier run with the same pictures, encoder and options has written stays, and the work goes on
/// behind it.
///
/// # Errors
/// When a file cannot be read or written, the encoder fails, there is no pair, or `out` holds embeddings
/// of other pictures, of another encoder, or with other options, and nothing forces it.
pub fn embed<E: Encoder>(
    source: &EmbedSource,
    out: impl AsRef<Path>,
    encoder: &E,
    options: &EmbedOptions,
    progress: &(dyn Fn(EmbedProgress) + Sync),
) -> Result<EmbedReport> {
    let out = out.as_ref();
    let parts = source.parts();
    let word = word(source, encoder, options)?;
    let mut report = EmbedReport {
        format_version: FORMAT_VERSION,
        word: word.clone(),
        encoder: encoder.fingerprint().to_owned(),
        dims: encoder.dims(),
        parts: parts.len(),
        counts: None,
        broken: Vec::new(),
    };
    begin(out, &report, options.force)?;
    let digits = parts.len().to_string().len();
    let mut counts = EmbedCounts::default();
    for (number, part) in parts.iter().enumerate() {
        let left = options.limit.map_or(u64::MAX, |limit| limit - counts.pairs);
        if left == 0 {
            break;
        }
        let name = format!("{number:0digits$}");
        let told = |pairs| {
            progress(EmbedProgress {
                part: number,
                parts: parts.len(),
                pairs: counts.pairs + pairs,
            });
        };
        told(0);
        let stats = out.join("stats").join(format!("part_{name}.json"));
        let done = match read_json::<PartReport>(&stats)?.filter(|done| done.word == word) {
            Some(done) => done,
            None => {
                let (counts, broken) = part::run(
                    part,
                    source,
                    out,
                    &name,
                    encoder,
                    options.batch,
                    left,
                    &told,
                )?;
                let done = PartReport {
                    format_version: FORMAT_VERSION,
                    word: word.clone(),
                    files: part.names(source),
                    counts,
                    broken,
                };
                write_json(&stats, &done)?;
                done
            }
        };
        counts.add(&done.counts);
        let room = LISTED - report.broken.len();
        report.broken.extend(done.broken.into_iter().take(room));
    }
    if counts.pairs == 0 {
        let (broken, without_caption) = (counts.broken, counts.without_caption);
        return Err(DataError::NothingToEmbed {
            path: source.path().to_owned(),
            broken,
            without_caption,
        });
    }
    report.counts = Some(counts);
    write_json(&out.join(MANIFEST), &report)?;
    Ok(report)
}

/// What the results depend on, as 32 digits.
fn word<E: Encoder>(source: &EmbedSource, encoder: &E, options: &EmbedOptions) -> Result<String> {
    let files = source.identity()?;
    let limit = options.limit.map_or(0, |limit| limit + 1);
    let half = |seed| {
        let encoder = mix_bytes(seed, encoder.fingerprint().as_bytes());
        mix_all(&[seed, files, encoder, options.batch as u64, limit])
    };
    Ok(format!("{:016x}{:016x}", half(1), half(2)))
}

/// Says what is going to be made, unless it is what was made, or what was made may be removed.
fn begin(out: &Path, report: &EmbedReport, force: bool) -> Result<()> {
    let manifest = out.join(MANIFEST);
    match read_json::<EmbedReport>(&manifest)? {
        Some(found) if found.word == report.word => return Ok(()),
        Some(_) if !force => {
            return Err(DataError::OtherEmbeddings {
                path: out.to_owned(),
            });
        }
        _ => {}
    }
    // Numbers of an earlier run's parts may be others.
    for (folder, ending) in FOLDERS {
        let folder = out.join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.map_err(DataError::io(&folder, "read"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(ending) {
                std::fs::remove_file(&path).map_err(DataError::io(&path, "remove"))?;
            }
        }
    }
    write_json(&manifest, report)
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// A file of this layout, if it is there.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataError::io(path, "read")(error)),
    };
    let broken = |source| DataError::Json {
        path: path.to_owned(),
        expected: "what `data embed` leaves",
        source,
    };
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(broken)?;
    if format_version > FORMAT_VERSION {
        return Err(DataError::Newer {
            path: path.to_owned(),
            found: format_version,
            known: FORMAT_VERSION,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(broken)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(DataError::NotJson)?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}
