//! A look at all records before the first step: what would stop a run hours later.

use bunny_core::input::tokenizer::Token;
use rayon::prelude::*;
use serde::Serialize;

use super::InstructionDataset;

/// How many faults, and how many notes, are told in full.
const TOLD: usize = 20;

/// What a dataset holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Preflight {
    /// Records.
    pub records: usize,
    /// Of these, with a picture.
    pub with_picture: usize,
    /// Of these, whose picture has no place in the text, and is left out.
    pub unused_pictures: usize,
    /// Longer than `model_max_length`, and cut.
    pub cut: usize,
    /// Cut before their first answer, so that nothing is learnt from them.
    pub unlearnt: usize,
    /// Of these, with an answer that is learnt, and with their picture.
    pub learnt: usize,
    /// Positions of the longest.
    pub longest: usize,
    /// Records that name a picture that is not there.
    pub missing_pictures: usize,
    /// Records that cannot be learnt from.
    pub faulty: usize,
    /// The first faults, in words: records that cannot be learnt from, or whose picture is missing.
    pub faults: Vec<String>,
    /// The first records, in words, that are learnt otherwise than they are written: nothing of
    /// them, or without their picture.
    pub notes: Vec<String>,
}

impl Preflight {
    /// Looks at every record of a dataset. Pictures are looked up by name, not decoded.
    pub fn scan(dataset: &InstructionDataset<'_>) -> Self {
        let records = dataset.records.len();
        let mut found = (0..records)
            .into_par_iter()
            .fold(Self::default, |mut found, index| {
                found.look(dataset, index);
                found
            })
            .reduce(Self::default, Self::and);
        found.records = records;
        found
    }

    fn look(&mut self, dataset: &InstructionDataset<'_>, index: usize) {
        let sample = match dataset.sample(index) {
            Ok(sample) => sample,
            Err(error) => {
                self.faulty += 1;
                return tell(&mut self.faults, error.to_string());
            }
        };
        let file = dataset.records.path().display();
        let of_record = |what: &str| format!("{file}: record {index} (`{}`): {what}", sample.id);
        if !sample.pictures.is_empty() {
            self.with_picture += 1;
        } else if dataset
            .records
            .get(index)
            .is_ok_and(|record| record.image.is_some())
        {
            self.with_picture += 1;
            self.unused_pictures += 1;
            let note = of_record("no turn has a place for its picture, which is left out");
            tell(&mut self.notes, note);
        }
        let pictures = &dataset.pictures;
        let missing = sample.pictures.iter().find(|name| !pictures.contains(name));
        if let Some(name) = missing {
            self.missing_pictures += 1;
            let fault = of_record(&format!("there is no picture `{name}`"));
            tell(&mut self.faults, fault);
        }
        let layout = dataset.layout;
        let pictures = sample.pictures.len();
        let length = sample.tokens.len() - pictures + pictures * layout.tokens_per_picture;
        self.longest = self.longest.max(length);
        self.cut += usize::from(length > layout.max_length);
        let first = sample
            .answers
            .first()
            .map_or(usize::MAX, |answer| answer.start);
        let before = sample.tokens.iter().take(first);
        let start: usize = before
            .map(|token| match token {
                Token::Text(_) => 1,
                Token::Picture(_) => layout.tokens_per_picture,
            })
            .sum();
        if start >= layout.max_length {
            self.unlearnt += 1;
            let note = of_record("it is cut before its first answer: nothing is learnt from it");
            tell(&mut self.notes, note);
        } else if missing.is_none() && !sample.answers.is_empty() {
            self.learnt += 1;
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.with_picture += other.with_picture;
        self.unused_pictures += other.unused_pictures;
        self.cut += other.cut;
        self.unlearnt += other.unlearnt;
        self.learnt += other.learnt;
        self.longest = self.longest.max(other.longest);
        self.missing_pictures += other.missing_pictures;
        self.faulty += other.faulty;
        self.faults.extend(other.faults);
        self.faults.truncate(TOLD);
        self.notes.extend(other.notes);
        self.notes.truncate(TOLD);
        self
    }
}

fn tell(told: &mut Vec<String>, words: String) {
    if told.len() < TOLD {
        told.push(words);
    }
}
