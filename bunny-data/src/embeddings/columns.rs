//! Columns of Parquet files: keys, captions and scores beside the embeddings, and embeddings kept
//! as list columns.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int32Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::npy::Dtype;
use crate::error::{ColumnFault, DataError, ParquetFault, Result, RowFault};
use crate::panic_guard::guarded;
use crate::store::Opened;

/// Rows read at a time.
const BATCH: usize = 8192;

/// What a Parquet file's footer says.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
    pub(crate) schema: SchemaRef,
}

impl Footer {
    /// Whether the file has a column of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.schema.index_of(name).is_ok()
    }

    /// The names of all columns, for messages.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.schema)
    }

    /// Says that the file has no column of this name.
    pub(crate) fn lacks(&self, name: &str) -> DataError {
        lacks(&self.path, &self.schema, name)
    }
}

fn names(schema: &Schema) -> Vec<String> {
    let fields = schema.fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

/// Says that a file has no column of this name.
fn lacks(path: &Path, schema: &Schema, name: &str) -> DataError {
    let fault = ColumnFault::Missing {
        name: name.to_owned(),
        names: names(schema),
    };
    DataError::column(path, fault)
}

type Builder = ParquetRecordBatchReaderBuilder<File>;

fn builder(opened: Opened) -> Result<(Builder, PathBuf)> {
    let Opened { file, path } = opened;
    let builder = guarded(&path, || Ok(Builder::try_new(file)?))?;
    Ok((builder, path))
}

/// Reads the footer of a Parquet file.
pub(crate) fn footer(opened: Opened) -> Result<Footer> {
    let (builder, path) = builder(opened)?;
    let rows = builder.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(|_| DataError::parquet(&path)(ParquetFault::Rows))?;
    Ok(Footer {
        path,
        rows,
        schema: builder.schema().clone(),
    })
}

/// Calls `each(first_row, batch, path)` for the named columns of all rows, in order.
pub(crate) fn for_each_batch(
    opened: Opened,
    columns: &[&str],
    mut each: impl FnMut(u64, &RecordBatch, &Path) -> Result<()>,
) -> Result<()> {
    let (builder, path) = builder(opened)?;
    let path = path.as_path();
    let roots: Vec<usize> = columns
        .iter()
        .map(|name| {
            builder
                .schema()
                .index_of(name)
                .map_err(|_| lacks(path, builder.schema(), name))
        })
        .collect::<Result<_>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let mut reader = guarded(path, || {
        let builder = builder.with_batch_size(BATCH).with_projection(mask);
        Ok(builder.build()?)
    })?;
    let mut first = 0;
    loop {
        let batch = guarded(path, || Ok(reader.next().transpose()?))?;
        let Some(batch) = batch else { return Ok(()) };
        each(first, &batch, path)?;
        first += batch.num_rows() as u64;
    }
}

/// The column of a batch as text; integers are written in decimals.
///
/// # Errors
/// When the column is of another type.
pub(crate) fn text<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<Text<'a>> {
    let column = column(path, batch, name)?;
    let known = matches!(
        column.data_type(),
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt64
    );
    if known {
        Ok(Text(column))
    } else {
        let fault = ColumnFault::Type {
            name: name.to_owned(),
            found: column.data_type().clone(),
            wanted: "text or integers",
        };
        Err(DataError::column(path, fault))
    }
}

/// A column of text or integers.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a>(&'a ArrayRef);

impl<'a> Text<'a> {
    /// The value of one row, or `None` where it is null.
    pub(crate) fn get(self, row: usize) -> Option<std::borrow::Cow<'a, str>> {
        let array = self.0;
        if array.is_null(row) {
            return None;
        }
        Some(match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row).into(),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
            DataType::Utf8View => array.as_string_view().value(row).into(),
            DataType::Int32 => array
                .as_primitive::<Int32Type>()
                .value(row)
                .to_string()
                .into(),
            DataType::Int64 => array
                .as_primitive::<Int64Type>()
                .value(row)
                .to_string()
                .into(),
            _ => array
                .as_primitive::<UInt64Type>()
                .value(row)
                .to_string()
                .into(),
        })
    }
}

/// The column of a batch as float64; nulls are NaN.
pub(crate) fn scores(path: &Path, batch: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let array = column(path, batch, name)?;
    let values: Vec<f64> = match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            values.iter().map(|v| f64::from(*v)).collect()
        }
        DataType::Float64 => array.as_primitive::<Float64Type>().values().to_vec(),
        other => {
            let fault = ColumnFault::Type {
                name: name.to_owned(),
                found: other.clone(),
                wanted: "float32 or float64",
            };
            return Err(DataError::column(path, fault));
        }
    };
    Ok(values
        .into_iter()
        .enumerate()
        .map(|(row, value)| if array.is_null(row) { f64::NAN } else { value })
        .collect())
}

fn column<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| lacks(path, &batch.schema(), name))
}

/// The element type of a list column of embeddings, or `None` for a column of another type.
pub(crate) fn embedding_type(column: &DataType) -> Option<Dtype> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) =
        column
    else {
        return None;
    };
    match item.data_type() {
        DataType::Float16 => Some(Dtype::Float16),
        DataType::Float32 => Some(Dtype::Float32),
        _ => None,
    }
}

/// Numbers in the first row of an embedding column.
///
/// # Errors
/// When there is no row, or it is null or empty.
pub(crate) fn embedding_width(opened: Opened, name: &str) -> Result<usize> {
    let (builder, path) = builder(opened)?;
    let path = path.as_path();
    let index = builder
        .schema()
        .index_of(name)
        .map_err(|_| lacks(path, builder.schema(), name))?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
    let first = guarded(path, || {
        let mut reader = builder
            .with_batch_size(1)
            .with_limit(1)
            .with_projection(mask)
            .build()?;
        Ok(reader.next().transpose()?)
    })?;
    let width = first.map_or(0, |batch| {
        let list = batch.column(0);
        match list.data_type() {
            _ if list.is_empty() || list.is_null(0) => 0,
            DataType::List(_) => list.as_list::<i32>().value_length(0) as usize,
            DataType::LargeList(_) => list.as_list::<i64>().value_length(0) as usize,
            _ => list.as_fixed_size_list().value_length() as usize,
        }
    });
    if width == 0 {
        return Err(DataError::row(
            path,
            0,
            RowFault::NoNumbers(name.to_owned()),
        ));
    }
    Ok(width)
}

/// Calls `each(row, bytes)` for every row of an embedding column; `bytes` are its numbers,
/// little-endian.
///
/// # Errors
/// For a null row, a null number, or a row of another width, naming the row.
pub(crate) fn for_each_embedding(
    opened: Opened,
    name: &str,
    width: usize,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    for_each_batch(opened, &[name], |first, batch, path| {
        let list = column(path, batch, name)?;
        for index in 0..list.len() {
            let row = first + index as u64;
            let wrong = |fault| DataError::row(path, row, fault);
            let name = || name.to_owned();
            if list.is_null(index) {
                return Err(wrong(RowFault::Null(name())));
            }
            let values = match list.data_type() {
                DataType::List(_) => list.as_list::<i32>().value(index),
                DataType::LargeList(_) => list.as_list::<i64>().value(index),
                _ => list.as_fixed_size_list().value(index),
            };
            if values.null_count() > 0 {
                return Err(wrong(RowFault::NullNumber(name())));
            }
            if values.len() != width {
                return Err(wrong(RowFault::Width {
                    column: name(),
                    found: values.len(),
                    expected: width,
                }));
            }
            match values.data_type() {
                DataType::Float16 => each(
                    row,
                    bytemuck::cast_slice(values.as_primitive::<Float16Type>().values()),
                )?,
                DataType::Float32 => each(
                    row,
                    bytemuck::cast_slice(values.as_primitive::<Float32Type>().values()),
                )?,
                other => {
                    return Err(wrong(RowFault::Type {
                        column: name(),
                        found: other.clone(),
                    }));
                }
            }
        }
        Ok(())
    })
}
