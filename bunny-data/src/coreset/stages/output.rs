//! What a selection leaves: keys in three forms, and the pretraining file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sample::{InOrder, Texts, Wanted, each_key_of_shard, for_each_key, of_shard};
use crate::coreset::arrays::Scratch;
use crate::coreset::manifest::MANIFEST;
use crate::coreset::survivor::Survivor;
use crate::coreset::worker::Worker;
use crate::embeddings::EmbeddingSet;
use crate::embeddings::npy::header_bytes;
use crate::error::{DataError, OptionFault, Result, SetFault};
use crate::images::{KeyedPictures, name_hash};
use crate::record::PRETRAIN_PROMPT;
use crate::store::Store;
use crate::whole::AtomicFile;
use bunny_base::random::{mix_all, mix_bytes};

/// The files that a selection may leave, but for its manifest and the centroids.
pub(crate) const RESULTS: [&str; 6] = [
    "keys.txt",
    "kept.parquet",
    "pretrain.json",
    "datacomp.npy",
    "report.json",
    "report.html",
];

/// Rows of a batch of the Parquet file.
const BATCH: usize = 8192;

/// What is written beside the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputOptions {
    /// The images, `KEY.jpg` or of another ending, or the keys themselves where these are names of
    /// files; in a folder, in folders of it, or in the tar files of one ([`ImageSource::open`]). Their
    /// list takes 40 bytes an image beside the given memory. With them and captions, `pretrain.json`
    /// is written.
    ///
    /// [`ImageSource::open`]: crate::images::ImageSource::open
    pub images: Option<PathBuf>,
    /// What becomes of keys whose image is not in that folder.
    pub missing_images: MissingImages,
}

impl OutputOptions {
    /// Checks what can be checked without the set.
    ///
    /// # Errors
    /// [`DataError::Name`] for a path that a manifest could not tell.
    pub fn validate(&self) -> Result<()> {
        self.images
            .as_deref()
            .map_or(Ok(()), |images| DataError::text(images).map(drop))
    }
}

/// What becomes of keys whose image is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingImages {
    /// The first one ends the run.
    #[default]
    Error,
    /// They are left out of `pretrain.json` and counted in the report.
    Skip,
}

/// The files that were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Their names in the output folder.
    pub files: Vec<String>,
    /// Rows in them.
    pub rows: u64,
    /// Keys whose image is missing.
    pub missing_images: u64,
    /// Keys without a caption, which `pretrain.json` leaves out.
    pub empty_captions: u64,
}

/// One record of the pretraining file.
#[derive(Serialize)]
struct Pretrain<'a> {
    id: &'a str,
    image: String,
    conversations: [Turn<'a>; 2],
}

#[derive(Serialize)]
struct Turn<'a> {
    from: &'static str,
    value: &'a str,
}

/// Fails where the pretraining file would have no captions.
pub(crate) fn check_columns(set: &EmbeddingSet, options: &OutputOptions) -> Result<()> {
    match (&options.images, &set.caption_column) {
        (Some(_), None) => Err(DataError::option("--images", OptionFault::NoCaptions)),
        _ => Ok(()),
    }
}

/// Fails where the pretraining file cannot be written, before anything long is begun.
///
/// Which keys will be kept is not known yet, and their pictures may be the only ones that are there: so
/// one key of the set with a picture will do, which is the first one where all have theirs.
pub(crate) fn check(store: &dyn Store, set: &EmbeddingSet, options: &OutputOptions) -> Result<()> {
    let Some(folder) = &options.images else {
        return Ok(());
    };
    let images = KeyedPictures::open(folder)?;
    let (mut looked, mut example) = (0, None);
    for shard in 0..set.shards.len() {
        let mut found = false;
        each_key_of_shard(store, set, shard, |key| {
            found = found || images.find(key).is_some();
            looked += 1;
            example.get_or_insert_with(|| key.to_owned());
            !found
        })?;
        if found {
            return Ok(());
        }
    }
    let example = example.unwrap_or_default();
    let fault = SetFault::NoPictures { looked, example };
    Err(DataError::set(folder, fault))
}

/// Removes the manifest of an earlier selection and then its files, so that a run which ends before
/// its own manifest leaves nothing that passes for finished, and no file stands beside others' keys.
fn remove_earlier(out: &Path) -> Result<()> {
    for name in std::iter::once(MANIFEST).chain(RESULTS) {
        remove_file(&out.join(name))?;
    }
    Ok(())
}

/// Removes a file if it is there.
pub(crate) fn remove_file(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DataError::io(file, "remove")(error))
        }
        _ => Ok(()),
    }
}

/// Which of the kept keys have a picture, as a word: what `pretrain.json` depends on beside the set
/// and the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pictured(u64);

impl Pictured {
    /// Looks for the pictures of the keys that were written.
    pub(crate) fn look(out: &Path, images: &Path) -> Result<Self> {
        let images = KeyedPictures::open(images)?;
        let path = out.join("keys.txt");
        let file = File::open(&path).map_err(DataError::io(&path, "open"))?;
        let mut pictured = Self::default();
        for key in BufReader::new(file).lines() {
            let key = key.map_err(DataError::io(&path, "read"))?;
            pictured.add(images.find(&key).as_deref());
        }
        Ok(pictured)
    }

    fn add(&mut self, picture: Option<&str>) {
        let word = picture.map_or(0, |name| mix_bytes(1, name.as_bytes()));
        self.0 = mix_all(&[self.0, word]);
    }
}

/// Writes all files for the chosen rows, so many in all: each whole, in place of those of an earlier
/// selection. Also which of the keys have a picture, where there are pictures.
pub(crate) fn write(
    store: &dyn Store,
    set: &EmbeddingSet,
    chosen: &InOrder,
    rows: u64,
    out: &Path,
    options: &OutputOptions,
    worker: &Worker<'_>,
) -> Result<(Written, Option<Pictured>)> {
    worker.progress.begin("output", rows);
    let mut keys = AtomicFile::create_alone(out.join("keys.txt"))?;
    let mut table = Table::create(&out.join("kept.parquet"), set)?;
    let mut json = match &options.images {
        Some(folder) => Some((
            AtomicFile::create_alone(out.join("pretrain.json"))?,
            KeyedPictures::open(folder)?,
            Pictured::default(),
            0_u64,
        )),
        None => None,
    };
    let folder_of_images = options.images.as_deref().unwrap_or(Path::new(""));
    let (mut missing, mut shown) = (None, HashMap::new());
    let in_memory = worker.memory as usize / 8;
    let mut uids: Option<Scratch<[u64; 2]>> =
        Some(Scratch::zeros(rows as usize, in_memory, store.scratch())?);
    let mut written = Written {
        rows,
        ..Written::default()
    };
    let wanted = match json {
        Some(_) => Wanted::Captions,
        None => Wanted::Texts,
    };
    let mut before = 0;
    for (part, shards) in set.parts().into_iter().enumerate() {
        let records = chosen.of_part(store, part)?;
        for shard in shards {
            for_each_key(store, set, shard, &records, wanted, |index, texts| {
                let Texts { key, caption, .. } = texts;
                worker.progress.advance(1);
                keys.put(key.as_bytes())?;
                keys.put(b"\n")?;
                table.push(texts, &records[index])?;
                match (&mut uids, uid(key)) {
                    (Some(uids), Some(uid)) => uids[before + index] = uid,
                    (uids, _) => *uids = None,
                }
                let Some((whole, images, pictured, count)) = &mut json else {
                    return Ok(());
                };
                let image = images.find(key);
                pictured.add(image.as_deref());
                let caption = caption.unwrap_or_default();
                if caption.trim().is_empty() {
                    written.empty_captions += 1;
                    return Ok(());
                }
                let Some(image) = image else {
                    missing.get_or_insert_with(|| key.to_owned());
                    written.missing_images += 1;
                    return Ok(());
                };
                // A path may stand for a file elsewhere than where it leads; then for one alone.
                let (image_hash, key_hash) = (name_hash(&image), name_hash(key));
                if shown
                    .insert(image_hash, key_hash)
                    .is_some_and(|other| other != key_hash)
                {
                    let fault = SetFault::SamePicture {
                        key: key.to_owned(),
                    };
                    return Err(DataError::set(folder_of_images.join(image), fault));
                }
                whole.put(if *count == 0 { b"[\n" } else { b",\n" })?;
                *count += 1;
                let record = Pretrain {
                    id: key,
                    image,
                    conversations: [
                        Turn {
                            from: "human",
                            value: PRETRAIN_PROMPT,
                        },
                        Turn {
                            from: "gpt",
                            value: caption,
                        },
                    ],
                };
                let written = serde_json::to_writer(&mut *whole, &record);
                Ok(whole.check(written.map_err(Into::into))?)
            })?;
            records.release(of_shard(&records, set, shard));
        }
        before += records.len();
    }
    if rows == 0 {
        return Err(DataError::set(out, SetFault::NothingSelected));
    }
    if let Some((_, _, _, count)) = &json {
        let rows = written.rows;
        if let Some(key) = missing.filter(|_| options.missing_images == MissingImages::Error) {
            let missing = written.missing_images;
            let fault = SetFault::NoImage { missing, rows, key };
            return Err(DataError::set(folder_of_images, fault));
        }
        if *count == 0 {
            return Err(DataError::set(
                out.join("pretrain.json"),
                SetFault::NothingToLearn {
                    rows,
                    missing: written.missing_images,
                },
            ));
        }
    }
    remove_earlier(out)?;
    keys.finish()?;
    table.finish()?;
    written.files = vec!["keys.txt".into(), "kept.parquet".into()];
    let pictured = json.as_ref().map(|(_, _, pictured, _)| *pictured);
    if let Some((mut whole, ..)) = json {
        whole.put(b"\n]\n")?;
        whole.finish()?;
        written.files.push("pretrain.json".into());
    }
    if let Some(mut uids) = uids.filter(|uids| !uids.is_empty()) {
        uids.sort_unstable();
        let mut whole = AtomicFile::create_alone(out.join("datacomp.npy"))?;
        let descr = "[('f0', '<u8'), ('f1', '<u8')]";
        whole.put(&header_bytes(descr, &format!("({},)", uids.len())))?;
        whole.put(bytemuck::cast_slice(&uids))?;
        whole.finish()?;
        written.files.push("datacomp.npy".into());
    }
    Ok((written, pictured))
}

/// The two words of a DataComp uid, 32 hexadecimal digits.
fn uid(key: &str) -> Option<[u64; 2]> {
    let digits = key.len() == 32 && key.bytes().all(|digit| digit.is_ascii_hexdigit());
    let half = |digits| u64::from_str_radix(digits, 16).ok();
    digits
        .then(|| Some([half(&key[..16])?, half(&key[16..])?]))
        .flatten()
}

/// The Parquet file, a batch at a time.
struct Table {
    writer: ArrowWriter<AtomicFile>,
    path: PathBuf,
    columns: Columns,
    keys: Vec<String>,
    captions: Vec<Option<String>>,
    urls: Vec<Option<String>>,
    rows: Vec<Survivor>,
}

/// The columns that a set has only where its metadata have them.
#[derive(Clone, Copy)]
struct Columns {
    caption: bool,
    url: bool,
}

impl Table {
    fn create(path: &Path, set: &EmbeddingSet) -> Result<Self> {
        let properties = WriterProperties::builder()
            // Not the library's version: the same rows are to give the same bytes.
            .set_created_by("bunny".to_owned())
            .set_max_row_group_row_count(Some(1 << 17))
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let columns = Columns {
            caption: set.caption_column.is_some(),
            url: set.url_column.is_some(),
        };
        let schema = batch(columns, &[], &[], &[], &[])
            .map_err(unwritten(path))?
            .schema();
        Ok(Self {
            writer: ArrowWriter::try_new(AtomicFile::create_alone(path)?, schema, Some(properties))
                .map_err(unwritten(path))?,
            path: path.to_owned(),
            columns,
            keys: Vec::with_capacity(BATCH),
            captions: Vec::with_capacity(BATCH),
            urls: Vec::with_capacity(BATCH),
            rows: Vec::with_capacity(BATCH),
        })
    }

    fn push(&mut self, texts: Texts<'_>, kept: &Survivor) -> Result<()> {
        self.keys.push(texts.key.to_owned());
        self.captions.push(texts.caption.map(str::to_owned));
        self.urls.push(texts.url.map(str::to_owned));
        self.rows.push(*kept);
        if self.rows.len() < BATCH {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        batch(
            self.columns,
            &self.keys,
            &self.captions,
            &self.urls,
            &self.rows,
        )
        .and_then(|batch| self.writer.write(&batch))
        .map_err(unwritten(&self.path))?;
        self.keys.clear();
        self.captions.clear();
        self.urls.clear();
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        let file = self.writer.into_inner().map_err(unwritten(&self.path))?;
        Ok(file.finish()?)
    }
}

/// Wraps an error of the Parquet writer, which is that of the file below it where it can be.
fn unwritten(path: &Path) -> impl FnOnce(ParquetError) -> DataError {
    move |error| {
        DataError::io(path, "write")(match error {
            ParquetError::External(below) => match below.downcast::<std::io::Error>() {
                Ok(below) => *below,
                Err(other) => std::io::Error::other(other),
            },
            other => std::io::Error::other(other),
        })
    }
}

fn batch(
    columns: Columns,
    keys: &[String],
    captions: &[Option<String>],
    urls: &[Option<String>],
    rows: &[Survivor],
) -> Result<RecordBatch, ParquetError> {
    let words = |of: fn(&Survivor) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(of)))
    };
    let reals = |of: fn(&Survivor) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
    };
    let texts = |texts: &[Option<String>]| -> ArrayRef {
        Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref)))
    };
    let clusters = UInt32Array::from_iter_values(rows.iter().map(|kept| kept.cluster));
    // What is named here may be null; its type then does not hang on the rows.
    let mut found: Vec<(&str, ArrayRef, bool)> =
        vec![("key", Arc::new(StringArray::from_iter_values(keys)), false)];
    if columns.url {
        found.push(("url", texts(urls), true));
    }
    if columns.caption {
        found.push(("caption", texts(captions), true));
    }
    found.extend([
        ("row", words(|kept| kept.row), false),
        ("cluster", Arc::new(clusters) as ArrayRef, false),
        ("component", words(|kept| kept.component), false),
        ("component_size", words(|kept| kept.size), false),
        ("image_text_cosine", reals(|kept| kept.score), false),
        ("image_centroid_cosine", reals(|kept| kept.centroid), false),
        ("centroid_distance", reals(|kept| kept.distance), false),
    ]);
    Ok(RecordBatch::try_from_iter_with_nullable(found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_two_words_of_hexadecimal_digits() {
        assert_eq!(
            uid("0000000000000010ffffffffffffffff"),
            Some([16, u64::MAX])
        );
        assert_eq!(uid("0000000000000010ffffffffffffff+f"), None);
        assert_eq!(uid("0006418798"), None);
    }
}
