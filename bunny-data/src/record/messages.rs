//! Reading a record, in its own form or in those of OpenAI, LLaMA-Factory, transformers and ShareGPT.
//!
//! ```json
//! {"messages": [{"role": "user", "content": "<image>What colour is the bus?"},
//!               {"role": "assistant", "content": "Red."}], "images": ["bus.jpg"]}
//! {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "bus.jpg"}},
//!                                            {"type": "text", "text": "What colour is the bus?"}]}]}
//! ```

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{IMAGE_PLACEHOLDER, Images, Record, Role, Turn};

/// A record, and whether it stood there in its own form.
#[derive(Debug)]
pub(crate) struct Read {
    pub record: Record,
    pub is_own_form: bool,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Read::deserialize(deserializer)?.record)
    }
}

/// An `id` as files have it: text or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`id` has to be a string or a number")]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

// Written by hand for two things a derive does not do: of a repeated key the last value counts, as
// with Python's `json.load`, and `flatten` would buffer every record a second time.
impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadVisitor;
        impl<'de> Visitor<'de> for ReadVisitor {
            type Value = Read;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `id`, `conversations` and perhaps `image`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
                let mut record = Record::default();
                let mut conversations: Option<Vec<Said>> = None;
                let (mut messages, mut images) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "id" => {
                            record.id = match map.next_value::<Option<Id>>()? {
                                Some(Id::Text(text)) => text,
                                Some(Id::Number(number)) => number.to_string(),
                                None => String::new(),
                            }
                        }
                        "image" => record.image = map.next_value()?,
                        "images" => images = map.next_value::<Option<Value>>()?,
                        "conversations" => conversations = map.next_value()?,
                        "messages" => messages = map.next_value::<Option<Value>>()?,
                        _ => {
                            record.extra.insert(key, map.next_value()?);
                        }
                    }
                }
                let mut is_own_form = true;
                let said = match (conversations, messages) {
                    (Some(said), None) => said,
                    (Some(said), Some(messages)) => {
                        record.extra.insert("messages".to_owned(), messages);
                        said
                    }
                    (None, Some(messages)) => {
                        is_own_form = false;
                        Vec::deserialize(messages).map_err(de::Error::custom)?
                    }
                    (None, None) => return Err(de::Error::missing_field("conversations")),
                };
                match images {
                    None => {}
                    Some(images) if record.image.is_some() => {
                        record.extra.insert("images".to_owned(), images);
                    }
                    Some(images) => {
                        is_own_form = false;
                        let images = Images::deserialize(images).map_err(de::Error::custom)?;
                        record.image = Some(images).filter(|images| !images.paths().is_empty());
                    }
                }
                let mut shown = Vec::new();
                for Said {
                    turn,
                    pictures,
                    is_own_form: own,
                } in said
                {
                    is_own_form &= own;
                    shown.extend(pictures);
                    // Some writers begin with a system that says nothing.
                    if turn.from == Role::System && turn.value.trim().is_empty() {
                        is_own_form = false;
                    } else {
                        record.conversations.push(turn);
                    }
                }
                if !shown.is_empty() {
                    if record.image.is_some() {
                        return Err(de::Error::custom(
                            "pictures both in the turns and beside them",
                        ));
                    }
                    record.image = Some(Images::Many(shown));
                }
                Ok(Read {
                    record,
                    is_own_form,
                })
            }
        }
        deserializer.deserialize_map(ReadVisitor)
    }
}

/// A turn, and the pictures among its parts.
struct Said {
    turn: Turn,
    pictures: Vec<String>,
    is_own_form: bool,
}

impl<'de> Deserialize<'de> for Turn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Said::deserialize(deserializer)?.turn)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SaidVisitor;
        impl<'de> Visitor<'de> for SaidVisitor {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a turn, with `from` and `value`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
                let (mut from, mut value) = (None, None);
                let mut is_own_form = true;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "from" | "role" => {
                            let name: String = map.next_value()?;
                            let role = Role::from(name.as_str());
                            is_own_form &= key == "from" && role.as_str() == name;
                            from = Some(role);
                        }
                        "value" | "content" => {
                            let content: Content = map.next_value()?;
                            is_own_form &= key == "value" && content.is_own_form;
                            value = Some(content);
                        }
                        _ => {
                            map.next_value::<de::IgnoredAny>()?;
                        }
                    }
                }
                let from = from.ok_or_else(|| de::Error::missing_field("from"))?;
                let content = value.ok_or_else(|| de::Error::missing_field("value"))?;
                Ok(Said {
                    turn: Turn {
                        from,
                        value: content.words,
                    },
                    pictures: content.pictures,
                    is_own_form,
                })
            }
        }
        deserializer.deserialize_map(SaidVisitor)
    }
}

/// What a turn says: words, or parts of which some are pictures.
#[derive(Default)]
struct Content {
    words: String,
    pictures: Vec<String>,
    is_own_form: bool,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("words or parts of a message")
            }

            fn visit_str<E: de::Error>(self, words: &str) -> Result<Content, E> {
                self.visit_string(words.to_owned())
            }

            fn visit_string<E: de::Error>(self, words: String) -> Result<Content, E> {
                Ok(Content {
                    words,
                    is_own_form: true,
                    ..Content::default()
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut content = Content::default();
                while let Some(part) = seq.next_element()? {
                    content.take(part).map_err(de::Error::custom)?;
                }
                Ok(content)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl Content {
    /// Appends a part of a message. Fields that are null are those of other parts, in tables.
    fn take(&mut self, part: Value) -> Result<(), String> {
        let mut fields = match part {
            Value::String(words) => {
                self.words.push_str(&words);
                return Ok(());
            }
            Value::Object(fields) => fields,
            _ => return Err("a part of a message is neither words nor an object".to_owned()),
        };
        fields.retain(|_, value| !value.is_null());
        let kind = fields.get("type").and_then(Value::as_str);
        match kind.unwrap_or("without a type") {
            "text" | "input_text" | "output_text" => match fields.get("text") {
                Some(Value::String(words)) => self.words.push_str(words),
                _ => return Err("a part of type `text` has no words".to_owned()),
            },
            "image" | "image_url" | "input_image" => {
                self.words.push_str(IMAGE_PLACEHOLDER);
                self.words.push('\n');
                // Without a source it is the place of one of the pictures beside the turns.
                self.pictures.extend(source(&fields)?);
            }
            other => {
                return Err(format!(
                    "a part of a message is {other:?}: only text and pictures are known"
                ));
            }
        }
        Ok(())
    }
}

/// Where the picture of a part is.
fn source(part: &Map<String, Value>) -> Result<Option<String>, String> {
    let named = ["image_url", "image", "url", "path"];
    let Some((name, value)) = named
        .iter()
        .find_map(|name| Some((*name, part.get(*name)?)))
    else {
        return Ok(None);
    };
    let path = match value {
        Value::Object(inside) => ["url", "path"].iter().find_map(|name| inside.get(*name)),
        value => Some(value),
    };
    match path.and_then(Value::as_str) {
        Some(path) => Ok(Some(path.to_owned())),
        None => Err(format!("the `{name}` of a part of a message has no path")),
    }
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImagesVisitor;
        impl<'de> Visitor<'de> for ImagesVisitor {
            type Value = Images;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths in `image`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Images, E> {
                Ok(Images::One(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Images, A::Error> {
                Ok(Images::One(NameVisitor.visit_map(map)?.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Images, A::Error> {
                let mut paths = Vec::new();
                while let Some(Name(path)) = seq.next_element()? {
                    paths.push(path);
                }
                Ok(Images::Many(paths))
            }
        }
        deserializer.deserialize_any(ImagesVisitor)
    }
}

/// The path of a picture: by itself, or in an object as Hugging Face `datasets` has it.
struct Name(String);

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a picture")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Name, E> {
        Ok(Name(path.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Name, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let value: Value = map.next_value()?;
            if let ("path" | "url", Value::String(path)) = (key.as_str(), value) {
                found = Some(path);
            }
        }
        let none = || de::Error::custom("a picture that is an object has no path");
        found.map(Name).ok_or_else(none)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}
