//! The table beside the vectors: `image_path`, `caption`, and what else is known of each pair, flattened
//! as pandas' `json_normalize` does it, whose columns clip-retrieval writes.
//!
//! ```text
//! {"key": "0001", "exif": {"Make": "x"}, "width": 640}   →   key   width   exif.Make
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use crate::error::{DataError, Result};
use crate::whole::{AtomicFile, fill_whole};

/// What has a column of its own already.
const OWN: [&str; 3] = ["image_path", "caption", "metadata"];

/// Rows of the table that are there so far.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    keys: Vec<String>,
    captions: Vec<String>,
    /// In the order in which they were first seen; the last rows of a column may be missing yet.
    columns: Vec<(String, Vec<Value>)>,
    places: HashMap<String, usize>,
}

impl Metadata {
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    pub fn push(&mut self, key: &str, caption: &str, metadata: Map<String, Value>) {
        // What is nested comes behind the rest.
        let (nested, plain): (Vec<_>, Vec<_>) = metadata
            .into_iter()
            .partition(|(_, value)| value.is_object());
        for (name, value) in plain.into_iter().chain(nested) {
            self.put(name, value);
        }
        self.keys.push(key.to_owned());
        self.captions.push(caption.to_owned());
    }

    /// Puts a value into the row that is being made.
    fn put(&mut self, name: String, value: Value) {
        match value {
            Value::Object(within) => {
                for (inner, value) in within {
                    self.put(format!("{name}.{inner}"), value);
                }
            }
            _ if OWN.contains(&name.as_str()) => {}
            value => {
                let row = self.keys.len();
                let place = *self.places.entry(name).or_insert_with_key(|name| {
                    self.columns.push((name.clone(), Vec::new()));
                    self.columns.len() - 1
                });
                let column = &mut self.columns[place].1;
                column.resize(row, Value::Null);
                column.push(value);
            }
        }
    }

    /// Writes the table; the same rows give the same bytes.
    pub fn write(self, path: &Path) -> Result<()> {
        let rows = self.keys.len();
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let own = [("image_path", self.keys), ("caption", self.captions)];
        for (name, texts) in own {
            fields.push(Field::new(name, DataType::Utf8, true));
            arrays.push(Arc::new(StringArray::from(texts)));
        }
        for (name, mut values) in self.columns {
            values.resize(rows, Value::Null);
            let array = array(&values);
            fields.push(Field::new(name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let failed = |error: parquet::errors::ParquetError| DataError::parquet(path)(error);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        let batch = batch.map_err(|error| failed(error.into()))?;
        let properties = WriterProperties::builder()
            // Not the library's version: the same rows are to give the same bytes.
            .set_created_by("bunny".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        fill_whole(path, |file: &mut AtomicFile| {
            let mut writer = ArrowWriter::try_new(&mut *file, batch.schema(), Some(properties))
                .map_err(failed)?;
            writer.write(&batch).map_err(failed)?;
            writer.close().map(drop).map_err(failed)
        })
    }
}

/// A column of the type that pandas would give it: whole numbers, numbers where some are missing or not
/// whole, truth values, texts. What is of several types is written as JSON.
fn array(values: &[Value]) -> ArrayRef {
    let present = || values.iter().filter(|value| !value.is_null());
    let is_any = present().next().is_some();
    if is_any && present().all(Value::is_number) {
        let is_whole = values.iter().all(|value| value.as_i64().is_some());
        return match is_whole {
            true => Arc::new(Int64Array::from_iter(values.iter().map(Value::as_i64))),
            false => Arc::new(Float64Array::from_iter(values.iter().map(Value::as_f64))),
        };
    }
    if is_any && present().all(Value::is_boolean) {
        return Arc::new(BooleanArray::from_iter(values.iter().map(Value::as_bool)));
    }
    let is_text = present().all(Value::is_string);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) if is_text => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Arc::new(StringArray::from_iter(values.iter().map(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_have_the_types_that_pandas_gives_them() {
        for (values, wanted) in [
            (vec![json!(1), json!(-2)], DataType::Int64),
            (vec![json!(1), Value::Null], DataType::Float64),
            (vec![json!(1), json!(0.5)], DataType::Float64),
            (vec![json!(u64::MAX)], DataType::Float64),
            (vec![json!(true), Value::Null], DataType::Boolean),
            (vec![json!("a"), Value::Null], DataType::Utf8),
            (vec![Value::Null], DataType::Utf8),
            (vec![json!("a"), json!(1)], DataType::Utf8),
            (vec![json!([1, 2])], DataType::Utf8),
        ] {
            assert_eq!(*array(&values).data_type(), wanted, "{values:?}");
        }
    }

    #[test]
    fn rows_that_lack_a_column_have_nothing_in_it() {
        let mut table = Metadata::default();
        let row = |value: Value| value.as_object().cloned().unwrap();
        table.push(
            "a",
            "one",
            row(json!({"exif": {"Make": "x", "more": {"y": 1}}})),
        );
        table.push("b", "two", row(json!({"caption": "other", "url": "u"})));
        table.push("c", "three", row(json!({"url": "v", "exif": {}})));
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["exif.Make", "exif.more.y", "url"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata_0.parquet");
        table.write(&path).unwrap();
        let file = std::fs::File::open(path).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 8);
        let batch = reader.unwrap().next().unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 5));
        let nulls = |name: &str| batch.column_by_name(name).unwrap().null_count();
        assert_eq!(
            (nulls("exif.Make"), nulls("url"), nulls("caption")),
            (2, 1, 0)
        );
    }
}
