//! JSON as Python's `json.dumps` writes it: in ASCII, half surrogates included.

use std::fmt::Write;

use crate::text::Text;

/// Appends `text` as a JSON string.
pub(crate) fn string(out: &mut String, text: &Text) {
    out.push('"');
    for unit in text.utf16() {
        match unit {
            0x22 => out.push_str("\\\""),
            0x5c => out.push_str("\\\\"),
            0x0a => out.push_str("\\n"),
            0x0d => out.push_str("\\r"),
            0x09 => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            0x20..=0x7e => out.push(char::from(unit as u8)),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{other:04x}");
            }
        }
    }
    out.push('"');
}
