//! Columns of a Parquet file of a benchmark.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StructArray};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::reader::ChunkReader;

use crate::error::{EvalError, Result};
use crate::folder::Folder;

/// Some columns of a file, all rows or one.
#[derive(Debug)]
pub(crate) struct Rows {
    batches: Vec<RecordBatch>,
}

impl Rows {
    /// Reads some columns; those that the file lacks are read as null.
    pub(crate) fn read(folder: &Folder, file: &str, columns: &[&str]) -> Result<Self> {
        Self::select(folder, file, columns, None)
    }

    /// Reads some columns of one row.
    pub(crate) fn read_row(
        folder: &Folder,
        file: &str,
        columns: &[&str],
        row: usize,
    ) -> Result<Self> {
        Self::select(folder, file, columns, Some(row))
    }

    fn select(folder: &Folder, file: &str, columns: &[&str], row: Option<usize>) -> Result<Self> {
        let place = folder.place(file)?;
        let batches = match folder.plain(file) {
            Some(path) => {
                let file = std::fs::File::open(&path).map_err(EvalError::io(&path, "open"))?;
                batches(file, columns, row)
            }
            None => batches(Bytes::from(folder.expect(file, "")?), columns, row),
        };
        let batches = batches.map_err(EvalError::unreadable(place, "Parquet"))?;
        Ok(Self { batches })
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A text; `None` where it is null or the column is of another kind.
    pub(crate) fn text(&self, column: &str, row: usize) -> Option<&str> {
        let (batch, row) = self.locate(row)?;
        text_at(batch.column_by_name(column)?, row)
    }

    /// The field `bytes` of a picture's structure; `None` where there is no picture.
    pub(crate) fn picture(&self, column: &str, row: usize) -> Option<&[u8]> {
        let (batch, row) = self.locate(row)?;
        let picture: &StructArray = batch.column_by_name(column)?.as_struct_opt()?;
        let bytes = picture
            .column_by_name("bytes")
            .filter(|_| picture.is_valid(row))?;
        let small = bytes
            .as_binary_opt::<i32>()
            .filter(|bytes| bytes.is_valid(row));
        let large = bytes
            .as_binary_opt::<i64>()
            .filter(|bytes| bytes.is_valid(row));
        small
            .map(|bytes| bytes.value(row))
            .or(large.map(|bytes| bytes.value(row)))
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

/// A file that is cut or forged can make the reader panic: that is an error, too.
fn batches(
    source: impl ChunkReader + 'static,
    columns: &[&str],
    row: Option<usize>,
) -> Result<Vec<RecordBatch>, String> {
    let read = || -> Result<Vec<RecordBatch>, Box<dyn std::error::Error>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let mut builder = builder.with_projection(mask);
        if let Some(row) = row {
            let selectors = vec![RowSelector::skip(row), RowSelector::select(1)];
            builder = builder.with_row_selection(RowSelection::from(selectors));
        }
        Ok(builder.build()?.collect::<Result<_, _>>()?)
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("it is damaged".to_owned()),
    }
}
