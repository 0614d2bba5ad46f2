//! Writing a mix, whole or not at all, and its manifest.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Mix, MixOrder, MixRecipe, Part, Source, in_pieces};
use crate::Progress;
use crate::error::{CountDifference, DataError, Result};
use crate::order::shuffled;
use crate::record::{RecordFile, RecordWriter};
use crate::whole::{AtomicFile, write_whole};
use bunny_base::random::mix_all;

/// Records rendered together, in parallel; what of the mix is in memory at any time.
const PIECE: usize = 8192;

/// What was mixed and what came of it: written beside the mix as `<mix>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Manifest {
    /// 1.
    pub format_version: u32,
    /// The recipe, with every default.
    pub recipe: MixRecipe,
    /// Whether counts that differ were accepted.
    pub accepted_counts: bool,
    /// Where the inputs differed from the recipe's counts.
    pub differences: Vec<CountDifference>,
    /// What was read.
    pub sources: Vec<ManifestSource>,
    /// What was written.
    pub output: ManifestOutput,
}

/// One input of a mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestSource {
    /// Its name in the recipe.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
    /// Records in it.
    pub records: usize,
    /// Records of it in the mix, repeats counted.
    pub used: usize,
}

/// The output of a mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestOutput {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
    /// Records in it.
    pub records: usize,
}

impl Mix {
    /// Writes the mix to `out`, as a JSON array, or as JSON lines where it is named `.jsonl`, and
    /// its manifest beside it. Both appear whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Counts`] when counts differ and are not accepted, before anything is written;
    /// [`DataError::Record`] for a record that is none; [`DataError::Io`].
    pub fn write(
        &self,
        out: impl AsRef<Path>,
        accept_counts: bool,
        progress: Progress<'_>,
    ) -> Result<Manifest> {
        self.check_counts(accept_counts)?;
        if self.is_empty() {
            let what = "no record of any source is used: the mix would be empty";
            return Err(self.recipe.wrong("source", what));
        }
        let out = out.as_ref();
        let name = DataError::text(Path::new(out.file_name().unwrap_or_default()))?;
        let mut file = AtomicFile::create(out)?;
        let spooled = self.spooled(out)?;
        let mut hashing = Hashing {
            inner: &mut file,
            hash: Sha256::new(),
            bytes: 0,
        };
        self.write_records(&mut hashing, &spooled, out, progress)?;
        let (hash, bytes) = (hashing.hash, hashing.bytes);
        let manifest = Manifest {
            format_version: 1,
            recipe: self.recipe.clone(),
            accepted_counts: accept_counts && !self.differences.is_empty(),
            differences: self.differences.clone(),
            sources: self.describe_sources()?,
            output: ManifestOutput {
                file: name.to_owned(),
                bytes,
                sha256: hex(&hash.finalize()),
                records: self.len(),
            },
        };
        file.finish()?;
        let mut text = serde_json::to_vec_pretty(&manifest)
            .expect("strings, numbers and their lists always have a JSON text");
        text.push(b'\n');
        write_whole(manifest_path(out), &text)?;
        Ok(manifest)
    }

    /// Writes the records themselves to anywhere; `name` is what errors call it.
    fn write_records(
        &self,
        out: &mut impl Write,
        spooled: &[Option<Source>],
        name: &Path,
        progress: Progress<'_>,
    ) -> Result<()> {
        let total = self.len();
        let key = mix_all(&[self.recipe.seed, u64::from_le_bytes(*b"shuffled")]);
        let ends: Vec<usize> = self
            .parts
            .iter()
            .scan(0, |end, part| {
                *end += part.picks.len();
                Some(*end)
            })
            .collect();
        let render = |position: usize| {
            let slot = match self.recipe.order {
                MixOrder::Append => position,
                MixOrder::Shuffle => shuffled(position as u64, total as u64, key) as usize,
            };
            let part = ends.partition_point(|end| *end <= slot);
            let start = part.checked_sub(1).map_or(0, |before| ends[before]);
            let Part { source, picks } = &self.parts[part];
            let index = picks[slot - start] as usize;
            // A spooled source is the same records in a file that is quick to read anywhere.
            spooled[*source]
                .as_ref()
                .unwrap_or(&self.sources[*source])
                .render(index, self.images.as_ref())
        };
        let written = |result: io::Result<()>| result.map_err(DataError::io(name, "write"));
        let mut records = RecordWriter::new(out, name);
        let mut done = 0;
        in_pieces(total, PIECE, render, |record| {
            done += 1;
            if done % PIECE == 0 || done == total {
                progress(done as u64, total as u64);
            }
            written(records.push(&record))
        })?;
        records
            .finish()
            .map(|_| ())
            .map_err(DataError::io(name, "write"))
    }

    /// Shuffled reading needs quick access to any record: what is not, as Parquet, becomes JSON
    /// lines in a file beside the output first, which has no name and is gone with this process.
    fn spooled(&self, out: &Path) -> Result<Vec<Option<Source>>> {
        let beside = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let spool = |source: &Source| {
            let is_quick = source.file.is_random_access() || source.file.is_empty();
            if self.recipe.order == MixOrder::Append || is_quick {
                return Ok(None);
            }
            let unwritten = |error| DataError::io(out, "write")(error);
            let folder = beside.unwrap_or(Path::new("."));
            let file = tempfile::tempfile_in(folder).map_err(unwritten)?;
            let mut lines = BufWriter::with_capacity(1 << 20, file);
            for index in 0..source.file.len() {
                let line = source.file.raw(index)?;
                let written = lines.write_all(&line);
                written
                    .and_then(|()| lines.write_all(b"\n"))
                    .map_err(unwritten)?;
            }
            let file = lines
                .into_inner()
                .map_err(|error| unwritten(error.into_error()))?;
            Ok(Some(Source {
                spec: source.spec.clone(),
                file: RecordFile::unnamed(file, source.file.path())?,
            }))
        };
        self.sources.iter().map(spool).collect()
    }

    fn describe_sources(&self) -> Result<Vec<ManifestSource>> {
        self.sources
            .par_iter()
            .zip(self.counts())
            .map(|(source, count)| {
                let (bytes, sha256) = hash_file(source.file.path())?;
                Ok(ManifestSource {
                    name: count.source,
                    bytes,
                    sha256,
                    records: count.records,
                    used: count.used,
                })
            })
            .collect()
    }
}

/// `mix.json` → `mix.json.manifest.json`.
fn manifest_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(DataError::io(path, "open"))?;
    let mut chunk = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk).map_err(DataError::io(path, "read"))?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes and counts what goes through.
#[derive(Debug)]
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let record = r#"{"id":"a","conversations":[{"from":"human","value":"x"}]}"#;
        std::fs::write(
            folder.path().join("a.jsonl"),
            format!("{record}\n").repeat(500),
        )
        .unwrap();
        let recipe: MixRecipe = toml::from_str(
            "format_version = 1\nname = 'm'\n[[source]]\nname = 'a'\npath = 'a.jsonl'",
        )
        .unwrap();
        let mix = Mix::open(recipe, folder.path(), None).unwrap();
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = mix
            .write_records(&mut full, &[None], Path::new("out.json"), &|_, _| {})
            .unwrap_err();
        assert!(
            matches!(&error, DataError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert!(
            error.to_string().starts_with("out.json: cannot write: "),
            "{error}"
        );
    }
}
