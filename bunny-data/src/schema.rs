//! JSON schemas of files that people write in TOML, made of the types that read them: editors check
//! and complete by them, and lists of keys are made of them.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The schema of a TOML file that is read as a `T`; descriptions are the doc comments.
pub fn toml_schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: what may be left out is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            drop_null(fields);
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn drop_null(fields: &mut Map<String, Value>) {
    match fields.get_mut("default") {
        Some(Value::Null) => drop(fields.remove("default")),
        Some(Value::Object(values)) => values.retain(|_, value| !value.is_null()),
        _ => {}
    }
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            fields.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("enum") {
        choices.retain(|choice| !choice.is_null());
    }
    if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            fields.remove("anyOf");
            for (name, value) in only {
                fields.entry(name).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it is.
    #[derive(Default, JsonSchema)]
    #[serde(default)]
    #[allow(dead_code, reason = "its schema is looked at")]
    struct Small {
        /// How many.
        count: Option<u32>,
        /// Which.
        which: Option<Which>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "its schema is looked at")]
    enum Which {
        /// This.
        This,
        /// That.
        That,
    }

    #[test]
    fn what_may_be_left_out_is_no_null() {
        let schema = toml_schema::<Small>();
        assert_eq!(schema["description"], "What it is.");
        let count = &schema["properties"]["count"];
        assert_eq!(count["type"], "integer");
        assert_eq!(count["description"], "How many.");
        assert_eq!(schema["properties"]["which"]["$ref"], "#/$defs/Which");
        assert!(!schema.to_string().contains("null"), "{schema}");
    }
}
