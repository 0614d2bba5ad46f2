//! Finds where each record of a JSON file starts and ends, a chunk of bytes at a time.
//!
//! Only what is between the records is understood here: the array with its commas, or the lines.
//! Inside a record the scan counts brackets and skips strings; what the record says is checked when
//! it is read. Nothing but the spans is kept, whatever the size of the file.

use memchr::{memchr, memchr2};

/// No record is longer than this; a lost quote would otherwise make one of half the file.
pub(crate) const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Where one record stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u64,
    pub len: u32,
}

/// How the records are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One JSON array of objects.
    Array,
    /// One object a line; blank lines do not count.
    Lines,
}

/// Something out of place between the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misplaced {
    pub offset: u64,
    pub what: &'static str,
}

/// The scan itself: feed it chunks in order, then [`finish`](Scanner::finish).
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    offset: u64,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the `[`.
    Open,
    /// After `[`: a record or the end.
    First,
    /// After a comma: a record.
    Next,
    /// Inside a record of the array.
    Inside {
        start: u64,
        depth: u32,
        string: InString,
    },
    /// After a record: a comma or the end.
    After,
    /// After the `]`: nothing more.
    Closed,
    /// Inside a line: where its first byte that is not white space stands, the last one and its place.
    Line { start: Option<u64>, last: (u64, u8) },
}

/// Whether the scan is inside a string, and just behind its backslash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum InString {
    No,
    Yes,
    Escaped,
}

impl Scanner {
    /// A scan that starts `offset` bytes into the file (behind a byte order mark).
    pub fn new(layout: Layout, offset: u64) -> Self {
        let state = match layout {
            Layout::Array => State::Open,
            Layout::Lines => State::Line {
                start: None,
                last: (0, 0),
            },
        };
        Self {
            state,
            offset,
            spans: Vec::new(),
        }
    }

    /// How many records were found so far.
    pub fn records(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Goes over the next bytes of the file.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Misplaced> {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::Inside { .. } => self.inside(chunk, at)?,
                State::Line { .. } => self.line(chunk, at)?,
                _ => self.between(chunk, at)?,
            };
        }
        self.offset += chunk.len() as u64;
        Ok(())
    }

    /// The spans of all records, once the file is at its end.
    pub fn finish(mut self) -> Result<Vec<Span>, Misplaced> {
        let what = match self.state {
            State::Closed => return Ok(self.spans),
            State::Line { start, last } => {
                self.end_line(start, last)?;
                return Ok(self.spans);
            }
            State::Inside { start, .. } => {
                return Err(Misplaced {
                    offset: start,
                    what: "the file ends inside this record",
                });
            }
            State::Open => "the file is empty",
            State::First | State::Next | State::After => {
                "the file ends before the `]` of its array"
            }
        };
        Err(Misplaced {
            offset: self.offset,
            what,
        })
    }

    /// One step outside the records of an array: to the next byte that is not white space.
    fn between(&mut self, chunk: &[u8], from: usize) -> Result<usize, Misplaced> {
        let Some(skip) = chunk[from..].iter().position(|byte| !is_space(*byte)) else {
            return Ok(chunk.len());
        };
        let at = from + skip;
        let offset = self.offset + at as u64;
        self.state = match (self.state, chunk[at]) {
            (State::Open, b'[') => State::First,
            (State::First | State::Next, b'{') => State::Inside {
                start: offset,
                depth: 1,
                string: InString::No,
            },
            (State::First | State::After, b']') => State::Closed,
            (State::After, b',') => State::Next,
            (State::Closed, _) => {
                return Err(Misplaced {
                    offset,
                    what: "more follows the `]` of the array",
                });
            }
            (State::After, _) => {
                return Err(Misplaced {
                    offset,
                    what: "expected `,` or `]` after a record",
                });
            }
            _ => {
                return Err(Misplaced {
                    offset,
                    what: "expected a record, `{…}`",
                });
            }
        };
        Ok(at + 1)
    }

    /// From inside a record to its closing brace, or to the end of the chunk.
    fn inside(&mut self, chunk: &[u8], from: usize) -> Result<usize, Misplaced> {
        let State::Inside {
            start,
            mut depth,
            mut string,
        } = self.state
        else {
            return Ok(from);
        };
        let mut at = from;
        while at < chunk.len() {
            match string {
                InString::Escaped => {
                    string = InString::Yes;
                    at += 1;
                }
                InString::Yes => match memchr2(b'"', b'\\', &chunk[at..]) {
                    Some(skip) => {
                        at += skip + 1;
                        string = if chunk[at - 1] == b'"' {
                            InString::No
                        } else {
                            InString::Escaped
                        };
                    }
                    None => at = chunk.len(),
                },
                InString::No => {
                    match chunk[at] {
                        b'"' => string = InString::Yes,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        self.push(start, self.offset + at as u64)?;
                        self.state = State::After;
                        return Ok(at);
                    }
                }
            }
        }
        self.check_len(start, self.offset + at as u64)?;
        self.state = State::Inside {
            start,
            depth,
            string,
        };
        Ok(at)
    }

    /// Over one line, or what the chunk holds of it.
    fn line(&mut self, chunk: &[u8], from: usize) -> Result<usize, Misplaced> {
        let State::Line {
            mut start,
            mut last,
        } = self.state
        else {
            return Ok(from);
        };
        let newline = memchr(b'\n', &chunk[from..]).map(|skip| from + skip);
        let piece = &chunk[from..newline.unwrap_or(chunk.len())];
        if start.is_none() {
            start = piece
                .iter()
                .position(|byte| !is_space(*byte))
                .map(|skip| self.offset + (from + skip) as u64);
        }
        if let Some(skip) = piece.iter().rposition(|byte| !is_space(*byte)) {
            last = (self.offset + (from + skip) as u64, piece[skip]);
        }
        let Some(newline) = newline else {
            if let Some(start) = start {
                self.check_len(start, self.offset + chunk.len() as u64)?;
            }
            self.state = State::Line { start, last };
            return Ok(chunk.len());
        };
        self.end_line(start, last)?;
        self.state = State::Line {
            start: None,
            last: (0, 0),
        };
        Ok(newline + 1)
    }

    fn end_line(&mut self, start: Option<u64>, last: (u64, u8)) -> Result<(), Misplaced> {
        let Some(start) = start else { return Ok(()) };
        if last.1 != b'}' {
            return Err(Misplaced {
                offset: start,
                what: "this line is not one whole record (`{…}`); expected JSON lines or a JSON array",
            });
        }
        self.push(start, last.0 + 1)
    }

    fn push(&mut self, start: u64, end: u64) -> Result<(), Misplaced> {
        self.check_len(start, end)?;
        // Fits: MAX_RECORD_BYTES is far below u32::MAX.
        self.spans.push(Span {
            start,
            len: (end - start) as u32,
        });
        Ok(())
    }

    fn check_len(&self, start: u64, end: u64) -> Result<(), Misplaced> {
        if end - start > MAX_RECORD_BYTES {
            return Err(Misplaced {
                offset: start,
                what: "this record is longer than 64 MiB: is a quote or a brace missing?",
            });
        }
        Ok(())
    }
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of `text`, fed in pieces of `piece` bytes.
    fn scan(layout: Layout, text: &str, piece: usize) -> Result<Vec<&str>, Misplaced> {
        let mut scanner = Scanner::new(layout, 0);
        for chunk in text.as_bytes().chunks(piece) {
            scanner.feed(chunk)?;
        }
        let spans = scanner.finish()?;
        Ok(spans
            .iter()
            .map(|s| &text[s.start as usize..][..s.len as usize])
            .collect())
    }

    #[test]
    fn records_are_found_whatever_the_pieces() {
        let records = [
            r#"{"a":"}]\"\\"}"#,
            r#"{"b":[{"c":"\\\"["},[]]}"#,
            "{}",
            r#"{"é":"日本 {"}"#,
        ];
        let array = format!(
            " [\n {} ,{},{}\t,{}]\n",
            records[0], records[1], records[2], records[3]
        );
        let lines = format!(
            "{}\r\n\n  {} \n{}\n{}",
            records[0], records[1], records[2], records[3]
        );
        for piece in 1..array.len() + 1 {
            assert_eq!(
                scan(Layout::Array, &array, piece).unwrap(),
                records,
                "pieces of {piece}"
            );
            assert_eq!(
                scan(Layout::Lines, &lines, piece).unwrap(),
                records,
                "pieces of {piece}"
            );
        }
        assert!(scan(Layout::Array, "[]", 1).unwrap().is_empty());
    }

    #[test]
    fn what_is_out_of_place_is_named_with_its_byte() {
        for (text, offset) in [
            ("", 0),
            ("[", 1),
            ("[{}", 3),
            ("[{},", 4),
            ("[{},]", 4),
            ("[{} {}]", 4),
            ("[1]", 1),
            ("[{}] x", 5),
            (r#"[{}, {"a": "b]"#, 5),
        ] {
            for piece in [1, 3, 64] {
                assert_eq!(
                    scan(Layout::Array, text, piece).unwrap_err().offset,
                    offset,
                    "{text:?}"
                );
            }
        }
        assert_eq!(
            scan(Layout::Lines, "{}\n{\"a\":\n1}\n", 64)
                .unwrap_err()
                .offset,
            3
        );
    }

    #[test]
    fn a_record_without_end_stops_the_scan_at_the_limit() {
        let mut scanner = Scanner::new(Layout::Array, 0);
        scanner.feed(b"[{\"a\":\"").unwrap();
        let chunk = vec![b'x'; 1 << 20];
        let error = (0..65).find_map(|_| scanner.feed(&chunk).err()).unwrap();
        assert_eq!(error.offset, 1);
    }
}
