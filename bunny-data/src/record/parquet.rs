//! Records out of a Parquet file, as JSON text, so that everything behind reads one format.
//!
//! Rows are decoded a window at a time and the last few windows are kept: reading front to back
//! decodes each row once. Shuffled reading decodes a window a record; turn such a file into JSON
//! lines first (a mix of one source does).
//!
//! Pictures that lie in the file itself, as Hugging Face `datasets` puts them there, become names
//! ([`Embedded`]) by which they are read one at a time. Columns of JSON texts become what they say.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_json::LineDelimitedWriter;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use memchr::memchr_iter;
use memmap2::Mmap;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use serde_json::Value;

use crate::embeddings::columns::check_codecs;

use crate::error::{DataError, ParquetFault, Result};
use crate::panic_guard::guarded;

/// Rows decoded together, at most.
const WINDOW_ROWS: usize = 2048;
/// Bytes decoded together, about: pictures in a file make its rows large.
const WINDOW_BYTES: usize = 4 << 20;
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
    /// Rows decoded together of each row group.
    window_rows: Vec<usize>,
    /// Where columns of JSON texts are; `None` where there are none.
    json: Option<Shape>,
    /// The columns that hold pictures themselves.
    pictured: Vec<String>,
    /// What names of pictures in this file end in.
    name: String,
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
        check_codecs(path, metadata.metadata(), |_| true)?;
        let (mut starts, mut window_rows) = (vec![0], Vec::new());
        let mut end = 0_usize;
        for group in metadata.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).ok();
            end = rows
                .and_then(|rows| end.checked_add(rows))
                .ok_or_else(|| DataError::parquet(path)(ParquetFault::Rows))?;
            starts.push(end);
            let bytes = usize::try_from(group.total_byte_size()).unwrap_or(0);
            let row_bytes = bytes / rows.unwrap_or(0).max(1);
            window_rows.push((WINDOW_BYTES / row_bytes.max(1)).clamp(1, WINDOW_ROWS));
        }
        let fields = metadata.schema().fields();
        let is_pictured = |field: &&FieldRef| {
            PICTURES.contains(&&**field.name()) && holds_bytes(field.data_type())
        };
        let pictured = fields.iter().filter(is_pictured);
        let pictured: Vec<String> = pictured.map(|field| field.name().clone()).collect();
        let name = match pictured.is_empty() {
            true => String::new(),
            false => {
                let absolute = std::path::absolute(path).map_err(DataError::io(path, "open"))?;
                DataError::text(&absolute)?.to_owned()
            }
        };
        let json = Shape::of_file(&metadata);
        Ok(Self {
            path: path.to_owned(),
            bytes,
            metadata,
            starts,
            window_rows,
            json,
            pictured,
            name,
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
        let window_rows = self.window_rows[group];
        let first_row = start + (index - start) / window_rows * window_rows;
        let window = match self.kept(first_row) {
            Some(window) => window,
            None => {
                let rows = window_rows.min(self.starts[group + 1] - first_row);
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
            // Bytes have no place in JSON, but that they are pictures.
            let leaves = (0..schema.num_columns()).filter(|leaf| {
                let column = schema.column(*leaf);
                let root = column.path().parts().first();
                let is_picture = root.is_some_and(|root| self.pictured.contains(root));
                is_picture || !is_bytes(&column)
            });
            let mask = ProjectionMask::leaves(schema, leaves);
            let reader = builder
                .with_projection(mask)
                .with_row_groups(vec![group])
                .with_offset(first_row - self.starts[group])
                .with_limit(rows)
                .with_batch_size(rows)
                .build()?;
            let mut writer = LineDelimitedWriter::new(Vec::new());
            let mut row = first_row;
            for batch in reader {
                let batch = batch?;
                let rows = batch.num_rows();
                writer.write(&self.name_pictures(batch, row)?)?;
                row += rows;
            }
            writer.finish()?;
            Ok(writer.into_inner())
        })?;
        let text = match &self.json {
            Some(shape) => shape.spell_out(&text),
            None => text,
        };
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

fn is_bytes(column: &ColumnDescriptor) -> bool {
    matches!(
        column.physical_type(),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY
    ) && column.converted_type() == ConvertedType::NONE
        && column.logical_type_ref().is_none()
}

/// The columns whose pictures are a record's.
const PICTURES: [&str; 2] = ["image", "images"];

/// Whether pictures themselves are in a column: bytes, bytes with a path, or lists of either.
fn holds_bytes(column: &DataType) -> bool {
    match column {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            holds_bytes(item.data_type())
        }
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| field.name() == "bytes" && field.data_type().is_binary()),
        other => other.is_binary(),
    }
}

/// The bytes of a column of pictures without its paths.
fn bytes_of(column: &ArrayRef) -> Option<ArrayRef> {
    match column.as_struct_opt() {
        Some(fields) => fields.column_by_name("bytes").cloned(),
        None => Some(column.clone()),
    }
}

/// The bytes in a place, if there are any.
fn bytes_at(column: &ArrayRef, at: usize) -> Option<&[u8]> {
    if column.is_null(at) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => Some(column.as_binary::<i32>().value(at)),
        DataType::LargeBinary => Some(column.as_binary::<i64>().value(at)),
        DataType::BinaryView => Some(column.as_binary_view().value(at)),
        DataType::FixedSizeBinary(_) => Some(column.as_fixed_size_binary().value(at)),
        _ => None,
    }
}

/// The elements of one row of a column of lists; the row itself of another column.
fn elements(column: &ArrayRef, row: usize) -> Option<ArrayRef> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        _ => column.slice(row, 1),
    })
}

impl ParquetRows {
    /// Puts names in the place of pictures: those of [`Embedded`] for bytes, else the paths beside them.
    fn name_pictures(
        &self,
        batch: RecordBatch,
        first_row: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = batch.schema();
        let mut columns = batch.columns().to_vec();
        for (field, column) in schema.fields().iter().zip(&mut columns) {
            let is_struct = matches!(field.data_type(), DataType::Struct(_));
            if self.pictured.contains(field.name()) {
                *column = self.names(field.name(), column, first_row)?;
            } else if field.name() == "image" && is_struct {
                // Pictures that lie elsewhere.
                if let Some(path) = column.as_struct().column_by_name("path") {
                    *column = path.clone();
                }
            }
        }
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    fn names(
        &self,
        column: &str,
        pictures: &ArrayRef,
        first_row: usize,
    ) -> Result<ArrayRef, ArrowError> {
        let is_list = !matches!(pictures.data_type(), DataType::Struct(_))
            && !pictures.data_type().is_binary();
        let mut one = StringBuilder::new();
        let mut many = ListBuilder::new(StringBuilder::new());
        for row in 0..pictures.len() {
            let Some(items) = elements(pictures, row) else {
                one.append_null();
                many.append_null();
                continue;
            };
            let bytes = bytes_of(&items);
            let paths = match items
                .as_struct_opt()
                .and_then(|item| item.column_by_name("path"))
            {
                Some(paths) => Some(arrow_cast::cast(paths, &DataType::Utf8)?),
                None => None,
            };
            for element in 0..items.len() {
                let has_bytes = bytes
                    .as_ref()
                    .is_some_and(|bytes| items.is_valid(element) && bytes.is_valid(element));
                let path = paths.as_ref().map(|paths| paths.as_string::<i32>());
                let path = path.filter(|path| items.is_valid(element) && path.is_valid(element));
                let name = match has_bytes {
                    true => {
                        let row = first_row + row;
                        let column = column.to_owned();
                        Some(
                            Embedded {
                                column,
                                row,
                                element,
                            }
                            .to_name(&self.name),
                        )
                    }
                    false => path.map(|path| path.value(element).to_owned()),
                };
                match is_list {
                    true => many.values().append_option(name),
                    false => one.append_option(name),
                }
            }
            if is_list {
                many.append(true);
            }
        }
        Ok(match is_list {
            true => Arc::new(many.finish()),
            false => Arc::new(one.finish()),
        })
    }

    /// The bytes of one picture in the file; `None` where there is none in this place.
    pub fn picture(&self, place: &Embedded) -> Result<Option<Vec<u8>>> {
        if place.row >= self.len() || !self.pictured.contains(&place.column) {
            return Ok(None);
        }
        let group = self.starts.partition_point(|start| *start <= place.row) - 1;
        let bytes = guarded(&self.path, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                self.bytes.clone(),
                self.metadata.clone(),
            );
            let root = builder.schema().index_of(&place.column)?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), [root]);
            let mut reader = builder
                .with_projection(mask)
                .with_row_groups(vec![group])
                .with_offset(place.row - self.starts[group])
                .with_limit(1)
                .build()?;
            let Some(batch) = reader.next().transpose()? else {
                return Ok(None);
            };
            let items = (batch.num_rows() == 1)
                .then(|| elements(batch.column(0), 0))
                .flatten();
            let items =
                items.filter(|items| place.element < items.len() && items.is_valid(place.element));
            let bytes = items.and_then(|items| bytes_of(&items));
            Ok(bytes.and_then(|bytes| bytes_at(&bytes, place.element).map(<[u8]>::to_vec)))
        })?;
        Ok(bytes)
    }
}

/// A picture in a row of a Parquet file, and the name by which records have it:
/// `parquet:image/17/0:/data/train.parquet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Embedded {
    column: String,
    row: usize,
    /// Which one of a list.
    element: usize,
}

/// What the names of such pictures begin with.
const SCHEME: &str = "parquet:";

/// Files of pictures that stay open.
const OPEN: usize = 16;

static FILES: Mutex<VecDeque<(PathBuf, Arc<ParquetRows>)>> = Mutex::new(VecDeque::new());

impl Embedded {
    /// Reads a name; the file, and the place in it.
    pub fn parse(name: &str) -> Option<(&Path, Self)> {
        let (place, file) = name.strip_prefix(SCHEME)?.split_once(':')?;
        let mut parts = place.split('/');
        let (column, row, element) = (parts.next()?, parts.next()?, parts.next()?);
        let place = Self {
            column: column.to_owned(),
            row: row.parse().ok()?,
            element: element.parse().ok()?,
        };
        parts.next().is_none().then_some((Path::new(file), place))
    }

    fn to_name(&self, file: &str) -> String {
        let Self {
            column,
            row,
            element,
        } = self;
        format!("{SCHEME}{column}/{row}/{element}:{file}")
    }

    /// The picture; `None` where the file is none of pictures, or has none there.
    pub fn read(&self, file: &Path) -> Result<Option<Vec<u8>>> {
        let opened = {
            let files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
            let found = files.iter().find(|(path, _)| path == file);
            found.map(|(_, rows)| rows.clone())
        };
        let rows = match opened {
            Some(rows) => rows,
            None => {
                let opened = match File::open(file) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(DataError::io(file, "open"))?,
                };
                let rows = Arc::new(ParquetRows::open(file, &opened)?);
                let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
                files.truncate(OPEN - 1);
                files.push_front((file.to_owned(), rows.clone()));
                rows
            }
        };
        rows.picture(self)
    }
}

/// Where in the rows of a file texts are JSON: a column that a library had no one type for.
#[derive(Debug)]
enum Shape {
    Plain,
    Json,
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
}

impl Shape {
    /// The shape of a file's rows; `None` where no text of it is JSON.
    fn of_file(metadata: &ArrowReaderMetadata) -> Option<Self> {
        let columns = metadata.metadata().file_metadata().schema_descr();
        let mut leaf = 0;
        let fields = metadata.schema().fields();
        let shapes: Vec<(String, Self)> = fields
            .iter()
            .map(|field| (field.name().clone(), Self::of(field, columns, &mut leaf)))
            .collect();
        let has_json = shapes
            .iter()
            .any(|(_, shape)| !matches!(shape, Self::Plain));
        has_json.then_some(Self::Struct(shapes))
    }

    /// The shape of a field, whose leaves begin at `leaf`: both schemas have them in one order.
    fn of(field: &Field, columns: &SchemaDescriptor, leaf: &mut usize) -> Self {
        let is_extension = field
            .metadata()
            .get("ARROW:extension:name")
            .is_some_and(|name| name == "arrow.json");
        match field.data_type() {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => match Self::of(item, columns, leaf) {
                Self::Plain => Self::Plain,
                item => Self::List(Box::new(item)),
            },
            DataType::Struct(fields) => {
                let shapes: Vec<(String, Self)> = fields
                    .iter()
                    .map(|field| (field.name().clone(), Self::of(field, columns, leaf)))
                    .collect();
                match shapes.iter().all(|(_, shape)| matches!(shape, Self::Plain)) {
                    true => Self::Plain,
                    false => Self::Struct(shapes),
                }
            }
            DataType::Map(entries, _) => {
                // Its keys are names.
                let _ = Self::of(entries, columns, leaf);
                Self::Plain
            }
            _ => {
                let is_json = *leaf < columns.num_columns() && {
                    let column = columns.column(*leaf);
                    column.logical_type_ref() == Some(&LogicalType::Json)
                        || column.converted_type() == ConvertedType::JSON
                };
                *leaf += 1;
                match is_json || is_extension {
                    true => Self::Json,
                    false => Self::Plain,
                }
            }
        }
    }

    /// Lines of JSON objects, with what the texts say in place of the texts.
    fn spell_out(&self, lines: &[u8]) -> Vec<u8> {
        let mut spelled = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Value>(line) {
                Ok(mut row) => {
                    self.apply(&mut row);
                    spelled.extend_from_slice(row.to_string().as_bytes());
                    spelled.push(b'\n');
                }
                Err(_) => spelled.extend_from_slice(line),
            }
        }
        spelled
    }

    fn apply(&self, value: &mut Value) {
        match (self, value) {
            (Self::Json, value) => {
                // What is no JSON after all stays a text, as which it is refused where it is read.
                if let Value::String(text) = value
                    && let Ok(said) = serde_json::from_str(text)
                {
                    *value = said;
                }
            }
            (Self::List(item), Value::Array(values)) => {
                values.iter_mut().for_each(|value| item.apply(value));
            }
            (Self::Struct(fields), Value::Object(values)) => {
                for (name, shape) in fields {
                    if let Some(value) = values.get_mut(name) {
                        shape.apply(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_embedded_picture_says_where_it_is() {
        let place = Embedded {
            column: "image".to_owned(),
            row: 17,
            element: 2,
        };
        let file = "/data/a:b#c/train.parquet";
        let name = place.to_name(file);
        assert_eq!(name, "parquet:image/17/2:/data/a:b#c/train.parquet");
        assert_eq!(Embedded::parse(&name), Some((Path::new(file), place)));
        for other in [
            "a.jpg",
            "parquet:",
            "parquet:image/1:/x",
            "parquet:image/a/0:/x",
        ] {
            assert_eq!(Embedded::parse(other), None, "{other}");
        }
    }
}
