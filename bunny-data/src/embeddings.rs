//! Sets of CLIP embeddings on disk: which files belong together, and what they hold.
//!
//! Three layouts are known:
//! ```text
//! clip-retrieval   img_emb/img_emb_N.npy  text_emb/text_emb_N.npy  metadata/metadata_N.parquet
//! DataComp         X.npz (l14_img, l14_txt, ...)  X.parquet (uid, text, ...)
//! Parquet          X.parquet with list columns of embeddings
//! ```
//! Row `i` of the files of one shard is the same sample. Shards stand in the numeric order of
//! their names, whatever the width of the numbers; rows are numbered through from 0.

pub(crate) mod columns;
mod layout;
pub(crate) mod matrix;
pub(crate) mod npy;
mod npz;
mod unpack;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::matrix::{Matrix, MatrixFile, Storage};
pub use self::npy::{Dtype, NpyHeader};
pub use self::npz::Archive;
use crate::error::{ArrayFault, ColumnFault, DataError, Result, SetFault};
use crate::store::{EMBEDDINGS, Store};

/// Rows shorter than this have no direction that float32 could tell.
pub(crate) const SHORTEST: f64 = 1e-6;

/// Rows longer than this are no embeddings; their products still fit float32 with room.
pub(crate) const LONGEST: f64 = 1e6;

/// The usual [`EmbeddingSet::part_rows`].
pub(crate) const PART_ROWS: u64 = 1 << 20;

/// Which columns and arrays hold what. `None` takes the usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingOptions {
    /// The metadata column of the keys; otherwise the first of `key`, `uid`, `image_path`, `id`.
    /// Sets without metadata use the row number.
    pub key_column: Option<String>,
    /// The metadata column of the captions; otherwise the first of `caption`, `text`, `TEXT`.
    pub caption_column: Option<String>,
    /// The metadata column of the addresses that pictures come from; otherwise the first of `url`,
    /// `URL`.
    pub url_column: Option<String>,
    /// A metadata column that holds the image-text similarity; otherwise it is computed from the
    /// embeddings.
    pub score_column: Option<String>,
    /// The array (`.npz`) or column (Parquet) of the image embeddings.
    pub image_array: Option<String>,
    /// The array (`.npz`) or column (Parquet) of the text embeddings.
    pub text_array: Option<String>,
}

/// The files of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The image embeddings, `[rows, dims]`.
    pub image: MatrixFile,
    /// The text embeddings, `[rows, dims]`.
    pub text: Option<MatrixFile>,
    /// The key of the Parquet file of the keys and captions.
    pub metadata: Option<String>,
    /// The number of this shard's first row in the set.
    pub first_row: u64,
}

impl Shard {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.image.rows
    }
}

/// A set of embeddings: its shards, all headers and row counts checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingSet {
    /// The shards, in the order of their rows.
    pub shards: Vec<Shard>,
    /// Numbers in a row, of images and of texts.
    pub dims: usize,
    /// The type of the image embeddings.
    pub dtype: Dtype,
    /// The column of the keys, if there is metadata.
    pub key_column: Option<String>,
    /// The column of the captions, if there is one.
    pub caption_column: Option<String>,
    /// The column of the pictures' addresses, if there is one.
    pub url_column: Option<String>,
    /// The column of the image-text scores, if it was asked for.
    pub score_column: Option<String>,
    /// Rows that are worked on as one part, at least; a shard is never split.
    pub part_rows: u64,
}

impl EmbeddingSet {
    /// Opens what a store has below [`EMBEDDINGS`] and checks that its files belong together: numbering, row counts, widths and
    /// types. The numbers themselves are not read yet.
    ///
    /// # Errors
    /// Naming the file that is missing, broken, or does not fit its shard.
    pub fn open(store: &dyn Store, options: &EmbeddingOptions) -> Result<Self> {
        let shards = layout::find(store, options)?;
        let path = |matrix: &MatrixFile| store.path(&matrix.key);
        let first = &shards[0].image;
        let (dims, dtype) = (first.dims, first.dtype);
        for shard in &shards {
            if shard.image.dtype != dtype {
                let fault = ArrayFault::OtherType {
                    found: shard.image.dtype.name(),
                    other: path(first),
                    expected: dtype.name(),
                };
                return Err(DataError::array(path(&shard.image), fault));
            }
            for matrix in [Some(&shard.image), shard.text.as_ref()]
                .into_iter()
                .flatten()
            {
                if matrix.dims != dims {
                    return Err(DataError::Dims {
                        path: path(matrix),
                        dims: matrix.dims,
                        other: path(first),
                        other_dims: dims,
                    });
                }
                if matrix.rows != shard.rows() {
                    return Err(DataError::RowCount {
                        path: path(matrix),
                        rows: matrix.rows,
                        other: path(&shard.image),
                        other_rows: shard.rows(),
                    });
                }
            }
        }
        let mut set = Self {
            shards,
            dims,
            dtype,
            key_column: None,
            caption_column: None,
            url_column: None,
            score_column: options.score_column.clone(),
            part_rows: PART_ROWS,
        };
        set.check_metadata(store, options)?;
        if set.rows() == 0 {
            return Err(DataError::set(store.path(EMBEDDINGS), SetFault::Empty));
        }
        Ok(set)
    }

    /// Fails where some shards have metadata and others none: their rows would have keys of two
    /// kinds.
    fn check_all_or_none(&self, store: &dyn Store) -> Result<()> {
        let with = self.shards.iter().find_map(|shard| shard.metadata.as_ref());
        let without = self.shards.iter().find(|shard| shard.metadata.is_none());
        match (with, without) {
            (Some(with), Some(without)) => {
                let fault = SetFault::NoMetadata(store.path(with));
                Err(DataError::set(store.path(&without.image.key), fault))
            }
            _ => Ok(()),
        }
    }

    /// Chooses the metadata columns, and checks that every file has them and as many rows as its
    /// shard.
    fn check_metadata(&mut self, store: &dyn Store, options: &EmbeddingOptions) -> Result<()> {
        self.check_all_or_none(store)?;
        let mut chosen = false;
        for (index, shard) in self.shards.iter().enumerate() {
            let Some(key) = &shard.metadata else {
                let asked = options
                    .key_column
                    .as_ref()
                    .or(options.caption_column.as_ref())
                    .or(options.url_column.as_ref());
                if let Some(name) = asked.or(options.score_column.as_ref()) {
                    return Err(DataError::set(
                        store.path(EMBEDDINGS),
                        SetFault::NoColumns(name.clone()),
                    ));
                }
                continue;
            };
            let footer = columns::footer(store.open_partly(key)?)?;
            if footer.rows != shard.rows() {
                return Err(DataError::RowCount {
                    path: footer.path,
                    rows: footer.rows,
                    other: store.path(&shard.image.key),
                    other_rows: shard.rows(),
                });
            }
            if !chosen && (footer.rows > 0 || index + 1 == self.shards.len()) {
                chosen = true;
                let first_of = |asked: &Option<String>, usual: &[&str]| {
                    asked.clone().or_else(|| {
                        let found = usual.iter().find(|name| footer.has(name));
                        found.map(|name| (*name).to_owned())
                    })
                };
                let usual = ["key", "uid", "image_path", "id"];
                self.key_column = first_of(&options.key_column, &usual);
                self.caption_column =
                    first_of(&options.caption_column, &["caption", "text", "TEXT"]);
                self.url_column = first_of(&options.url_column, &["url", "URL"]);
                if self.key_column.is_none() {
                    let names = footer.names();
                    return Err(DataError::column(
                        footer.path,
                        ColumnFault::NoKeys { names },
                    ));
                }
            }
            if footer.rows == 0 {
                // Some writers know no types where they have no rows.
                continue;
            }
            let texts = [&self.key_column, &self.caption_column, &options.url_column];
            for name in texts.into_iter().flatten() {
                footer.check(name, columns::is_text, columns::TEXT)?;
            }
            // Addresses that nobody asked for are told where all files have them.
            self.url_column = self
                .url_column
                .take()
                .filter(|name| footer.check(name, columns::is_text, columns::TEXT).is_ok());
            if let Some(name) = &self.score_column {
                footer.check(name, columns::is_number, columns::NUMBERS)?;
            }
        }
        Ok(())
    }

    /// Number of rows in all shards.
    pub fn rows(&self) -> u64 {
        self.shards
            .last()
            .map_or(0, |shard| shard.first_row + shard.rows())
    }

    /// Bytes of one image row.
    pub fn row_bytes(&self) -> usize {
        self.dims * self.dtype.size()
    }

    /// The shards of each part: neighbours, grouped so that many small files do not become as many
    /// small tasks.
    pub fn parts(&self) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let (mut start, mut rows) = (0, 0);
        for (index, shard) in self.shards.iter().enumerate() {
            rows += shard.rows();
            if rows >= self.part_rows || index + 1 == self.shards.len() {
                parts.push(start..index + 1);
                (start, rows) = (index + 1, 0);
            }
        }
        parts
    }

    /// The shard that holds a row, and the row's place in it.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn locate(&self, row: u64) -> (usize, u64) {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        // Empty shards share their first row with the next one, which sorts after them.
        let shard = self.shards.partition_point(|shard| shard.first_row <= row) - 1;
        (shard, row - self.shards[shard].first_row)
    }

    /// Bytes that [`Self::unpack`] writes: nothing for `.npy` files and stored archives.
    pub fn packed_bytes(&self) -> u64 {
        self.shards
            .iter()
            .flat_map(|shard| [Some(&shard.image), shard.text.as_ref()])
            .flatten()
            .filter(|matrix| !matches!(matrix.storage, Storage::Plain { .. }))
            .map(MatrixFile::bytes)
            .sum()
    }

    /// Writes every matrix that cannot be mapped where it lies (deflated archives, Parquet columns)
    /// as a `.npy` file into `folder`, once, and refers to that.
    ///
    /// # Errors
    /// When a row is broken, naming it, or a file cannot be written.
    pub fn unpack(mut self, store: &dyn Store, folder: &str) -> Result<Self> {
        store.make_folder(folder)?;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let target = format!("{folder}/image-{index:06}.npy");
            unpack::unpack(store, &mut shard.image, &target)?;
            if let Some(text) = &mut shard.text {
                unpack::unpack(store, text, &format!("{folder}/text-{index:06}.npy"))?;
            }
        }
        Ok(self)
    }
}
