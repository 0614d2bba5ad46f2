//! Keys to a stage's type: unknown ones refused, errors with the key they are about.

use bunny_base::nearest;
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// What is wrong: the key with a dot before it, and the problem.
pub type Fault = (String, String);

/// The keys of a kind of stage, as a type.
pub trait Keys: Serialize + DeserializeOwned {
    /// A value with every optional key given, since a missing one is not written.
    fn full() -> Self;

    /// The names of all keys.
    fn keys() -> Vec<String> {
        match Value::try_from(Self::full()) {
            Ok(Value::Table(table)) => table.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    /// Reads a stage's keys.
    ///
    /// # Errors
    /// When a key is unknown or its value cannot be used.
    fn from_table(table: Table) -> Result<Self, Fault> {
        let known = Self::keys();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        if let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(unknown_key(unknown, &known));
        }
        // One key at a time, so that an error names its key.
        for (key, value) in &table {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            Value::Table(alone)
                .try_into::<Self>()
                .map_err(|error| (format!(".{key}"), error.message().trim_end().to_owned()))?;
        }
        Value::Table(table)
            .try_into()
            .map_err(|error| (String::new(), error.message().to_owned()))
    }
}

/// What is said of a key that is not among `known`.
pub fn unknown_key(unknown: &str, known: &[&str]) -> Fault {
    let problem = match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("there is no such key; the nearest known one is `{nearest}`"),
        None => "there is no such key; `bunny-cli train keys` lists them".to_owned(),
    };
    (format!(".{unknown}"), problem)
}
