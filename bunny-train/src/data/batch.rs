//! Samples side by side: rows padded on the right, and what is asked at which place.

use std::ops::Range;

use bunny_core::{
    BunnyConfig,
    input::{image::Pixels, tokenizer::Token},
};

use super::Sample;

/// Samples that go through the model together.
///
/// Rows are `width` positions wide, a picture taking as many as it has features; shorter rows end
/// in padding, which nothing in front of it sees, since attention is causal.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Names of the samples.
    pub samples: Vec<String>,
    /// The ids of all words, row after row.
    pub ids: Vec<i32>,
    /// The pictures of all rows, in reading order.
    pub pictures: Vec<Pixels>,
    /// What stands in each row.
    pub rows: Vec<Vec<Piece>>,
    /// Positions of the longest row.
    pub width: usize,
    /// What is learnt, row after row.
    pub answers: Vec<Answer>,
    /// Positions that are not padding.
    pub tokens: usize,
}

/// A part of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These of [`Batch::ids`].
    Words(Range<usize>),
    /// The first `features` features of one of [`Batch::pictures`].
    Picture {
        /// Which one.
        picture: usize,
        /// How many; fewer than there are where the row was cut.
        features: usize,
    },
}

impl Piece {
    /// Positions it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::Words(ids) => ids.len(),
            Self::Picture { features, .. } => *features,
        }
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A token to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Where it is predicted, in rows laid end to end: the position before its own.
    pub position: usize,
    /// Its id.
    pub id: u32,
}

/// How samples become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Positions a picture takes.
    pub tokens_per_picture: usize,
    /// Rows are cut to this many positions (`model_max_length`), pictures expanded.
    pub max_length: usize,
}

impl Layout {
    /// Rows of at most `max_length` positions for the model of `config`.
    pub fn new(config: &BunnyConfig, max_length: usize) -> Self {
        Self {
            tokens_per_picture: config.vision.tokens(),
            max_length,
        }
    }
}

impl Batch {
    /// Lays samples out, each with the pixels of its pictures.
    ///
    /// What a row loses by being cut is neither read nor learnt, and a picture that is lost is not
    /// encoded; an answer at a row's very start has nothing to be predicted from.
    pub fn collate(
        samples: impl IntoIterator<Item = (Sample, Vec<Pixels>)>,
        layout: Layout,
    ) -> Self {
        let mut batch = Self::default();
        // Per row: where each learnt token stands in it, and its id.
        let mut asked: Vec<Vec<(usize, u32)>> = Vec::new();
        for (sample, pictures) in samples {
            asked.push(batch.push(&sample, pictures, layout));
            batch.samples.push(sample.id);
        }
        let width = batch.rows.iter().map(|row| row_len(row)).max();
        batch.width = width.unwrap_or(0);
        for (row, asked) in asked.into_iter().enumerate() {
            batch
                .answers
                .extend(asked.into_iter().map(|(at, id)| Answer {
                    position: row * batch.width + at - 1,
                    id,
                }));
        }
        batch
    }

    fn push(
        &mut self,
        sample: &Sample,
        pictures: Vec<Pixels>,
        layout: Layout,
    ) -> Vec<(usize, u32)> {
        let mut learnt = sample.answers.iter().cloned().flatten().peekable();
        let mut pictures = pictures.into_iter();
        let mut row: Vec<Piece> = Vec::new();
        let mut asked = Vec::new();
        let mut length = 0;
        for (place, token) in sample.tokens.iter().enumerate() {
            let room = layout.max_length - length;
            if room == 0 {
                break;
            }
            let is_learnt = learnt.next_if_eq(&place).is_some();
            match *token {
                Token::Text(id) => {
                    let end = self.ids.len() + 1;
                    self.ids.push(id as i32);
                    match row.last_mut() {
                        Some(Piece::Words(words)) => words.end = end,
                        _ => row.push(Piece::Words(end - 1..end)),
                    }
                    if is_learnt && length > 0 {
                        asked.push((length, id));
                    }
                    length += 1;
                }
                Token::Picture(_) => {
                    let features = layout.tokens_per_picture.min(room);
                    if let Some(pixels) = pictures.next() {
                        row.push(Piece::Picture {
                            picture: self.pictures.len(),
                            features,
                        });
                        self.pictures.push(pixels);
                        length += features;
                    }
                }
            }
        }
        self.tokens += length;
        self.rows.push(row);
        asked
    }

    /// Positions of each row, padding left out.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row_len(row)).collect()
    }

    /// Rows of which nothing is learnt, since all their answers lie beyond the cut.
    pub fn unlearnt(&self) -> impl Iterator<Item = usize> {
        let mut has_answer = vec![false; self.rows.len()];
        for answer in &self.answers {
            has_answer[answer.position / self.width] = true;
        }
        let rows = has_answer.into_iter().enumerate();
        rows.filter_map(|(row, has)| (!has).then_some(row))
    }
}

/// Positions of a row that are not padding.
pub fn row_len(row: &[Piece]) -> usize {
    row.iter().map(Piece::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        tokens_per_picture: 4,
        max_length: 100,
    };

    fn pixels() -> Pixels {
        Pixels {
            data: vec![0.0; 12],
            height: 2,
            width: 2,
        }
    }

    /// `"p"` is a picture, numbers are words, those from 100 on are learnt.
    fn sample(id: &str, text: &str) -> (Sample, Vec<Pixels>) {
        let mut sample = Sample {
            id: id.into(),
            tokens: Vec::new(),
            answers: Vec::new(),
            pictures: Vec::new(),
        };
        for (place, word) in text.split_whitespace().enumerate() {
            if word == "p" {
                sample
                    .tokens
                    .push(Token::Picture(sample.pictures.len() as u32));
                sample.pictures.push("p".into());
            } else {
                let id: u32 = word.parse().unwrap();
                sample.tokens.push(Token::Text(id));
                if id >= 100 {
                    sample.answers.push(place..place + 1);
                }
            }
        }
        let pictures = vec![pixels(); sample.pictures.len()];
        (sample, pictures)
    }

    fn answer(position: usize, id: u32) -> Answer {
        Answer { position, id }
    }

    #[test]
    fn a_picture_takes_its_features_places_and_answers_are_asked_one_place_before() {
        let batch = Batch::collate([sample("a", "1 p 2 100 101"), sample("b", "3 102")], LAYOUT);
        assert_eq!(batch.width, 8);
        assert_eq!(batch.ids, [1, 2, 100, 101, 3, 102]);
        assert_eq!(
            batch.rows[0],
            [
                Piece::Words(0..1),
                Piece::Picture {
                    picture: 0,
                    features: 4
                },
                Piece::Words(1..4)
            ]
        );
        assert_eq!(batch.rows[1], [Piece::Words(4..6)]);
        assert_eq!(
            batch.answers,
            [answer(5, 100), answer(6, 101), answer(8, 102)]
        );
        assert_eq!(batch.tokens, 10);
    }

    #[test]
    fn rows_are_cut_behind_the_last_position_pictures_expanded() {
        let cut = Layout {
            max_length: 6,
            ..LAYOUT
        };
        let batch = Batch::collate(
            [sample("a", "1 p 100 101"), sample("b", "1 2 3 4 p 100")],
            cut,
        );
        assert_eq!(batch.width, 6);
        assert_eq!(batch.answers, [answer(4, 100)]);
        assert_eq!(
            batch.rows[1][1],
            Piece::Picture {
                picture: 1,
                features: 2
            }
        );
        assert_eq!(batch.unlearnt().collect::<Vec<_>>(), [1]);
        // A picture beyond the cut is not encoded.
        let batch = Batch::collate([sample("c", "1 2 3 4 5 6 p 100")], cut);
        assert!(batch.pictures.is_empty());
    }

    #[test]
    fn an_answer_at_the_very_start_has_nothing_to_be_predicted_from() {
        let batch = Batch::collate([sample("a", "100 101")], LAYOUT);
        assert_eq!(batch.answers, [answer(0, 101)]);
    }
}
