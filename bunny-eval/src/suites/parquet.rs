//! Columns of a Parquet file of a benchmark.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StructArray};
use bunny_base::caught;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::reader::ChunkReader;

use crate::error::{EvalError, Result};
use crate::folder::Folder;

/// Hands a file over: itself, or the bytes of a member of an archive.
macro_rules! with_source {
    ($folder:expr, $file:expr, |$source:ident| $do:expr) => {
        match $folder.plain($file) {
            Some(path) => {
                let $source = std::fs::File::open(&path).map_err(EvalError::io(&path, "open"))?;
                $do
            }
            None => {
                let $source = Bytes::from($folder.expect($file, "")?);
                $do
            }
        }
    };
}

/// Some columns of a file, all rows.
#[derive(Debug)]
pub(crate) struct Rows {
    batches: Vec<RecordBatch>,
}

impl Rows {
    /// Reads some columns; those that the file lacks are read as null.
    pub(crate) fn read(folder: &Folder, file: &str, columns: &[&str]) -> Result<Self> {
        let batches = with_source!(folder, file, |source| batches(source, columns));
        let unreadable = EvalError::unreadable(folder.place(file)?, "Parquet");
        Ok(Self {
            batches: batches.map_err(unreadable)?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A text; `None` where it is null or the column is of another kind.
    pub(crate) fn text(&self, column: &str, row: usize) -> Option<&str> {
        let (batch, row) = self.locate(row)?;
        text_at(batch.column_by_name(column)?, row)
    }

    /// Whether a structure is there.
    pub(crate) fn is_there(&self, column: &str, row: usize) -> bool {
        let found = self
            .locate(row)
            .and_then(|(batch, row)| Some(batch.column_by_name(column)?.is_valid(row)));
        found.unwrap_or(false)
    }

    fn locate(&self, mut row: usize) -> Option<(&RecordBatch, usize)> {
        for batch in &self.batches {
            if row < batch.num_rows() {
                return Some((batch, row));
            }
            row -= batch.num_rows();
        }
        None
    }
}

fn text_at(column: &dyn Array, row: usize) -> Option<&str> {
    if !column.is_valid(row) {
        return None;
    }
    let small = column.as_string_opt::<i32>().map(|texts| texts.value(row));
    let large = || column.as_string_opt::<i64>().map(|texts| texts.value(row));
    small.or_else(large)
}

/// The pictures of a column, row after row: to begin at each would read all before it again.
pub(crate) struct Walk {
    column: String,
    reader: ParquetRecordBatchReader,
    /// The row that comes next.
    next: usize,
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("column", &self.column)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Walk {
    /// Begins at a row.
    pub(crate) fn begin(folder: &Folder, file: &str, column: &str, row: usize) -> Result<Self> {
        let reader = with_source!(folder, file, |source| reader(source, &[column], Some(row)));
        Ok(Self {
            column: column.to_owned(),
            reader: reader.map_err(EvalError::unreadable(folder.place(file)?, "Parquet"))?,
            next: row,
        })
    }

    /// Whether a row of the column is yet to come.
    pub(crate) fn leads_to(&self, column: &str, row: usize) -> bool {
        self.column == column && self.next <= row
    }

    /// The field `bytes` of the picture in a row that is yet to come; `None` where there is none.
    pub(crate) fn picture(
        &mut self,
        folder: &Folder,
        file: &str,
        row: usize,
    ) -> Result<Option<Vec<u8>>> {
        let walk = || -> Result<Option<RecordBatch>, Box<dyn std::error::Error>> {
            let mut found = None;
            while self.next <= row {
                found = self.reader.next().transpose()?;
                self.next += 1;
            }
            Ok(found)
        };
        let found = guarded(walk).map_err(EvalError::unreadable(folder.place(file)?, "Parquet"))?;
        Ok(found.and_then(|batch| picture(&batch, &self.column)))
    }
}

/// The picture of a lone row.
fn picture(batch: &RecordBatch, column: &str) -> Option<Vec<u8>> {
    let picture: &StructArray = batch.column_by_name(column)?.as_struct_opt()?;
    let bytes = picture
        .column_by_name("bytes")
        .filter(|bytes| !bytes.is_empty() && picture.is_valid(0) && bytes.is_valid(0))?;
    let small = bytes.as_binary_opt::<i32>().map(|bytes| bytes.value(0));
    let large = || bytes.as_binary_opt::<i64>().map(|bytes| bytes.value(0));
    Some(small.or_else(large)?.to_vec())
}

fn batches(
    source: impl ChunkReader + 'static,
    columns: &[&str],
) -> Result<Vec<RecordBatch>, String> {
    let mut reader = reader(source, columns, None)?;
    guarded(|| Ok(reader.by_ref().collect::<Result<_, _>>()?))
}

/// A reader of some columns: of all rows, or of those from one on, one at a time.
fn reader(
    source: impl ChunkReader + 'static,
    columns: &[&str],
    first: Option<usize>,
) -> Result<ParquetRecordBatchReader, String> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let rows = usize::try_from(builder.metadata().file_metadata().num_rows())?;
        let mut builder = builder.with_projection(mask);
        if let Some(first) = first {
            let left = rows.saturating_sub(first);
            let selectors = vec![RowSelector::skip(rows - left), RowSelector::select(left)];
            builder = builder
                .with_row_selection(RowSelection::from(selectors))
                .with_batch_size(1);
        }
        Ok(builder.build()?)
    })
}

/// A file that is cut or forged can make the reader panic: that is an error, too.
fn guarded<T>(read: impl FnOnce() -> Result<T, Box<dyn std::error::Error>>) -> Result<T, String> {
    match caught(read) {
        Some(read) => read.map_err(|error| error.to_string()),
        None => Err("it is damaged".to_owned()),
    }
}
