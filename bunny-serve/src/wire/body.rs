//! A request's JSON, asked for its fields by name and type; what is wrong names the field.

use serde_json::{Map, Value};

use super::ApiError;

/// The most values of a body, names of fields among them. Read, an object of eight bytes takes some five hundred.
const MOST_VALUES: usize = 1_000_000;

/// The object of a request. `null` is the same as nothing.
#[derive(Debug, Clone)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if most_values(bytes) > MOST_VALUES {
            let message = format!("the body has more than {MOST_VALUES} values");
            return Err(ApiError::bad_request(message));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
            // Place and kind of the fault; nothing of the body.
            Err(error) => Err(ApiError::bad_request(format!(
                "the body is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(ApiError::invalid(
                field,
                format!("`{field}` must be {wanted}"),
            )),
        }
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, ApiError> {
        self.typed(field, "a string", Value::as_str)
    }

    pub(super) fn boolean(&self, field: &str) -> Result<bool, ApiError> {
        Ok(self
            .typed(field, "true or false", Value::as_bool)?
            .unwrap_or(false))
    }

    /// A number from `least` to `most`, or `default`.
    pub(super) fn number(
        &self,
        field: &str,
        [least, most]: [f64; 2],
        default: f64,
    ) -> Result<f32, ApiError> {
        let wanted = format!("a number from {least} to {most}");
        let within = |value: &Value| {
            value
                .as_f64()
                .filter(|number| (least..=most).contains(number))
        };
        Ok(self.typed(field, &wanted, within)?.unwrap_or(default) as f32)
    }

    /// A whole number from `least` to `most`.
    pub(super) fn count(
        &self,
        field: &str,
        [least, most]: [usize; 2],
    ) -> Result<Option<usize>, ApiError> {
        let wanted = format!("a whole number from {least} to {most}");
        self.typed(field, &wanted, |value| {
            let count = usize::try_from(value.as_u64()?).ok()?;
            (least..=most).contains(&count).then_some(count)
        })
    }

    pub(super) fn integer(&self, field: &str) -> Result<Option<i64>, ApiError> {
        self.typed(field, "a whole number", Value::as_i64)
    }

    pub(super) fn list(&self, field: &str) -> Result<Option<&Vec<Value>>, ApiError> {
        self.typed(field, "an array", Value::as_array)
    }

    pub(super) fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>, ApiError> {
        self.typed(field, "an object", Value::as_object)
    }

    /// One string or several, none of them empty, at most `most`.
    pub(super) fn texts(&self, field: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let one = |value: &Value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let wanted = format!("a string or at most {most} of them, none empty");
        let texts = self.typed(field, &wanted, |value| match value {
            Value::Array(texts) if texts.len() <= most => texts.iter().map(one).collect(),
            value => one(value).map(|text| vec![text]),
        })?;
        Ok(texts.unwrap_or_default())
    }

    /// Refuses a field that asks for what this server does not do; what is empty asks nothing, nor does one
    /// of these words.
    pub(super) fn refuse(&self, field: &str, idle: &[&str]) -> Result<(), ApiError> {
        let asks = match self.get(field) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(items)) => !items.is_empty(),
            Some(Value::String(text)) => !text.is_empty() && !idle.contains(&&**text),
            Some(_) => true,
        };
        match asks {
            true => Err(ApiError::invalid(
                field,
                format!("`{field}` is not supported by this server"),
            )),
            false => Ok(()),
        }
    }
}

/// How many values a text in JSON has at most: each but the first stands behind a sign of its own.
fn most_values(json: &[u8]) -> usize {
    let (mut count, mut is_text, mut is_escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'"' => is_text = !is_text,
            b'\\' => is_escaped = is_text,
            b',' | b':' | b'[' | b'{' if !is_text => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_not_what_texts_hold() {
        for (json, count) in [
            ("", 1),
            ("1", 1),
            (r#"{"a": [1, 2]}"#, 5),
            (r#"{"a,[{:": "\",,\\", "b": {"c": []}}"#, 8),
        ] {
            assert_eq!(most_values(json.as_bytes()), count, "{json}");
        }
        let body = |count: usize| format!("{{\"n\": [{}1]}}", "1,".repeat(count - 4));
        assert!(Body::parse(body(MOST_VALUES).as_bytes()).is_ok());
        let error = Body::parse(body(MOST_VALUES + 1).as_bytes()).unwrap_err();
        assert_eq!(error.message, "the body has more than 1000000 values");
    }
}
