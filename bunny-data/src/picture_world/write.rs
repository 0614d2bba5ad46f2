//! The world as files: what `bunny-cli data synth` writes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bunny_base::AtomicFolder;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ask::QuestionKind;
use super::paint::{Finish, paint};
use super::pairs::{Pair, PairKind, pair};
use super::scene::Scene;
use super::vocabulary::Combination;
use super::{Part, embed, exam, talk, texts};
use crate::Progress;
use crate::embeddings::{Dtype, NpyHeader};
use crate::error::{DataError, Result};
use crate::record::PRETRAIN_PROMPT;
use crate::record::{Images, Record, RecordWriter, Turn};
use crate::whole::AtomicFile;

/// Of the manifest, and of the layout it stands for.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Pictures in a folder.
const FOLDER: u64 = 1000;

/// Of any kind of thing: some hundred terabytes of pictures.
const MOST: u64 = 1_000_000_000;

/// Rows of a file of embeddings.
const SHARD: u64 = 100_000;

/// Conversations without a picture, of a hundred.
const TEXT_ONLY: u64 = 10;

/// How much of the world is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// What everything hangs on.
    pub seed: u64,
    /// Pictures with captions, for the first stage.
    pub pairs: u64,
    /// Conversations, for the second stage.
    pub conversations: u64,
    /// Questions of the test, over all kinds.
    pub questions: u64,
    /// Lines of plain text, for a language model.
    pub texts: u64,
}

/// What was written, and in which proportions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this layout; a reader refuses what is newer.
    pub format_version: u32,
    /// What everything hangs on.
    pub seed: u64,
    /// Records of `pretrain.json` by what is to be thought of their captions.
    pub pairs: BTreeMap<String, u64>,
    /// Numbers in an embedding of a pair.
    pub embedding_dims: usize,
    /// Records of `finetune.json` with a picture, and without.
    pub conversations: [u64; 2],
    /// Questions of `test.json` by kind.
    pub questions: BTreeMap<String, u64>,
    /// Lines of `texts.jsonl`.
    pub texts: u64,
    /// Combinations of colour and shape that occur in the test alone.
    pub held_out: Vec<String>,
}

/// Writes the world below `out`, which must not hold anything yet: it appears there whole, or not at
/// all.
///
/// ```text
/// pretrain.json        pretrain/images/00000/000000000.jpg …     captions, some noisy
/// pretrain_truth.jsonl what is to be thought of each of them
/// embeddings/          img_emb, text_emb, metadata: the same pairs for a coreset
/// finetune.json        finetune/images/…                         conversations
/// test.json            test/images/…                             questions with answers
/// texts.jsonl          the language of the world as plain text
/// manifest.json        the seed, counts and proportions
/// ```
///
/// # Errors
/// When `out` cannot become such a folder, or a file cannot be written.
pub fn write_world(
    out: impl AsRef<Path>,
    options: &WorldOptions,
    progress: Progress<'_>,
) -> Result<Manifest> {
    // Without the slash at its end, which would stand for what a link leads to.
    let out: PathBuf = out.as_ref().components().collect();
    let out = out.as_path();
    check_out(out)?;
    let counts = [
        ("pairs", options.pairs),
        ("conversations", options.conversations),
        ("questions", options.questions),
        ("texts", options.texts),
    ];
    if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count > MOST) {
        let what = "has to be at most a billion";
        return Err(DataError::Order { field, what });
    }
    let making = AtomicFolder::create(out)?;
    let writer = Writer {
        folder: making.draft().to_owned(),
        options: *options,
        total: options.pairs + options.conversations + options.questions + options.texts,
        done: AtomicU64::new(0),
        progress,
    };
    let manifest = writer.all()?;
    making.finish()?;
    Ok(manifest)
}

/// Refuses what the finished world cannot take the place of, before hours of drawing.
fn check_out(out: &Path) -> Result<()> {
    let refused = |what| {
        Err(DataError::Io {
            path: out.to_owned(),
            action: "write",
            source: std::io::Error::other(what),
        })
    };
    if out.file_name().is_none() || is_current(out) {
        return refused(
            "the current folder and those above it cannot be replaced: name a new folder",
        );
    }
    match fs::symlink_metadata(out) {
        Ok(found) if !found.is_dir() => refused("it is not a folder: name a new folder"),
        Ok(_) if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) => {
            refused("there is something in it: name a new folder")
        }
        _ => Ok(()),
    }
}

fn is_current(folder: &Path) -> bool {
    matches!((folder.canonicalize(), Path::new(".").canonicalize()), (Ok(a), Ok(b)) if a == b)
}

struct Writer<'a> {
    folder: PathBuf,
    options: WorldOptions,
    total: u64,
    done: AtomicU64,
    progress: Progress<'a>,
}

/// "00001/000001234": where picture 1234 is.
fn key(index: u64) -> String {
    format!("{:05}/{index:09}", index / FOLDER)
}

impl Writer<'_> {
    fn all(&self) -> Result<Manifest> {
        let pairs = self.pairs()?;
        let conversations = self.conversations()?;
        let questions = self.questions()?;
        self.texts()?;
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            seed: self.options.seed,
            pairs,
            embedding_dims: embed::DIMS,
            conversations,
            questions,
            texts: self.options.texts,
            held_out: Combination::all()
                .filter(|one| one.is_held_out())
                .map(|one| one.to_string())
                .collect(),
        };
        let mut file = self.create("manifest.json")?;
        let written = serde_json::to_writer_pretty(&mut file, &manifest)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        file.check(written)?;
        file.finish()?;
        Ok(manifest)
    }

    fn create(&self, name: &str) -> Result<AtomicFile> {
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(DataError::io(folder, "make"))?;
        }
        // The folder is new, and goes as a whole.
        Ok(AtomicFile::create_unswept(&path)?)
    }

    /// Makes `count` things, many at a time, and hands them on in order.
    fn each<T: Send>(
        &self,
        count: u64,
        make: impl Fn(u64) -> Result<T> + Sync,
        mut take: impl FnMut(u64, T) -> Result<()>,
    ) -> Result<()> {
        for start in (0..count).step_by(FOLDER as usize) {
            let made: Vec<T> = (start..count.min(start + FOLDER))
                .into_par_iter()
                .map(|index| {
                    let made = make(index);
                    let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of(64) || done == self.total {
                        (self.progress)(done, self.total);
                    }
                    made
                })
                .collect::<Result<_>>()?;
            for (index, made) in (start..).zip(made) {
                take(index, made)?;
            }
        }
        Ok(())
    }

    /// Draws a scene and stores it in a folder of pictures, as picture `index`.
    fn store(&self, images: &str, index: u64, scene: &Scene, finish: &Finish) -> Result<String> {
        let name = format!("{}.jpg", key(index));
        let path = self.folder.join(images).join(&name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(DataError::io(folder, "make"))?;
        }
        let bytes = paint(scene, finish).to_jpeg(finish.quality);
        fs::write(&path, bytes).map_err(DataError::io(&path, "write"))?;
        Ok(name)
    }

    fn pairs(&self) -> Result<BTreeMap<String, u64>> {
        let count = self.options.pairs;
        let mut records = Records::new(self.create("pretrain.json")?, "pretrain.json");
        let mut truth = Records::new(self.create("pretrain_truth.jsonl")?, "pretrain_truth.jsonl");
        let mut shard = Shard::default();
        let mut kinds = vec![0; PairKind::ALL.len()];
        self.each(
            count,
            |index| {
                let pair = pair(self.options.seed, index, count);
                let image = self.store("pretrain/images", index, &pair.scene, &pair.finish)?;
                Ok((image, pair))
            },
            |index, (image, pair)| {
                let key = key(index);
                kinds[pair.kind as usize] += 1;
                truth.push(&serde_json::json!({
                    "id": key, "kind": pair.kind.name(), "content": pair.content,
                }))?;
                shard.push(&key, &image, &pair);
                if shard.keys.len() as u64 == SHARD {
                    shard.write(self, index / SHARD)?;
                }
                records.push(&Record {
                    id: key,
                    image: Some(Images::One(image)),
                    conversations: vec![Turn::human(PRETRAIN_PROMPT), Turn::gpt(pair.caption)],
                    ..Record::default()
                })
            },
        )?;
        if !shard.keys.is_empty() {
            shard.write(self, count / SHARD)?;
        }
        truth.finish()?;
        records.finish()?;
        let kinds = PairKind::ALL.iter().zip(kinds);
        Ok(kinds.map(|(kind, n)| (kind.name().to_owned(), n)).collect())
    }

    fn conversations(&self) -> Result<[u64; 2]> {
        let mut records = Records::new(self.create("finetune.json")?, "finetune.json");
        let mut counts = [0; 2];
        self.each(
            self.options.conversations,
            |index| {
                let mut dice = Part::Conversations.dice(self.options.seed, index);
                let (image, exchanges) = if dice.below(100) < TEXT_ONLY as usize {
                    (None, talk::without_picture(&mut dice))
                } else {
                    let (scene, exchanges) = talk::about_picture(&mut dice);
                    let finish = Finish::draw(&mut dice);
                    let image = self.store("finetune/images", index, &scene, &finish)?;
                    (Some(Images::One(image)), exchanges)
                };
                let mut conversations = Vec::with_capacity(2 * exchanges.len());
                for (asked, answered) in exchanges {
                    let shown = image.is_some() && conversations.is_empty();
                    conversations.push(Turn::human(if shown {
                        format!("<image>\n{asked}")
                    } else {
                        asked
                    }));
                    conversations.push(Turn::gpt(answered));
                }
                Ok(Record {
                    id: format!("world_{index:09}"),
                    image,
                    conversations,
                    ..Record::default()
                })
            },
            |_, record| {
                counts[usize::from(record.image.is_none())] += 1;
                records.push(&record)
            },
        )?;
        records.finish()?;
        Ok(counts)
    }

    fn questions(&self) -> Result<BTreeMap<String, u64>> {
        let kinds = QuestionKind::ALL;
        let mut records = Records::new(self.create("test.json")?, "test.json");
        let mut counts = vec![0; kinds.len()];
        self.each(
            self.options.questions,
            |index| {
                let mut asked = exam::question(self.options.seed, index);
                if let Some((scene, finish)) = &asked.picture {
                    asked.question.image = Some(self.store("test/images", index, scene, finish)?);
                }
                Ok(asked.question)
            },
            |index, question| {
                counts[index as usize % kinds.len()] += 1;
                records.push(&question)
            },
        )?;
        records.finish()?;
        let counts = kinds.iter().zip(counts);
        Ok(counts
            .map(|(kind, n)| (kind.name().to_owned(), n))
            .collect())
    }

    fn texts(&self) -> Result<()> {
        let mut lines = Records::new(self.create("texts.jsonl")?, "texts.jsonl");
        self.each(
            self.options.texts,
            |index| Ok(texts::text(self.options.seed, index)),
            |_, text| lines.push(&serde_json::json!({ "text": text })),
        )?;
        lines.finish()
    }
}

/// A file of records in the making.
struct Records(RecordWriter<AtomicFile>, PathBuf);

impl Records {
    fn new(file: AtomicFile, name: &str) -> Self {
        Self(RecordWriter::new(file, Path::new(name)), name.into())
    }

    fn push(&mut self, record: &impl Serialize) -> Result<()> {
        let written = serde_json::to_vec(record)
            .map_err(std::io::Error::from)
            .and_then(|record| self.0.push(&record));
        written.map_err(DataError::io(&self.1, "write"))
    }

    fn finish(self) -> Result<()> {
        let records = self.0.finish();
        Ok(records.map_err(DataError::io(&self.1, "write"))?.finish()?)
    }
}

/// Rows of embeddings until they fill a file, in clip-retrieval's layout.
#[derive(Default)]
struct Shard {
    keys: Vec<String>,
    images: Vec<String>,
    captions: Vec<String>,
    image_rows: Vec<f16>,
    text_rows: Vec<f16>,
}

impl Shard {
    fn push(&mut self, key: &str, image: &str, pair: &Pair) {
        self.keys.push(key.to_owned());
        self.images.push(image.to_owned());
        self.captions.push(pair.caption.clone());
        let halves = |row: &[f32]| row.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        self.image_rows.extend(halves(&pair.image_embedding));
        self.text_rows.extend(halves(&pair.text_embedding));
    }

    fn write(&mut self, writer: &Writer<'_>, number: u64) -> Result<()> {
        for (name, rows) in [("img_emb", &self.image_rows), ("text_emb", &self.text_rows)] {
            let mut file = writer.create(&format!("embeddings/{name}/{name}_{number:04}.npy"))?;
            let header = NpyHeader::write(Dtype::Float16, self.keys.len() as u64, embed::DIMS);
            let written = file
                .write_all(&header)
                .and_then(|()| file.write_all(bytemuck::cast_slice(rows)));
            file.check(written)?;
            file.finish()?;
        }
        let name = format!("embeddings/metadata/metadata_{number:04}.parquet");
        let file = writer.create(&name)?;
        let wrong = |what: parquet::errors::ParquetError| DataError::Io {
            path: name.clone().into(),
            action: "write",
            source: std::io::Error::other(what),
        };
        // Not the library's version: the same rows are to give the same bytes.
        let properties = WriterProperties::builder()
            .set_created_by("bunny".to_owned())
            .build();
        let texts =
            |texts: &Vec<String>| Arc::new(StringArray::from_iter_values(texts)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("key", texts(&self.keys)),
            ("image_path", texts(&self.images)),
            ("caption", texts(&self.captions)),
        ])
        .map_err(|error| wrong(error.into()))?;
        let mut table =
            ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(wrong)?;
        table.write(&batch).map_err(wrong)?;
        table.into_inner().map_err(wrong)?.finish()?;
        *self = Self::default();
        Ok(())
    }
}
