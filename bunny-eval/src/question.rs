//! A question of a benchmark, as a model is asked it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// What names a question. Benchmarks use numbers or texts, and answers keep the type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuestionId {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A picture that belongs to a question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PictureRef {
    /// Its name in the benchmark: what rows and pages call it.
    pub name: String,
    /// Where its bytes are.
    pub place: PicturePlace,
}

/// Where the bytes of a picture are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PicturePlace {
    /// A file of the benchmark's folder, by its path there. Its name may lack an ending.
    File(String),
    /// The base64 text of the column `image` of a table.
    Table {
        /// The table.
        file: String,
        /// Which row, from 0.
        row: usize,
    },
    /// The bytes in a column of a Parquet file.
    Parquet {
        /// The Parquet file.
        file: String,
        /// Which row, from 0.
        row: usize,
        /// The column, a structure of `bytes` and `path`.
        column: &'static str,
    },
}

/// A question of a benchmark.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name. Two questions of a picture share one in MME.
    pub id: QuestionId,
    /// Its category, subject or type; empty where a benchmark has none.
    pub category: String,
    /// What the user says, behind the picture's placeholder.
    pub text: String,
    /// What a row of answers records as `prompt`, where it records one.
    pub recorded: Option<String>,
    /// The pictures that are shown: one or none.
    pub pictures: Vec<PictureRef>,
    /// The options' texts, A first, where there are options.
    pub options: Vec<String>,
}

impl Question {
    /// What rows of one picture share: the picture's name, or the question's own where it has none.
    pub fn cluster(&self) -> String {
        self.pictures
            .first()
            .map_or_else(|| self.id.to_string(), |picture| picture.name.clone())
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl Serialize for QuestionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for QuestionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = QuestionId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or a text")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<QuestionId, E> {
        Ok(QuestionId::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<QuestionId, E> {
        let number = i64::try_from(number).map_err(|_| E::custom("a number beyond 2^63"))?;
        Ok(QuestionId::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<QuestionId, E> {
        Ok(QuestionId::Text(text.to_owned()))
    }
}

impl QuestionId {
    /// The id as a text: empty for a number.
    pub(crate) fn as_text(&self) -> &str {
        match self {
            Self::Number(_) => "",
            Self::Text(text) => text,
        }
    }
}
