//! Texts, read and packed into rows.

use std::{fs, ops::Range, path::Path};

use bunny_core::input::{conversation::Segment, tokenizer::Tokenizer};
use bunny_data::record::RecordFile;
use rayon::prelude::*;
use serde::Deserialize;

use super::{Answer, BatchInfo, Dataset};
use crate::error::TrainError;

/// A file with one `{"text": "..."}` a record.
#[derive(Debug)]
pub struct Texts {
    records: RecordFile,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Texts {
    /// Opens a file: JSON lines, or any other that records are read from.
    ///
    /// # Errors
    /// When it cannot be read, or holds no text.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let records = RecordFile::open(path)?;
        if records.is_empty() {
            let problem = "holds no texts".into();
            let path = path.to_path_buf();
            return Err(TrainError::State { path, problem });
        }
        Ok(Self { records })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// One of them.
    ///
    /// # Errors
    /// When it cannot be read, or has no text.
    pub fn get(&self, index: usize) -> Result<String, TrainError> {
        let raw = self.records.raw(index)?;
        let text: Text = serde_json::from_slice(&raw).map_err(|source| TrainError::Text {
            file: self.records.path().to_path_buf(),
            index,
            source,
        })?;
        Ok(text.text)
    }

    /// All of them, in order.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn all(&self) -> Result<Vec<String>, TrainError> {
        (0..self.len()).map(|index| self.get(index)).collect()
    }

    /// Bytes of main memory that [`pack`](Self::pack) takes: the file, which is mapped, and all tokens twice,
    /// text by text and end to end. How many there are is taken from up to a thousand texts from all over
    /// the file.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn packing_bytes(&self, tokenizer: &Tokenizer) -> Result<u64, TrainError> {
        const SAMPLE: usize = 1000;
        // A vector, the allocator's head of it, and a place in a row.
        const TEXT: usize = size_of::<Vec<u32>>() + 16 + size_of::<Range<usize>>();

        let path = self.records.path();
        let file = fs::metadata(path).map_err(TrainError::io(path, "read"))?;
        let sample: Vec<usize> = (0..self.len())
            .step_by(self.len().div_ceil(SAMPLE).max(1))
            .collect();
        let count = |index: &usize| -> Result<usize, TrainError> {
            let encoded = tokenizer.encode(&[Segment::Prompt(&self.get(*index)?)])?;
            Ok(encoded.input_ids().len() + 1)
        };
        let counts: Vec<usize> = sample
            .par_iter()
            .map(count)
            .collect::<Result<_, TrainError>>()?;
        let tokens = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
        let texts = self.len() as f64;
        let packed = texts * (2.0 * tokens * size_of::<u32>() as f64 + TEXT as f64);
        Ok(file.len() + packed as u64)
    }

    /// Packs the texts, each with its end of text, into rows of at most `length` tokens. A text
    /// that is longer is cut into pieces, which are then texts of their own.
    ///
    /// # Errors
    /// As [`Texts::get`], and when the tokenizer has no end of text.
    pub fn pack(&self, tokenizer: &Tokenizer, length: usize) -> Result<PackedTexts, TrainError> {
        let end = tokenizer.special_tokens().eos;
        let end = end.ok_or_else(|| TrainError::NoEndOfText {
            file: self.records.path().to_path_buf(),
        })?;
        let texts: Vec<Vec<u32>> = (0..self.len())
            .into_par_iter()
            .map(|index| {
                let text = self.get(index)?;
                let encoded = tokenizer.encode(&[Segment::Prompt(&text)])?;
                let ids = encoded.input_ids().into_iter().map(|id| id as u32);
                Ok(ids.chain([end]).collect())
            })
            .collect::<Result<_, TrainError>>()?;
        let name = self.records.path().file_stem().unwrap_or_default();
        Ok(PackedTexts::pack(&name.to_string_lossy(), &texts, length))
    }
}

/// Rows of packed texts.
///
/// ```text
/// row 0   a a a a $ b b $ c c c c c $ . .      segments   0 0 0 0 0 1 1 1 2 2 2 2 2 2 3 3
/// ```
///
/// A text sees nothing of the one before it, and its positions count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedTexts {
    name: String,
    ids: Vec<u32>,
    rows: Vec<Vec<Range<usize>>>,
}

/// Rows that wait for a text that fits.
const OPEN: usize = 64;

impl PackedTexts {
    /// Each text goes into the open row that it leaves the least room in.
    fn pack(name: &str, texts: &[Vec<u32>], length: usize) -> Self {
        let mut all = Self {
            name: name.to_owned(),
            ids: texts.concat(),
            rows: Vec::new(),
        };
        // Open rows: the room left, and which.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut start = 0;
        for text in texts {
            let end = start + text.len();
            while start < end {
                let piece = start..end.min(start + length);
                start = piece.end;
                let fits = |place: &usize| open[*place].0 >= piece.len();
                let best = (0..open.len())
                    .filter(fits)
                    .min_by_key(|place| open[*place]);
                let place = best.unwrap_or_else(|| {
                    if open.len() == OPEN {
                        let fullest = (0..OPEN).min_by_key(|place| open[*place]);
                        open.swap_remove(fullest.unwrap_or_default());
                    }
                    all.rows.push(Vec::new());
                    open.push((length, all.rows.len() - 1));
                    open.len() - 1
                });
                let (room, row) = &mut open[place];
                *room -= piece.len();
                all.rows[*row].push(piece);
            }
        }
        all
    }

    /// Tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

impl Dataset for PackedTexts {
    type Batch = TextBatch;

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn batch(&self, records: &[usize]) -> Result<TextBatch, TrainError> {
        let rows = || records.iter().map(|row| &self.rows[*row]);
        let filled = |row: &Vec<Range<usize>>| row.iter().map(ExactSizeIterator::len).sum();
        let width = rows().map(filled).max().unwrap_or(0);
        let mut batch = TextBatch {
            width,
            ..TextBatch::default()
        };
        for (row, record) in rows().zip(records) {
            let first = batch.ids.len();
            let mut segments = Vec::with_capacity(width);
            for (segment, piece) in row.iter().enumerate() {
                let place = batch.ids.len();
                let ids = &self.ids[piece.clone()];
                batch.ids.extend(ids.iter().map(|id| *id as i32));
                batch.lengths.push(ids.len());
                segments.resize(segments.len() + ids.len(), segment as u32);
                let predicted = ids.iter().skip(1).enumerate();
                batch.answers.extend(predicted.map(|(at, id)| Answer {
                    position: place + at,
                    id: *id,
                }));
            }
            batch.tokens += batch.ids.len() - first;
            batch.ids.resize(first + width, 0);
            segments.resize(width, row.len() as u32);
            batch.segments.push(segments);
            batch.names.push(format!("{}:{record}", self.name));
        }
        Ok(batch)
    }
}

/// Rows that go through the model together, padded to the longest.
#[derive(Debug, Clone, Default)]
pub struct TextBatch {
    /// File and row of each row.
    pub names: Vec<String>,
    /// Row after row.
    pub ids: Vec<i32>,
    /// The text of each position, row by row; padding is one more.
    pub segments: Vec<Vec<u32>>,
    /// Tokens of each text.
    pub lengths: Vec<usize>,
    /// Every token but the first of each text.
    pub answers: Vec<Answer>,
    /// Positions of a row.
    pub width: usize,
    /// Positions that are not padding.
    pub tokens: usize,
}

impl BatchInfo for TextBatch {
    fn samples(&self) -> &[String] {
        &self.names
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn answers(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&[u32]], length: usize) -> PackedTexts {
        let texts: Vec<Vec<u32>> = texts.iter().map(|text| text.to_vec()).collect();
        PackedTexts::pack("t", &texts, length)
    }

    #[test]
    fn texts_go_where_they_leave_the_least_room() {
        let rows = rows(&[&[1, 2, 3, 4], &[5, 6, 7], &[8, 9], &[10]], 6);
        // The pair fits behind the first text to the last place, the last one behind the second.
        assert_eq!(rows.rows, [vec![0..4, 7..9], vec![4..7, 9..10]]);
    }

    #[test]
    fn a_long_text_is_cut_and_none_of_it_is_lost() {
        let rows = rows(&[&[1, 2, 3, 4, 5, 6, 7], &[8, 9]], 3);
        let pieces =
            |row: &[(usize, usize)]| row.iter().map(|&(from, to)| from..to).collect::<Vec<_>>();
        assert_eq!(
            rows.rows,
            [
                pieces(&[(0, 3)]),
                pieces(&[(3, 6)]),
                pieces(&[(6, 7), (7, 9)])
            ]
        );
        assert_eq!(rows.tokens(), 9);
    }

    #[test]
    fn every_token_but_the_first_of_each_text_is_predicted_within_its_row() {
        let rows = rows(&[&[1, 2, 3], &[4, 5], &[6, 7, 8, 9]], 6);
        let batch = rows.batch(&[0, 1]).unwrap();
        assert_eq!((batch.width, batch.tokens), (5, 9));
        assert_eq!(batch.ids, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
        assert_eq!(batch.segments, [vec![0, 0, 0, 1, 1], vec![0, 0, 0, 0, 1]]);
        assert_eq!(batch.lengths, [3, 2, 4]);
        let predicted: Vec<_> = batch.answers.iter().map(|a| (a.position, a.id)).collect();
        assert_eq!(predicted, [(0, 2), (1, 3), (3, 5), (5, 7), (6, 8), (7, 9)]);
        for (position, id) in predicted {
            assert_eq!(batch.ids[position + 1], id as i32);
        }
    }
}
