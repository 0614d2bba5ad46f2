//! A text as Python holds it: mostly a `String`, but JSON can name half a surrogate, and an answer
//! file is allowed to.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Where the 2,048 surrogates stand in for themselves: the end of the last private plane.
const STAND_IN: u32 = 0x0010_F800;
const FIRST: u16 = 0xD800;

/// A text whose half surrogates are kept.
///
/// It derefs to a `str` of as many characters, in which each half surrogate is a character of
/// private use: neither a letter, nor a digit, nor white space, as in Python.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    value: String,
    /// Whether `value` has stand-ins.
    halves: bool,
}

impl Text {
    /// Another text made from this one, its stand-ins among the characters of `value`.
    pub(crate) fn derived(&self, value: String) -> Self {
        Self {
            value,
            halves: self.halves,
        }
    }

    /// Reads generalised UTF-8, in which a half surrogate is three bytes; `None` for what is not,
    /// and for a half surrogate beside a character that would stand for another one.
    fn from_wtf8(bytes: &[u8]) -> Option<Self> {
        if let Ok(value) = str::from_utf8(bytes) {
            return Some(value.into());
        }
        let mut value = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let sound = match str::from_utf8(rest) {
                Ok(sound) => sound,
                Err(error) => str::from_utf8(&rest[..error.valid_up_to()]).ok()?,
            };
            if sound
                .chars()
                .any(|character| stands_in(character).is_some())
            {
                return None;
            }
            value.push_str(sound);
            rest = &rest[sound.len()..];
            let Some((half, after)) = rest.split_first_chunk::<3>() else {
                return rest.is_empty().then_some(Self {
                    value,
                    halves: true,
                });
            };
            let [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF] = *half else {
                return None;
            };
            let offset = (u32::from(second & 0x1F) << 6) | u32::from(third & 0x3F);
            value.push(char::from_u32(STAND_IN + offset)?);
            rest = after;
        }
        Some(Self {
            value,
            halves: true,
        })
    }

    /// The text in UTF-16, half surrogates as they are.
    pub(crate) fn utf16(&self) -> impl Iterator<Item = u16> {
        self.value.chars().flat_map(|character| {
            let half = stands_in(character).filter(|_| self.halves);
            let mut units = [0; 2];
            let len = match half {
                Some(half) => {
                    units[0] = half;
                    1
                }
                None => character.encode_utf16(&mut units).len(),
            };
            units.into_iter().take(len)
        })
    }

    /// The text for a file in UTF-8, which has no half surrogates: U+FFFD in their place.
    pub fn sound(&self) -> String {
        if !self.halves {
            return self.value.clone();
        }
        let sound =
            |character| stands_in(character).map_or(character, |_| char::REPLACEMENT_CHARACTER);
        self.value.chars().map(sound).collect()
    }
}

fn stands_in(character: char) -> Option<u16> {
    let offset = u32::from(character).checked_sub(STAND_IN)?;
    Some(FIRST + u16::try_from(offset).ok()?)
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl From<String> for Text {
    fn from(value: String) -> Self {
        Self {
            value,
            halves: false,
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for bytes, serde_json hands over half surrogates instead of refusing them.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(text.into())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
        Text::from_wtf8(bytes).ok_or_else(|| {
            E::custom("not UTF-8, or half a surrogate beside a character of plane 16")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> String {
        let text: Text = serde_json::from_str(json).unwrap();
        let mut out = String::new();
        crate::python::json::string(&mut out, &text);
        out
    }

    // `json.dumps(json.loads(text))` in CPython.
    #[test]
    fn half_surrogates_come_out_as_they_went_in() {
        for json in [
            r#""\ud800""#,
            r#""a\udfff \ud83d\ude00 \ude00\ud83d""#,
            r#""\udbff\udfff""#,
            r#""\u0000\u0007\b\f\n\r\t\u007f\u2028\"\\/""#,
        ] {
            assert_eq!(written(json), json);
        }
        assert_eq!(written("\"é😀\""), r#""\u00e9\ud83d\ude00""#);
    }

    #[test]
    fn a_half_surrogate_counts_as_one_character_that_is_no_letter() {
        let text: Text = serde_json::from_str(r#""\ud800x""#).unwrap();
        assert_eq!(text.chars().count(), 2);
        assert!(
            text.chars()
                .next()
                .is_some_and(|half| !half.is_alphanumeric())
        );
        assert_eq!(text.sound(), "\u{fffd}x");
    }

    #[test]
    fn what_could_not_be_told_apart_is_refused() {
        let both = "\"\\ud800 \u{10F900}\"";
        assert!(serde_json::from_str::<Text>(both).is_err());
        let alone: Text = serde_json::from_str("\"\u{10F900}\"").unwrap();
        assert_eq!(alone.utf16().collect::<Vec<_>>(), [0xDBFE, 0xDD00]);
    }
}
