//! `NaN`, `Infinity` and `-Infinity`, which Python's `json.dump` writes and JSON does not have: in
//! fields that nobody reads they stand for nothing.

/// Fields whose absence means something, so that a number that is none must not pass for it.
const READ: [&[u8]; 6] = [
    b"id",
    b"image",
    b"images",
    b"conversations",
    b"messages",
    b"input",
];

/// The text of an object with `null` in the place of numbers that JSON does not have, and the name of
/// the field that is one itself and is read; `None` for a text without any.
pub(super) fn without(raw: &[u8]) -> Option<(Vec<u8>, Option<&'static str>)> {
    let mut clean = Vec::new();
    let mut copied = 0;
    let mut field = None;
    let (mut depth, mut key, mut string_start) = (0_u32, &raw[..0], None);
    let mut at = 0;
    while at < raw.len() {
        if let Some(start) = string_start {
            match raw[at] {
                b'\\' => at += 1,
                b'"' => {
                    if depth == 1 {
                        // The last string before a value is its key.
                        key = &raw[start..at];
                    }
                    string_start = None;
                }
                _ => {}
            }
            at += 1;
            continue;
        }
        match raw[at] {
            b'"' => string_start = Some(at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'N' | b'I' | b'-' => {
                let words: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
                if let Some(word) = words.iter().find(|word| raw[at..].starts_with(word)) {
                    clean.extend_from_slice(&raw[copied..at]);
                    clean.extend_from_slice(b"null");
                    at += word.len();
                    copied = at;
                    if depth == 1
                        && let Some(read) = READ.iter().find(|name| **name == key)
                    {
                        field = field.or(std::str::from_utf8(read).ok());
                    }
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    clean.extend_from_slice(&raw[copied..]);
    Some((clean, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_become_null_and_words_stay() {
        let text = br#"{"a": NaN, "b": [-Infinity, {"c\"NaN": Infinity}], "d": "NaN \" Infinity", "e": -1}"#;
        let (clean, field) = without(text).unwrap();
        assert_eq!(
            std::str::from_utf8(&clean).unwrap(),
            r#"{"a": null, "b": [null, {"c\"NaN": null}], "d": "NaN \" Infinity", "e": -1}"#
        );
        assert_eq!(field, None);
        assert_eq!(without(br#"{"a": "NaN", "b": -1}"#), None);
        let field = |text: &str| without(text.as_bytes()).unwrap().1;
        assert_eq!(field(r#"{"x": NaN, "id": NaN}"#), Some("id"));
        assert_eq!(field(r#"{"x": {"id": NaN}, "image": "NaN"}"#), None);
        assert_eq!(field(r#"{"image":-Infinity}"#), Some("image"));
    }
}
