//! SentencePiece's own file, `tokenizer.model`, as the tokenizer that transformers 4 makes of it for the
//! classes of Llama: byte-pair merges by score, `▁` for spaces and in front of a text, bytes for what has
//! no piece.
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`); of its fields only those are looked at
//! that say how text becomes ids.
//!
//! ```text
//! ModelProto      1 pieces*   2 trainer_spec   3 normalizer_spec
//! SentencePiece   1 piece     2 score          3 type: 1 normal 2 unknown 3 control 4 user's 5 unused 6 byte
//! TrainerSpec     3 model_type: 1 unigram 2 BPE    24 spaces behind words    35 byte_fallback    40 unk_id
//! NormalizerSpec  1 name   2 charsmap   3 add_dummy_prefix   4 remove_extra_whitespaces   5 escape_whitespaces
//! ```

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The longest piece, in bytes, whose halves are looked for: trained ones have 16 characters.
const LONGEST: usize = 512;

/// How texts begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spaces {
    /// Whether a space is put in front; nothing leaves it to the file.
    pub prefix: Option<bool>,
    /// Whether one is put behind every special token, too, as transformers first did.
    pub legacy: bool,
}

/// `tokenizer.json` of a `tokenizer.model`.
///
/// # Errors
/// What is wrong with the file, or what of it is not done here.
pub(super) fn to_json(file: &[u8], spaces: Spaces) -> Result<Value, String> {
    Model::read(file)?.to_json(spaces)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

#[derive(Debug)]
struct Model {
    pieces: Vec<Piece>,
    is_bpe: bool,
    byte_fallback: bool,
    unk_id: u64,
    add_dummy_prefix: bool,
}

impl Model {
    fn read(file: &[u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            // Unigram, where a file says nothing.
            is_bpe: false,
            byte_fallback: false,
            unk_id: 0,
            add_dummy_prefix: true,
        };
        // The defaults of the format.
        let (mut removes_spaces, mut escapes_spaces) = (true, true);
        for field in Wire::new(file) {
            match field? {
                (1, Content::Bytes(piece)) => model.pieces.push(Piece::read(piece)?),
                (2, Content::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Content::Bytes(normalizer)) => {
                    for field in Wire::new(normalizer) {
                        match field? {
                            (2, Content::Bytes(map)) if !map.is_empty() => {
                                return Err(
                                    "it normalises characters, and only files that take them as \
                                     they are (`identity`) are read"
                                        .into(),
                                );
                            }
                            (3, Content::Number(adds)) => model.add_dummy_prefix = adds != 0,
                            (4, Content::Number(removes)) => removes_spaces = removes != 0,
                            (5, Content::Number(escapes)) => escapes_spaces = escapes != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if removes_spaces || !escapes_spaces {
            return Err(
                "it drops spaces (`remove_extra_whitespaces`) or leaves them as they are, and only \
                 files that keep all of them are read"
                    .into(),
            );
        }
        if !model.is_bpe {
            return Err("its model is no BPE, the only kind that is read".into());
        }
        if model.pieces.is_empty() {
            return Err("it holds no pieces: not a SentencePiece model?".into());
        }
        Ok(model)
    }

    fn read_trainer(&mut self, trainer: &[u8]) -> Result<(), String> {
        for field in Wire::new(trainer) {
            match field? {
                (3, Content::Number(kind)) => self.is_bpe = kind == 2,
                (24, Content::Number(1)) => {
                    return Err("it puts spaces behind words, which is not read".into());
                }
                (35, Content::Number(falls)) => self.byte_fallback = falls != 0,
                (40, Content::Number(id)) => self.unk_id = id,
                _ => {}
            }
        }
        Ok(())
    }

    fn to_json(&self, spaces: Spaces) -> Result<Value, String> {
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(self.pieces.len());
        for (id, piece) in self.pieces.iter().enumerate() {
            if ids.insert(&piece.text, id).is_some() {
                let text = piece.text.escape_debug();
                return Err(format!("its piece `{text}` is there twice"));
            }
        }
        let unknown = usize::try_from(self.unk_id)
            .ok()
            .and_then(|id| self.pieces.get(id))
            .ok_or("its `unk_id` is none of its pieces")?;
        let special = self.pieces.iter().enumerate();
        let special = special.filter(|(_, piece)| {
            matches!(
                piece.kind,
                Kind::Unknown | Kind::Control | Kind::UserDefined
            )
        });
        let added = special.map(|(id, piece)| {
            json!({
                "id": id,
                "content": piece.text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": piece.kind != Kind::UserDefined,
            })
        });
        let prefixes = spaces.prefix.unwrap_or(self.add_dummy_prefix);
        let (normalizer, pre_tokenizer) = match spaces.legacy {
            true => {
                let prepend = json!({"type": "Prepend", "prepend": "▁"});
                let replace =
                    json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
                let both = prefixes.then_some(prepend).into_iter().chain([replace]);
                let both: Vec<Value> = both.collect();
                (
                    json!({"type": "Sequence", "normalizers": both}),
                    Value::Null,
                )
            }
            false => {
                let scheme = if prefixes { "first" } else { "never" };
                let spaces = json!({
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": scheme,
                    "split": false,
                });
                (Value::Null, spaces)
            }
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefixes {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": self.byte_pairs(&ids, unknown)?,
        }))
    }

    fn byte_pairs(&self, ids: &HashMap<&str, usize>, unknown: &Piece) -> Result<Value, String> {
        let vocabulary: Map<String, Value> = self
            .pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece.text.clone(), id.into()))
            .collect();
        let merges = self.merges(ids)?;
        let merges: Vec<Value> = merges
            .iter()
            .map(|(left, right)| json!([left, right]))
            .collect();
        Ok(json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.text,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": self.byte_fallback,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        }))
    }

    /// Any two pieces that make a third one are merged, pairs of higher scores first. The library wants
    /// the pairs in that order; of one score, longer halves go first, as in transformers.
    fn merges(&self, ids: &HashMap<&str, usize>) -> Result<Vec<(&str, &str)>, String> {
        // What SentencePiece makes of characters; the others it only matches whole, or never.
        let is_made =
            |piece: &Piece| matches!(piece.kind, Kind::Normal | Kind::Unused | Kind::UserDefined);
        let mut merges = Vec::new();
        for piece in self.pieces.iter().filter(|piece| is_made(piece)) {
            let text = &piece.text;
            if text.len() > LONGEST {
                return Err(format!("it holds a piece of {} bytes", text.len()));
            }
            let places = text.char_indices().skip(1).map(|(at, _)| at);
            let halves = places
                .map(|at| text.split_at(at))
                .filter_map(|(left, right)| {
                    let both = (*ids.get(left)?, *ids.get(right)?);
                    let made = is_made(&self.pieces[both.0]) && is_made(&self.pieces[both.1]);
                    made.then_some((both, left, right))
                });
            let mut halves: Vec<_> = halves.collect();
            halves.sort_by_key(|(both, ..)| *both);
            merges.extend(halves.into_iter().map(|(_, left, right)| {
                let lengths = (left.chars().count(), right.chars().count());
                (piece.score, lengths, left, right)
            }));
        }
        merges.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
        let pairs = merges.into_iter().map(|(_, _, left, right)| (left, right));
        Ok(pairs.collect())
    }
}

impl Piece {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut piece = Self {
            text: String::new(),
            score: 0.0,
            kind: Kind::Normal,
        };
        for field in Wire::new(bytes) {
            match field? {
                (1, Content::Bytes(text)) => {
                    let text = str::from_utf8(text).map_err(|_| "a piece of it is not UTF-8")?;
                    piece.text = text.to_owned();
                }
                (2, Content::Four(score)) => piece.score = f32::from_le_bytes(score),
                (3, Content::Number(kind)) => {
                    piece.kind = match kind {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        other => return Err(format!("a piece of it is of kind {other}")),
                    };
                }
                _ => {}
            }
        }
        match piece.text.is_empty() || !piece.score.is_finite() {
            true => Err("a piece of it is empty, or has no score".into()),
            false => Ok(piece),
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message, each with its number.
#[derive(Debug)]
struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let key = self.number()?;
        let content = match key & 7 {
            0 => Content::Number(self.number()?),
            1 => {
                self.take(8)?;
                Content::Eight
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u64, Content<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing behind damage is read.
            self.rest = &[];
        }
        Some(field.ok_or_else(|| "it is damaged, or not a SentencePiece model".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGACY: Spaces = Spaces {
        prefix: None,
        legacy: true,
    };

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[2 << 3 | 5], &score.to_le_bytes()[..]].concat();
        field(
            1,
            &[field(1, text.as_bytes()), score, vec![3 << 3, kind]].concat(),
        )
    }

    /// A BPE of these pieces that keeps all spaces.
    fn model(pieces: &[Vec<u8>]) -> Vec<u8> {
        let trainer = field(2, &[3 << 3, 2]);
        let normalizer = field(3, &[4 << 3, 0]);
        [pieces.concat(), trainer, normalizer].concat()
    }

    #[test]
    fn pairs_are_merged_by_the_score_of_what_they_make() {
        let pieces = [
            piece("<unk>", 0.0, 2),
            piece("abc", -2.0, 1),
            piece("bc", -1.0, 1),
            piece("ab", -3.0, 1),
            piece("a", -4.0, 1),
            piece("b", -5.0, 1),
            piece("c", -6.0, 1),
        ];
        let json = to_json(&model(&pieces), LEGACY).unwrap();
        let expected = json!([["b", "c"], ["ab", "c"], ["a", "bc"], ["a", "b"]]);
        assert_eq!(json["model"]["merges"], expected);
        assert_eq!(json["added_tokens"][0]["content"], "<unk>");
    }

    #[test]
    fn a_control_piece_is_not_made_of_characters() {
        let pieces = [
            piece("<unk>", 0.0, 2),
            piece("<s>", 0.0, 3),
            piece("<s", -1.0, 1),
            piece(">", -2.0, 1),
        ];
        let json = to_json(&model(&pieces), LEGACY).unwrap();
        assert_eq!(json["model"]["merges"], json!([]));
    }

    #[test]
    fn what_is_not_read_is_said() {
        let whole = model(&[piece("<unk>", 0.0, 2)]);
        for (bytes, said) in [
            (vec![], "keep all of them"),
            (b"version https://git-lfs".to_vec(), "damaged"),
            (whole[..whole.len() - 1].to_vec(), "damaged"),
            (model(&[]), "no pieces"),
            (model(&[piece("a", 0.0, 2), piece("a", 0.0, 1)]), "twice"),
            (model(&[piece("a", f32::NAN, 2)]), "no score"),
            (
                [whole.clone(), field(3, &field(2, b"map"))].concat(),
                "identity",
            ),
            ([whole.clone(), field(2, &[3 << 3, 4])].concat(), "no BPE"),
            (
                [whole.clone(), field(2, &[24 << 3 & 0x7f | 0x80, 1, 1])].concat(),
                "behind words",
            ),
        ] {
            let error = to_json(&bytes, LEGACY).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
