//! Choices that recipes write by their names: for serde's `with`.

use std::{fmt::Display, str::FromStr};

use bunny_core::input::{conversation::Template, image::Aspect};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A choice that has a name.
pub trait Named: Copy + FromStr<Err: Display> {
    /// As recipes write it.
    fn name(self) -> &'static str;
}

impl Named for Template {
    fn name(self) -> &'static str {
        self.name()
    }
}

impl Named for Aspect {
    fn name(self) -> &'static str {
        self.name()
    }
}

/// The names of templates, in a schema.
pub fn templates(_: &mut SchemaGenerator) -> Schema {
    let names = Template::ALL.map(Template::name);
    json_schema!({"type": "string", "enum": names})
}

/// The names of what is done to make pictures square, in a schema.
pub fn aspects(_: &mut SchemaGenerator) -> Schema {
    let names = [Aspect::Pad, Aspect::Square].map(Aspect::name);
    json_schema!({"type": "string", "enum": names})
}

/// Writes the name, if there is a choice.
pub fn serialize<T: Named, S: Serializer>(
    choice: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match choice {
        Some(choice) => serializer.serialize_some(choice.name()),
        None => serializer.serialize_none(),
    }
}

/// Reads a name, if there is one.
pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let choice = name.map(|name| name.parse().map_err(D::Error::custom));
    choice.transpose()
}
