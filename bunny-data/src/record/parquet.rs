//! Records out of a Parquet file, as JSON text, so that everything behind reads one format.
//!
//! Rows are decoded a window at a time and the last few windows are kept: reading front to back
//! decodes each row once. Shuffled reading decodes a window a record; turn such a file into JSON
//! lines first (a mix of one source does).

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, cast::AsArray};
use arrow_json::LineDelimitedWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use memchr::memchr_iter;
use memmap2::Mmap;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use crate::error::{DataError, ParquetFault, Result};
use crate::panic_guard::guarded;

/// Rows decoded together.
const WINDOW_ROWS: usize = 2048;
/// Windows kept.
const WINDOWS: usize = 8;

/// The rows of a Parquet file.
#[derive(Debug)]
pub(crate) struct ParquetRows {
    path: PathBuf,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    /// The first row of each row group, then the number of rows.
    starts: Vec<usize>,
    windows: Mutex<VecDeque<Arc<Window>>>,
}

/// Some rows of one row group, as lines of JSON.
#[derive(Debug)]
struct Window {
    first_row: usize,
    text: Vec<u8>,
    /// Where each row ends in `text`, its newline left out.
    ends: Vec<usize>,
}

impl ParquetRows {
    /// Opens a file whose schema has a `conversations` (or, for conversion, any other) column.
    pub fn open(path: &Path, file: &File) -> Result<Self> {
        // SAFETY: read-only, every access goes through `Bytes`; see `RecordFile` on cutting files.
        let map = unsafe { Mmap::map(file) }.map_err(DataError::io(path, "map"))?;
        let bytes = Bytes::from_owner(map);
        let metadata = guarded(path, || {
            Ok(ArrowReaderMetadata::load(
                &bytes,
                ArrowReaderOptions::default(),
            )?)
        })?;
        let mut starts = vec![0];
        let mut end = 0_usize;
        for group in metadata.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).ok();
            end = rows
                .and_then(|rows| end.checked_add(rows))
                .ok_or_else(|| DataError::parquet(path)(ParquetFault::Rows))?;
            starts.push(end);
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            metadata,
            starts,
            windows: Mutex::default(),
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Row `index` as a JSON object; `None` beyond the end.
    pub fn raw(&self, index: usize) -> Result<Option<Vec<u8>>> {
        if index >= self.len() {
            return Ok(None);
        }
        let group = self.starts.partition_point(|start| *start <= index) - 1;
        let start = self.starts[group];
        let first_row = start + (index - start) / WINDOW_ROWS * WINDOW_ROWS;
        let window = match self.kept(first_row) {
            Some(window) => window,
            None => {
                let rows = WINDOW_ROWS.min(self.starts[group + 1] - first_row);
                let window = Arc::new(self.decode(group, first_row, rows)?);
                let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
                windows.truncate(WINDOWS - 1);
                windows.push_front(window.clone());
                window
            }
        };
        let row = index - first_row;
        let from = row
            .checked_sub(1)
            .map_or(0, |before| window.ends[before] + 1);
        Ok(Some(window.text[from..window.ends[row]].to_owned()))
    }

    fn kept(&self, first_row: usize) -> Option<Arc<Window>> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .iter()
            .find(|window| window.first_row == first_row)
            .cloned()
    }

    fn decode(&self, group: usize, first_row: usize, rows: usize) -> Result<Window> {
        let text = guarded(&self.path, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                self.bytes.clone(),
                self.metadata.clone(),
            );
            let schema = builder.parquet_schema();
            // Bytes have no place in JSON; what pictures a file embeds is reached by their path.
            let leaves = (0..schema.num_columns()).filter(|leaf| !is_bytes(&schema.column(*leaf)));
            let mask = ProjectionMask::leaves(schema, leaves);
            let reader = builder
                .with_projection(mask)
                .with_row_groups(vec![group])
                .with_offset(first_row - self.starts[group])
                .with_limit(rows)
                .with_batch_size(rows)
                .build()?;
            let mut writer = LineDelimitedWriter::new(Vec::new());
            for batch in reader {
                writer.write(&flatten_image(batch?)?)?;
            }
            writer.finish()?;
            Ok(writer.into_inner())
        })?;
        let ends: Vec<usize> = memchr_iter(b'\n', &text).collect();
        if ends.len() != rows {
            return Err(DataError::parquet(&self.path)(ParquetFault::FewerRows {
                first: first_row,
                found: ends.len(),
                expected: rows,
            }));
        }
        Ok(Window {
            first_row,
            text,
            ends,
        })
    }
}

fn is_bytes(column: &parquet::schema::types::ColumnDescriptor) -> bool {
    use parquet::basic::{ConvertedType, Type};
    matches!(
        column.physical_type(),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY
    ) && column.converted_type() == ConvertedType::NONE
        && column.logical_type_ref().is_none()
}

/// Turns an `image` column of `{path, …}`, as Hugging Face `datasets` writes it, into its path.
fn flatten_image(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let Ok(at) = schema.index_of("image") else {
        return Ok(batch);
    };
    if !matches!(schema.field(at).data_type(), DataType::Struct(_)) {
        return Ok(batch);
    }
    let Some(path) = batch.column(at).as_struct().column_by_name("path") else {
        return Ok(batch);
    };
    let mut columns = batch.columns().to_vec();
    columns[at] = path.clone();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
