//! The LLaVA-style record: a conversation, with or without pictures.
//!
//! ```json
//! {"id": "000000033471", "image": "coco/train2017/000000033471.jpg",
//!  "conversations": [{"from": "human", "value": "<image>\nWhat colour is the bus?"},
//!                    {"from": "gpt", "value": "Red."}]}
//! ```
//!
//! What OpenAI's and LLaMA-Factory's files (`messages` with `role` and `content`, `images`) and ShareGPT's
//! (`from: user`) say is the same, and is read as the same record: `user` speaks for the human,
//! `assistant` for `gpt`, and a picture among the parts of a message is a `<image>` in its words.
//!
//! [`RecordFile`] opens a JSON array, JSON lines or Parquet of them without reading it into memory.

mod file;
mod index;
mod messages;
mod not_a_number;
mod parquet;
mod scan;
mod write;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub use file::RecordFile;
pub(crate) use messages::Read;
pub(crate) use parquet::Embedded;
pub(crate) use write::{RecordWriter, one_line};

/// What stands in a turn where a picture goes.
pub const IMAGE_PLACEHOLDER: &str = "<image>";

/// What the human says in every record of Bunny-pretrain-LAION-2M. Training reads the picture
/// alone: the plain template drops the words.
pub(crate) const PRETRAIN_PROMPT: &str = "<image>\nProvide a brief description of the given image.";

/// One conversation, with or without pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Its name; a number is kept as its digits, a missing one is empty.
    pub id: String,
    /// The pictures it talks about, as paths below an image folder; `None` for text alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Images>,
    /// Who says what, in order.
    pub conversations: Vec<Turn>,
    /// Fields beyond these three, as they stood (`"model"` in ShareGPT records, for one).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Record {
    /// Paths of the pictures, in the order in which the placeholders consume them.
    pub fn images(&self) -> &[String] {
        self.image.as_ref().map_or(&[], Images::paths)
    }

    /// Whitespace-separated words over all turns: the length by which the reference groups batches.
    pub fn words(&self) -> usize {
        self.conversations
            .iter()
            .map(|turn| turn.value.split_whitespace().count())
            .sum()
    }
}

/// One picture or several: the `image` field may be a string or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Images {
    /// `"image": "a.jpg"`
    One(String),
    /// `"image": ["a.jpg", "b.jpg"]`
    Many(Vec<String>),
}

impl Images {
    /// The paths, one or several.
    pub fn paths(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// Who speaks.
    pub from: Role,
    /// The words, `<image>` placeholders among them.
    pub value: String,
}

impl Turn {
    /// A turn of the person.
    pub fn human(value: impl Into<String>) -> Self {
        Self {
            from: Role::Human,
            value: value.into(),
        }
    }

    /// A turn of the model.
    pub fn gpt(value: impl Into<String>) -> Self {
        Self {
            from: Role::Gpt,
            value: value.into(),
        }
    }
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// `human`, or `user`: the person; its turns are not learned.
    Human,
    /// `gpt`, or `assistant`: the model; its turns are what is learned.
    Gpt,
    /// `system`: what stands above a conversation, which speaks first or not at all.
    System,
    /// Anything else, as it stood.
    Other(String),
}

impl Role {
    /// The name that stands in files.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Human => "human",
            Self::Gpt => "gpt",
            Self::System => "system",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Role {
    fn from(name: &str) -> Self {
        match name {
            "human" | "user" => Self::Human,
            "gpt" | "assistant" => Self::Gpt,
            "system" => Self::System,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Role::from(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_id_may_be_text_a_number_or_missing() {
        assert_eq!(parse(r#"{"id":"a","conversations":[]}"#).id, "a");
        assert_eq!(parse(r#"{"id":33471,"conversations":[]}"#).id, "33471");
        assert_eq!(parse(r#"{"conversations":[]}"#).id, "");
        assert!(serde_json::from_str::<Record>(r#"{"id":[1],"conversations":[]}"#).is_err());
    }

    #[test]
    fn an_image_may_be_one_several_or_null() {
        assert_eq!(
            parse(r#"{"image":"a.jpg","conversations":[]}"#).images(),
            ["a.jpg"]
        );
        assert_eq!(
            parse(r#"{"image":["a.jpg","b.jpg"],"conversations":[]}"#).images(),
            ["a.jpg", "b.jpg"]
        );
        assert_eq!(parse(r#"{"image":null,"conversations":[]}"#).image, None);
        let error = serde_json::from_str::<Record>(r#"{"image":3,"conversations":[]}"#);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("a path or a list of paths")
        );
    }

    #[test]
    fn other_fields_and_roles_survive_a_round_trip() {
        let text = r#"{"id":"x","image":["a"],"conversations":[{"from":"tool","value":"v"}],"model":"","n":1.50}"#;
        let record = parse(text);
        assert_eq!(record.conversations[0].from, Role::Other("tool".into()));
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            text.replace("1.50", "1.5")
        );
    }

    #[test]
    fn messages_and_sharegpt_are_the_same_record() {
        let expected = parse(
            r#"{"id":"a","image":["a.jpg"],"conversations":[
                {"from":"human","value":"<image>\nWhat?"},{"from":"gpt","value":"A hare."}]}"#,
        );
        for text in [
            // LLaMA-Factory
            r#"{"id":"a","messages":[{"role":"user","content":"<image>\nWhat?"},
                {"role":"assistant","content":"A hare."}],"images":["a.jpg"]}"#,
            r#"{"id":"a","images":[{"path":"a.jpg","bytes":null}],"conversations":[
                {"from":"user","value":"<image>\nWhat?"},{"from":"assistant","value":"A hare."}]}"#,
            // OpenAI
            r#"{"id":"a","messages":[{"role":"user","content":[
                {"type":"image_url","image_url":{"url":"a.jpg"}},{"type":"text","text":"What?"}]},
                {"role":"assistant","content":[{"type":"text","text":"A hare."}]}]}"#,
            // transformers, with the pictures beside, and nothing said by the system
            r#"{"id":"a","messages":[{"role":"system","content":""},{"role":"user","content":[
                {"type":"image","text":null},{"type":"text","text":"What?","image":null}]},
                {"role":"assistant","content":"A hare."}],"images":["a.jpg"]}"#,
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        // A system turn that says something is kept, for whoever has no place for it to say so.
        let record = parse(r#"{"messages":[{"role":"system","content":"Be brief."}],"images":[]}"#);
        assert_eq!(record.conversations[0].from, Role::System);
        assert_eq!(record.image, None);
    }

    #[test]
    fn what_messages_cannot_become_is_named() {
        for (text, word) in [
            (
                r#"{"messages":[{"role":"user","content":[{"type":"video","video":"a"}]}]}"#,
                "video",
            ),
            (
                r#"{"messages":[{"role":"user","content":null}]}"#,
                "words or parts",
            ),
            (r#"{"messages":[{"content":"x"}]}"#, "missing field `from`"),
            (
                r#"{"conversations":[{"from":"human"}]}"#,
                "missing field `value`",
            ),
            (
                r#"{"conversations":[],"images":3}"#,
                "a path or a list of paths",
            ),
            (
                r#"{"conversations":[],"image":{"bytes":"xx"}}"#,
                "has no path",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"image","image":"a.jpg"}]}],
                    "images":["b.jpg"]}"#,
                "both in the turns and beside them",
            ),
        ] {
            let error = serde_json::from_str::<Record>(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn of_a_repeated_key_the_last_value_counts() {
        assert_eq!(parse(r#"{"id":"a","id":"b","conversations":[]}"#).id, "b");
    }

    #[test]
    fn a_record_without_conversations_is_an_error_that_says_so() {
        let error = serde_json::from_str::<Record>(r#"{"id":"a"}"#).unwrap_err();
        assert!(error.to_string().contains("conversations"));
    }

    #[test]
    fn words_are_counted_over_all_turns() {
        let record = parse(
            r#"{"conversations":[{"from":"human","value":"<image>\nTwo <image> here"},{"from":"gpt","value":" a  b "}]}"#,
        );
        assert_eq!(record.words(), 6);
    }
}
