//! Columns of Parquet files: keys, captions and scores beside the embeddings, and embeddings kept
//! as list columns.

use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;

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
    metadata: Arc<ParquetMetaData>,
}

impl Footer {
    /// Whether the file has a column of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.schema.index_of(name).is_ok()
    }

    /// Fails unless a column is there, can be read, and is of a type that `fits`.
    pub(crate) fn check(
        &self,
        name: &str,
        fits: fn(&DataType) -> bool,
        wanted: &'static str,
    ) -> Result<()> {
        let Ok(field) = self.schema.field_with_name(name) else {
            return Err(self.lacks(name));
        };
        if !fits(field.data_type()) {
            return Err(wrong_type(&self.path, name, field.data_type(), wanted));
        }
        check_codecs(&self.path, &self.metadata, |column| column == name)
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

/// Fails where a column that is to be read is compressed in a way that cannot be.
pub(crate) fn check_codecs(
    path: &Path,
    metadata: &ParquetMetaData,
    is_read: impl Fn(&str) -> bool,
) -> Result<()> {
    let chunks = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns());
    for chunk in chunks {
        let parts = chunk.column_path().parts();
        let column = parts.first().map_or("", String::as_str);
        let is_known = !matches!(
            chunk.compression(),
            Compression::BROTLI(_) | Compression::LZO
        );
        if !is_known && is_read(column) {
            let codec = chunk.compression().to_string();
            let codec = codec.split('(').next().unwrap_or_default().to_lowercase();
            let column = column.to_owned();
            return Err(DataError::parquet(path)(ParquetFault::Codec {
                column,
                codec,
            }));
        }
    }
    Ok(())
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

/// Bytes at the end of a Parquet file that mostly hold its footer.
const FOOTER: u64 = 1 << 16;

fn builder(opened: &Opened) -> Result<Builder> {
    let (path, length) = (&opened.path, opened.len()?);
    opened.need(length.saturating_sub(FOOTER)..length)?;
    let read = || {
        let mut end = [0; 8];
        let mut file = &opened.file;
        file.seek(SeekFrom::Start(length.saturating_sub(8)))?;
        // A file that is too short for it is refused in its place.
        let _ = file.read(&mut end)?;
        Ok(u32::from_le_bytes([end[0], end[1], end[2], end[3]]))
    };
    let footer: u32 = read().map_err(DataError::io(path, "read"))?;
    opened.need(length.saturating_sub(8 + u64::from(footer))..length)?;
    let file = opened
        .file
        .try_clone()
        .map_err(DataError::io(path, "open"))?;
    guarded(path, || Ok(Builder::try_new(file)?))
}

/// Makes sure that the named columns are there, of the row groups that `wanted` takes.
fn need(
    opened: &Opened,
    builder: &Builder,
    columns: &[&str],
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    let groups = builder.metadata().row_groups().iter().enumerate();
    for (_, group) in groups.filter(|(index, _)| wanted(*index)) {
        for chunk in group.columns() {
            let root = chunk.column_path().parts().first();
            if root.is_some_and(|root| columns.contains(&root.as_str())) {
                let start = chunk.dictionary_page_offset();
                let start = start.unwrap_or(chunk.data_page_offset());
                // Negative numbers are refused by the reader.
                if let (Ok(start), Ok(bytes)) =
                    (u64::try_from(start), u64::try_from(chunk.compressed_size()))
                {
                    opened.need(start..start.saturating_add(bytes))?;
                }
            }
        }
    }
    Ok(())
}

/// Reads the footer of a Parquet file.
pub(crate) fn footer(opened: Opened) -> Result<Footer> {
    let builder = builder(&opened)?;
    let path = opened.path;
    let rows = builder.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(|_| DataError::parquet(&path)(ParquetFault::Rows))?;
    Ok(Footer {
        path,
        rows,
        schema: builder.schema().clone(),
        metadata: builder.metadata().clone(),
    })
}

/// Calls `each(first_row, batch, path)` for the named columns of all rows, in order.
pub(crate) fn for_each_batch(
    opened: Opened,
    columns: &[&str],
    mut each: impl FnMut(u64, &RecordBatch, &Path) -> Result<()>,
) -> Result<()> {
    while_batches(opened, columns, |first, batch, path| {
        each(first, batch, path).map(|()| true)
    })
}

/// As [`for_each_batch`], until `each` returns false.
pub(crate) fn while_batches(
    opened: Opened,
    columns: &[&str],
    mut each: impl FnMut(u64, &RecordBatch, &Path) -> Result<bool>,
) -> Result<()> {
    let builder = builder(&opened)?;
    let path = opened.path.as_path();
    need(&opened, &builder, columns, |_| true)?;
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
        if !each(first, &batch, path)? {
            return Ok(());
        }
        first += batch.num_rows() as u64;
    }
}

/// Whether a column of this type can be read as text: text and bytes that are text, integers,
/// identifiers of 16 bytes, nothing at all, and dictionaries and runs of these.
pub(crate) fn is_text(column: &DataType) -> bool {
    match column {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale == 0,
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Null => true,
        other => other.is_integer(),
    }
}

/// Whether a column of this type can be read as numbers.
pub(crate) fn is_number(column: &DataType) -> bool {
    match column {
        DataType::Dictionary(_, values) => is_number(values),
        DataType::RunEndEncoded(_, values) => is_number(values.data_type()),
        other => other.is_numeric() || *other == DataType::Null,
    }
}

/// A column of text.
#[derive(Debug)]
pub(crate) struct Text(LargeStringArray);

impl Text {
    /// The value of one row, or `None` where it is null.
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

/// The column of a batch, whose first row is `first` of its file, as text; integers are written in
/// decimals, 16 bytes as an identifier (UUID).
///
/// # Errors
/// When the column is of another type than [`is_text`] takes, or bytes of it are no text.
pub(crate) fn text(path: &Path, first: u64, batch: &RecordBatch, name: &str) -> Result<Text> {
    match text_or_null(path, batch, name)? {
        (texts, None) => Ok(texts),
        (_, Some(row)) => {
            let fault = RowFault::NotText(name.to_owned());
            Err(DataError::row(path, first + row as u64, fault))
        }
    }
}

/// As [`text`], with bytes that are no text as null; also the first row that has such.
pub(crate) fn text_or_null(
    path: &Path,
    batch: &RecordBatch,
    name: &str,
) -> Result<(Text, Option<usize>)> {
    let column = column(path, batch, name)?;
    if !is_text(column.data_type()) {
        return Err(wrong_type(path, name, column.data_type(), TEXT));
    }
    let values = unwrapped(path, column)?;
    if let DataType::FixedSizeBinary(16) = values.data_type() {
        let bytes = values.as_fixed_size_binary();
        let texts = bytes.iter().map(|bytes| bytes.map(uuid)).collect();
        return Ok((Text(texts), None));
    }
    let values = match values.data_type() {
        DataType::FixedSizeBinary(_) => cast(path, &values, &DataType::LargeBinary)?,
        _ => values,
    };
    let texts = cast(path, &values, &DataType::LargeUtf8)?;
    let lost = (0..texts.len()).find(|row| texts.is_null(*row) && values.is_valid(*row));
    let lost = lost.filter(|_| *values.data_type() != DataType::Null);
    Ok((Text(texts.as_string().clone()), lost))
}

/// What a column of keys or captions has to hold.
pub(crate) const TEXT: &str = "text or integers";

/// What a column of scores has to hold.
pub(crate) const NUMBERS: &str = "numbers";

/// Says that a column is of another type than it has to be.
pub(crate) fn wrong_type(
    path: &Path,
    name: &str,
    found: &DataType,
    wanted: &'static str,
) -> DataError {
    let fault = ColumnFault::Type {
        name: name.to_owned(),
        found: found.clone(),
        wanted,
    };
    DataError::column(path, fault)
}

/// Sixteen bytes as databases write them: `00112233-4455-6677-8899-aabbccddeeff`.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The column of a batch as float64; nulls are NaN.
///
/// # Errors
/// When the column is of another type than [`is_number`] takes.
pub(crate) fn scores(path: &Path, batch: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let column = column(path, batch, name)?;
    if !is_number(column.data_type()) {
        return Err(wrong_type(path, name, column.data_type(), NUMBERS));
    }
    let values = unwrapped(path, column)?;
    let values = cast(path, &values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>().iter();
    Ok(values.map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// A column without its dictionary or its runs.
fn unwrapped(path: &Path, column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(path, column, &values.clone()),
        DataType::RunEndEncoded(_, values) => cast(path, column, values.data_type()),
        _ => Ok(column.clone()),
    }
}

/// A column of another type; what does not fit it becomes null.
fn cast(path: &Path, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    guarded(path, || Ok(arrow_cast::cast(column, to)?))
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
        DataType::Float64 => Some(Dtype::Float64),
        _ => None,
    }
}

/// Numbers in the first row of an embedding column.
///
/// # Errors
/// When there is no row, or it is null or empty.
pub(crate) fn embedding_width(opened: Opened, name: &str) -> Result<usize> {
    let builder = builder(&opened)?;
    let path = opened.path.as_path();
    let groups = builder.metadata().row_groups().iter();
    let first = groups
        .map(|group| group.num_rows())
        .position(|rows| rows > 0);
    need(&opened, &builder, &[name], |index| Some(index) == first)?;
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
                DataType::Float64 => each(
                    row,
                    bytemuck::cast_slice(values.as_primitive::<Float64Type>().values()),
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
