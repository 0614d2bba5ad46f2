//! Writing records: a JSON array with one record a line, or JSON lines.

use std::io::{self, Write};
use std::path::Path;

use memchr::memchr;

/// Writes records as the file's name asks: JSON lines for `.jsonl`, else a JSON array.
#[derive(Debug)]
pub(crate) struct RecordWriter<W> {
    out: W,
    lines: bool,
    records: usize,
}

impl<W: Write> RecordWriter<W> {
    /// Starts a file that will be called `path`.
    pub fn new(out: W, path: &Path) -> Self {
        let lines = path
            .extension()
            .is_some_and(|extension| extension == "jsonl");
        Self {
            out,
            lines,
            records: 0,
        }
    }

    /// Appends a record, which has to stand on one line.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        self.out.write_all(match (self.lines, self.records) {
            (true, _) => b"",
            (false, 0) => b"[\n",
            (false, _) => b",\n",
        })?;
        self.out.write_all(record)?;
        if self.lines {
            self.out.write_all(b"\n")?;
        }
        self.records += 1;
        Ok(())
    }

    /// Ends the file and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(match (self.lines, self.records) {
            (true, _) => b"",
            (false, 0) => b"[]\n",
            (false, _) => b"\n]\n",
        })?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// JSON on one line: white space outside strings goes if there are line breaks in it.
pub(crate) fn one_line(raw: &[u8]) -> Vec<u8> {
    if memchr(b'\n', raw).is_none() {
        return raw.to_vec();
    }
    let (mut line, mut in_string, mut escaped) = (Vec::with_capacity(raw.len()), false, false);
    for byte in raw {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = *byte == b'"';
        }
        line.push(*byte);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_takes_nothing_from_strings() {
        let value = serde_json::json!({"a": "x \" y\\", "b": [1.50, "  ", {"c": "\n"}], "é": null});
        let indented = serde_json::to_vec_pretty(&value).unwrap();
        assert_eq!(one_line(&indented), serde_json::to_vec(&value).unwrap());
        let spaced = br#"{"a": 1.50, "b": "x"}"#;
        assert_eq!(
            one_line(spaced),
            spaced,
            "without line breaks the bytes stay"
        );
    }

    #[test]
    fn both_layouts_are_whole_with_any_number_of_records() {
        for (name, texts) in [
            ("a.json", ["[]\n", "[\n{}\n]\n", "[\n{},\n{}\n]\n"]),
            ("a.jsonl", ["", "{}\n", "{}\n{}\n"]),
        ] {
            for (records, text) in texts.into_iter().enumerate() {
                let mut writer = RecordWriter::new(Vec::new(), Path::new(name));
                (0..records).for_each(|_| writer.push(b"{}").unwrap());
                assert_eq!(writer.finish().unwrap(), text.as_bytes());
            }
        }
    }
}
