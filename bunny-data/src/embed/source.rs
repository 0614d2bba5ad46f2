//! Where pairs come from, and which of them form a part.

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

use super::EmbedCounts;
use crate::error::{DataError, Result};
use crate::images::{ImageSource, expand, is_picture, map_tar, shards_in, tar_members};
use crate::record::RecordFile;
use bunny_base::random::{mix_all, mix_bytes};

/// Pairs that count for a file where they do not lie in files together: img2dataset's 10,000 a tar.
const FILE_PAIRS: usize = 10_000;
/// Folders within folders that are looked into.
const DEPTH: usize = 16;
/// Under which names captions lie in tables, in this order.
const CAPTIONS: [&str; 3] = ["caption", "text", "TEXT"];

/// How a source is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// Records that name the pictures and say their captions, in the place of texts beside them.
    pub records: Option<PathBuf>,
    /// Tar files of a part; of pictures in a folder, and of rows, ten thousand count for one.
    pub part_files: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            records: None,
            part_files: 10,
        }
    }
}

/// Pictures with captions.
#[derive(Debug)]
pub struct EmbedSource {
    path: PathBuf,
    kind: Kind,
    part_files: usize,
}

#[derive(Debug)]
enum Kind {
    /// What lies together has one name: `000000001.jpg`, `000000001.txt`, `000000001.json`.
    Tars(Vec<PathBuf>),
    /// The same, not packed; paths below the folder, in order.
    Folder(Vec<String>),
    /// Records that name their pictures, which may lie in the rows themselves.
    Rows {
        files: Vec<RecordFile>,
        images: ImageSource,
    },
}

/// Which pairs of a source are embedded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Tars(Range<usize>),
    Folder(Range<usize>),
    Rows(usize, Range<usize>),
}

/// A picture, as its file is, and its caption.
#[derive(Debug)]
pub(super) struct Pair {
    pub key: String,
    pub caption: String,
    pub metadata: Map<String, Value>,
    pub picture: Vec<u8>,
}

impl EmbedSource {
    /// Opens tar files (a folder of them, one, `{00000..00231}.tar`, `*.tar`), a folder of pictures with
    /// texts beside them, Parquet files that hold pictures, or, with records, wherever pictures may lie.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Tar`] of the first archive, those of [`RecordFile::open`], and
    /// [`DataError::NothingToEmbed`] where there is no picture.
    pub fn open(path: impl AsRef<Path>, options: &SourceOptions) -> Result<Self> {
        let path = path.as_ref();
        let kind = match &options.records {
            Some(records) => Kind::Rows {
                files: vec![RecordFile::open(records)?],
                images: ImageSource::open(path)?,
            },
            None => Kind::open(path)?,
        };
        if let Kind::Tars(tars) = &kind
            && let Some(first) = tars.first()
        {
            // What is no tar is told before anything is made of it.
            tar_members(first, &map_tar(first)?, |_, _| {})?;
        }
        let source = Self {
            path: path.to_owned(),
            kind,
            part_files: options.part_files.max(1),
        };
        match source.parts().is_empty() {
            true => Err(DataError::NothingToEmbed {
                path: path.to_owned(),
                broken: 0,
                without_caption: 0,
            }),
            false => Ok(source),
        }
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn parts(&self) -> Vec<Part> {
        let ranges = |len: usize, each: usize| {
            (0..len)
                .step_by(each)
                .map(move |start| start..len.min(start.saturating_add(each)))
        };
        let pairs = self.part_files.saturating_mul(FILE_PAIRS);
        match &self.kind {
            Kind::Tars(tars) => ranges(tars.len(), self.part_files)
                .map(Part::Tars)
                .collect(),
            Kind::Folder(files) => ranges(files.len(), pairs).map(Part::Folder).collect(),
            Kind::Rows { files, .. } => files
                .iter()
                .enumerate()
                .flat_map(|(file, rows)| {
                    ranges(rows.len(), pairs).map(move |range| Part::Rows(file, range))
                })
                .collect(),
        }
    }

    /// A word of the files and of how they form parts: of their names, sizes and times.
    pub(super) fn identity(&self) -> Result<u64> {
        let of = |path: &Path| -> Result<u64> {
            let metadata = fs::metadata(path).map_err(DataError::io(path, "read"))?;
            let time = metadata.modified().ok();
            let time = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let time = time.map_or(0, |time| time.as_nanos() as u64);
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            Ok(mix_all(&[mix_bytes(3, name), metadata.len(), time]))
        };
        let mut words = vec![self.part_files as u64];
        match &self.kind {
            Kind::Tars(tars) => {
                for tar in tars {
                    words.push(of(tar)?);
                }
            }
            Kind::Folder(files) => {
                for file in files {
                    words.push(mix_bytes(4, file.as_bytes()));
                    words.push(of(&self.path.join(file))?);
                }
            }
            Kind::Rows { files, .. } => {
                for file in files {
                    words.push(of(file.path())?);
                }
            }
        }
        Ok(mix_all(&words))
    }
}

impl Kind {
    fn open(path: &Path) -> Result<Self> {
        let is_parquet = |path: &Path| path.extension().is_some_and(|ending| ending == "parquet");
        if !path.is_dir() {
            let files = expand(path)?;
            return match files.iter().all(|file| is_parquet(file)) {
                true => Self::rows(&files),
                false => Ok(Self::Tars(files)),
            };
        }
        let tars = shards_in(path)?;
        if !tars.is_empty() {
            return Ok(Self::Tars(tars));
        }
        let mut files = Vec::new();
        list(path, "", 0, &mut files)?;
        files.sort_unstable();
        let tables: Vec<PathBuf> = files
            .iter()
            .filter(|file| is_parquet(Path::new(file)))
            .map(|file| path.join(file))
            .collect();
        files.retain(|file| is_picture(file));
        match files.is_empty() && !tables.is_empty() {
            true => Self::rows(&tables),
            false => Ok(Self::Folder(files)),
        }
    }

    fn rows(files: &[PathBuf]) -> Result<Self> {
        Ok(Self::Rows {
            files: files.iter().map(RecordFile::open).collect::<Result<_>>()?,
            images: ImageSource::of_whole_names(),
        })
    }
}

/// The files of a folder and of those in it, as paths below it.
fn list(folder: &Path, below: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "read"))? {
        let path = entry.map_err(DataError::io(folder, "read"))?.path();
        // What is no text could not be written down.
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth < DEPTH {
                list(&path, &format!("{below}{name}/"), depth + 1, files)?;
            }
        } else {
            files.push(format!("{below}{name}"));
        }
    }
    Ok(())
}

impl Part {
    /// The files it is made of, as the results tell them.
    pub fn names(&self, source: &EmbedSource) -> Vec<String> {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        match (self, &source.kind) {
            (Self::Tars(range), Kind::Tars(tars)) => {
                tars[range.clone()].iter().map(|tar| name(tar)).collect()
            }
            (Self::Folder(range), Kind::Folder(files)) => files
                .get(range.start)
                .into_iter()
                .chain(files.get(range.end.saturating_sub(1)))
                .cloned()
                .collect(),
            (Self::Rows(file, _), Kind::Rows { files, .. }) => vec![name(files[*file].path())],
            _ => Vec::new(),
        }
    }

    /// Calls `each` for every pair, in order, until it returns false.
    pub fn each(
        &self,
        source: &EmbedSource,
        counts: &mut EmbedCounts,
        mut each: impl FnMut(Pair) -> bool,
    ) -> Result<()> {
        match (self, &source.kind) {
            (Self::Tars(range), Kind::Tars(tars)) => {
                for tar in &tars[range.clone()] {
                    if !each_of_tar(tar, counts, &mut each)? {
                        return Ok(());
                    }
                }
            }
            (Self::Folder(range), Kind::Folder(files)) => {
                for file in &files[range.clone()] {
                    let pair = Together::of_folder(&source.path, file)?;
                    if !pair.hand_on(counts, &mut each) {
                        return Ok(());
                    }
                }
            }
            (Self::Rows(file, range), Kind::Rows { files, images }) => {
                for row in range.clone() {
                    let pair = Together::of_row(&files[*file], row, images)?;
                    if !pair.hand_on(counts, &mut each) {
                        return Ok(());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What lies together under one name.
#[derive(Debug, Default)]
struct Together<'a> {
    key: Cow<'a, str>,
    picture: Option<Cow<'a, [u8]>>,
    text: Option<String>,
    metadata: Map<String, Value>,
}

impl<'a> Together<'a> {
    fn of_folder(folder: &Path, name: &'a str) -> Result<Self> {
        let path = folder.join(name);
        let beside = |ending: &str| match fs::read(path.with_extension(ending)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataError::io(path.with_extension(ending), "read")(error)),
        };
        let json = beside("json")?;
        Ok(Self {
            text: beside("txt")?.map(|text| String::from_utf8_lossy(&text).into_owned()),
            metadata: json.map(|json| object(&json)).unwrap_or_default(),
            picture: Some(
                fs::read(&path)
                    .map_err(DataError::io(&path, "read"))?
                    .into(),
            ),
            key: name.into(),
        })
    }

    fn of_row(file: &RecordFile, row: usize, images: &'a ImageSource) -> Result<Self> {
        let mut metadata = object(&file.raw(row)?);
        let image = match metadata.shift_remove("image") {
            Some(Value::String(image)) => Some(image),
            Some(Value::Array(images)) => match &images[..] {
                [Value::String(image)] => Some(image.clone()),
                _ => None,
            },
            _ => None,
        };
        let text = match metadata.shift_remove("conversations") {
            Some(_) => {
                let record = file.get(row)?;
                let mut turns = record.conversations.iter();
                let answer = turns.find(|turn| turn.from == crate::record::Role::Gpt);
                answer.map(|turn| turn.value.clone())
            }
            None => None,
        };
        // One that is not there is as one that is broken.
        let picture = image.as_ref();
        let picture = picture.map(|image| images.read(image).unwrap_or_default());
        Ok(Self {
            key: image.unwrap_or_default().into(),
            picture,
            text,
            metadata,
        })
    }

    /// Hands a pair on, or counts what it lacks; whether more are wanted.
    fn hand_on(mut self, counts: &mut EmbedCounts, each: &mut impl FnMut(Pair) -> bool) -> bool {
        let caption = self.text.take().or_else(|| {
            let mut columns = CAPTIONS.iter().filter_map(|name| self.metadata.get(*name));
            Some(columns.next()?.as_str()?.to_owned())
        });
        let caption = caption.filter(|caption| !caption.trim().is_empty());
        match (self.picture, caption) {
            (Some(picture), Some(caption)) => each(Pair {
                key: self.key.into_owned(),
                caption,
                metadata: self.metadata,
                picture: picture.into_owned(),
            }),
            (Some(_), None) => {
                counts.without_caption += 1;
                true
            }
            (None, Some(_)) => {
                counts.without_picture += 1;
                true
            }
            (None, None) => true,
        }
    }
}

/// The fields of a JSON object; none of what is no object.
fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The pairs of a tar, in which members of one pair lie together: all up to the first dot of the last
/// part of a name is their key, the rest says what each is.
fn each_of_tar(
    tar: &Path,
    counts: &mut EmbedCounts,
    each: &mut impl FnMut(Pair) -> bool,
) -> Result<bool> {
    let map = map_tar(tar)?;
    let mut members = Vec::new();
    tar_members(tar, &map, |name, place| {
        members.push((name.to_owned(), place))
    })?;
    let key_of = |name: &str| -> usize {
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        name[last..].find('.').map_or(name.len(), |dot| last + dot)
    };
    let mut rest = &members[..];
    while let Some((name, _)) = rest.first() {
        let key = &name[..key_of(name)];
        let count = rest
            .iter()
            .take_while(|(name, _)| &name[..key_of(name)] == key)
            .count();
        let (together, behind) = rest.split_at(count);
        rest = behind;
        let mut pair = Together {
            key: key.into(),
            ..Together::default()
        };
        for (name, place) in together {
            let bytes = &map[place.clone()];
            match name[key.len()..].trim_start_matches('.') {
                "txt" => pair.text = Some(String::from_utf8_lossy(bytes).into_owned()),
                "json" => pair.metadata = object(bytes),
                ending if !ending.contains('.') && is_picture(name) => {
                    pair.picture.get_or_insert(bytes.into());
                }
                _ => {}
            }
        }
        if !pair.hand_on(counts, each) {
            return Ok(false);
        }
    }
    Ok(true)
}
