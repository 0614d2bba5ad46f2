//! A file of records, opened without reading it into memory.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::de::DeserializeOwned;

use super::index::Index;
use super::parquet::ParquetRows;
use super::{Record, not_a_number};
use crate::error::{DataError, Result};

/// A file of records with random access: a JSON array, JSON lines or Parquet.
///
/// JSON is mapped; where its records stand is found as it is opened, and kept in memory alone.
///
/// Many threads may read one `RecordFile` at once, and many processes one file: they share the
/// mapped pages. The file must not be cut short while it is open.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("records.json");
/// # std::fs::write(&path, r#"[{"id": 7, "conversations": [{"from": "human", "value": "Hi"}]}]"#)?;
/// let records = bunny_data::record::RecordFile::open(&path)?;
/// assert_eq!(records.len(), 1);
/// assert_eq!(records.get(0)?.id, "7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    Json { map: Mmap, index: Index },
    Parquet(ParquetRows),
}

impl RecordFile {
    /// Opens `path`; a JSON file is gone over once, to find its records.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::NotRecords`] for a file of another kind,
    /// [`DataError::Structure`] for JSON whose array or lines are broken or cut short, and
    /// [`DataError::Parquet`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(DataError::io(path, "open"))?;
        let mut magic = Vec::new();
        (&file)
            .take(4)
            .read_to_end(&mut magic)
            .map_err(DataError::io(path, "read"))?;
        let layout = if magic == b"PAR1" {
            Layout::Parquet(ParquetRows::open(path, &file)?)
        } else {
            let index = Index::of(path, &mut file)?;
            // SAFETY: the mapping is read-only and every access is bounds-checked; that nobody cuts
            // the file short under a running reader is asked for in the type's documentation.
            let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(path, "map"))?;
            Layout::Json { map, index }
        };
        Ok(Self {
            path: path.to_owned(),
            layout,
        })
    }

    /// JSON in a file that has no name; messages call it `path`.
    pub(crate) fn unnamed(mut file: File, path: &Path) -> Result<Self> {
        let index = Index::of(path, &mut file)?;
        // SAFETY: as in `open`; nobody else has this file.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(path, "map"))?;
        Ok(Self {
            path: path.to_owned(),
            layout: Layout::Json { map, index },
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        match &self.layout {
            Layout::Json { index, .. } => index.len(),
            Layout::Parquet(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any record is as quick to reach as the next one; not so in Parquet.
    pub fn is_random_access(&self) -> bool {
        matches!(self.layout, Layout::Json { .. })
    }

    /// Record `index`, from 0.
    ///
    /// # Errors
    /// [`DataError::NoSuchRecord`], [`DataError::Record`] when its JSON is not a record, and
    /// [`DataError::Parquet`].
    pub fn get(&self, index: usize) -> Result<Record> {
        self.parse(index, &self.raw(index)?)
    }

    /// The JSON text of record `index`: the bytes of a JSON file as they stand in it.
    ///
    /// # Errors
    /// [`DataError::NoSuchRecord`] and [`DataError::Parquet`].
    pub fn raw(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let raw = match &self.layout {
            Layout::Json { map, index: spans } => spans.span(index).and_then(|span| {
                let start = usize::try_from(span.start).ok()?;
                map.get(start..start.checked_add(span.len as usize)?)
                    .map(Cow::Borrowed)
            }),
            Layout::Parquet(rows) => rows.raw(index)?.map(Cow::Owned),
        };
        raw.ok_or_else(|| DataError::NoSuchRecord {
            path: self.path.clone(),
            index,
            len: self.len(),
        })
    }

    /// Reads `raw`, the text of record `index`, as something else than a [`Record`], or as one.
    pub(crate) fn parse<T: DeserializeOwned>(&self, index: usize, raw: &[u8]) -> Result<T> {
        let read = serde_json::from_slice(raw).or_else(|source| match not_a_number::without(raw) {
            None => Err(source),
            Some((_, Some(field))) => {
                let what = format!("`{field}` is NaN or infinite");
                Err(serde::de::Error::custom(what))
            }
            Some((clean, None)) => serde_json::from_slice(&clean),
        });
        read.map_err(|source| DataError::Record {
            path: self.path.clone(),
            index,
            offset: self.offset(index),
            source,
        })
    }

    /// Where record `index` starts in the file; its row in Parquet.
    fn offset(&self, index: usize) -> u64 {
        match &self.layout {
            Layout::Json { index: spans, .. } => spans.span(index).map_or(0, |span| span.start),
            Layout::Parquet(_) => index as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ARRAY: &str = r#"[
        {"id": "a", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nHi ]}"}]},
        {"id": 2, "conversations": []}
    ]"#;

    #[test]
    fn records_are_read_in_any_order_by_many_threads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        fs::write(&path, ARRAY).unwrap();
        let records = RecordFile::open(&path).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!(records.get(1).unwrap().id, "2");
                    assert_eq!(records.get(0).unwrap().images(), ["a.jpg"]);
                });
            }
        });
        assert!(matches!(
            records.get(2),
            Err(DataError::NoSuchRecord {
                index: 2,
                len: 2,
                ..
            })
        ));
    }

    #[test]
    fn opening_leaves_nothing_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        fs::write(&path, ARRAY).unwrap();
        assert_eq!(RecordFile::open(&path).unwrap().len(), 2);
        let names = fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["records.json"]);
    }

    #[test]
    fn files_of_other_kinds_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        for (bytes, word) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "git lfs pull",
            ),
            (b"\x1F\x8B\x08", "unpack"),
            (b"\"x\"", "expected a JSON array"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = RecordFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        fs::write(&path, "\u{FEFF}[]").unwrap();
        assert!(RecordFile::open(&path).unwrap().is_empty());
    }

    #[test]
    fn numbers_that_json_does_not_have_stop_a_record_only_where_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let lines = [
            r#"{"id":"a","conversations":[{"from":"gpt","value":"NaN","score":NaN}],"p":-Infinity}"#,
            r#"{"id":NaN,"conversations":[]}"#,
            r#"{"id":"c","conversations":[{"from":"gpt","value":Infinity}]}"#,
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        let records = RecordFile::open(&path).unwrap();
        let record = records.get(0).unwrap();
        assert_eq!((&*record.id, &*record.conversations[0].value), ("a", "NaN"));
        assert_eq!(record.extra["p"], serde_json::Value::Null);
        let error = records.get(1).unwrap_err().to_string();
        assert!(error.contains("`id` is NaN or infinite"), "{error}");
        assert!(matches!(
            records.get(2),
            Err(DataError::Record { index: 2, .. })
        ));
    }

    #[test]
    fn a_broken_record_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        fs::write(&path, r#"[{"conversations":[]}, {"conversations":[1]}]"#).unwrap();
        let records = RecordFile::open(&path).unwrap();
        let error = records.get(1).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::Record {
                    index: 1,
                    offset: 23,
                    ..
                }
            ),
            "{error}"
        );
    }
}
