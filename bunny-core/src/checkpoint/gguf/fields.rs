//! What a GGUF file says in single values, as the fields of a configuration.

use bunny_weights::gguf::{GgufFile, Value};
use serde_json::Value as Json;

use crate::Fields;

/// The shortest number in decimals that is the same in f32: what was meant.
pub(super) fn shortest(number: f64) -> f64 {
    (number as f32).to_string().parse().unwrap_or(number)
}

/// What a file says in single values; errors about them name file and key.
pub(super) fn scalars(file: &GgufFile) -> Fields {
    let number = |number: f64| match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        // What is no number is none, and not nothing.
        None => Json::String(number.to_string()),
    };
    let scalar = |value: &Value| match value {
        Value::Bool(truth) => Some(Json::Bool(*truth)),
        Value::String(text) => Some(Json::String(text.clone())),
        Value::F32(float) => Some(number(f64::from(*float))),
        Value::F64(float) => Some(number(*float)),
        // A list where one value is asked for is said to be none.
        Value::Array(_) => Some(Json::Array(Vec::new())),
        whole => {
            let whole = whole.integer()?;
            let small = i64::try_from(whole).map(Json::from);
            Some(small.unwrap_or_else(|_| number(whole as f64)))
        }
    };
    let all = file.metadata().iter();
    let all = all.filter_map(|(key, value)| Some((key.clone(), scalar(value)?)));
    Fields::of(file.path(), all.collect())
}
