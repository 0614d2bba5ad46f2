//! Pictures and their captions.

use bunny_core::input::{
    conversation::{IMAGE_PLACEHOLDER, Segment},
    image::Pixels,
    tokenizer::Tokenizer,
};
use bunny_data::record::{Record, RecordFile, Role};
use rayon::prelude::*;

use super::{BatchInfo, Dataset, LeftOut, Pictures};
use crate::error::TrainError;

/// Records of one picture each, whose first answer is its caption.
#[derive(Debug)]
pub struct Pairs<'a> {
    /// The records.
    pub records: RecordFile,
    /// Their pictures.
    pub pictures: Pictures,
    /// Captions to ids.
    pub tokenizer: &'a Tokenizer,
    /// Tokens of a caption: longer ones are cut, shorter ones end in ends of text.
    pub places: usize,
}

/// What pairs hold, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairScan {
    /// Captions longer than the text tower has places, and cut.
    pub cut: usize,
    /// Records whose picture is not there.
    pub missing_pictures: usize,
    /// Records that are no pair of a picture and a caption.
    pub faulty: usize,
    /// The first faults, in words.
    pub faults: Vec<String>,
}

/// How many faults are told in full.
const TOLD: usize = 20;

impl Pairs<'_> {
    /// Looks at every record. Pictures are looked up by name, not decoded.
    pub fn scan(&self) -> PairScan {
        let look = |mut found: PairScan, index| {
            found.look(self, index);
            found
        };
        let indices = (0..self.records.len()).into_par_iter();
        indices
            .fold(PairScan::default, look)
            .reduce(PairScan::default, PairScan::and)
    }

    /// Record `index`, its caption and the name of its picture.
    fn pair(&self, index: usize) -> Result<(Record, String, String), TrainError> {
        let record = self.records.get(index)?;
        let lacks = |problem| TrainError::Caption {
            file: self.records.path().to_path_buf(),
            index,
            id: record.id.clone(),
            problem,
        };
        let caption = caption_of(&record).ok_or_else(|| lacks("it has no caption"))?;
        let [name] = record.images() else {
            return Err(lacks("it must name one picture"));
        };
        let name = name.clone();
        Ok((record, caption, name))
    }

    fn ids(&self, caption: &str) -> Result<Vec<i32>, TrainError> {
        let encoded = self.tokenizer.encode(&[Segment::Prompt(caption)])?;
        let ids = encoded.input_ids().into_iter();
        Ok(ids.map(|id| id as i32).collect())
    }

    /// A caption as ids, `places` of them.
    fn caption(&self, text: &str) -> Result<Vec<i32>, TrainError> {
        Ok(self.tokenizer.padded(text, self.places)?)
    }

    /// The pixels of up to `count` pictures from all over the records.
    ///
    /// # Errors
    /// When a record has no picture, or one that cannot be read and may not be skipped, or none of
    /// those looked at can be read.
    pub fn sample(&self, count: usize) -> Result<Vec<Pixels>, TrainError> {
        let step = self.records.len().div_ceil(count).max(1);
        let look = |index| {
            let (record, _, name) = self.pair(index)?;
            match self.pixels(&record, &name) {
                Err(_) if self.pictures.may_be_missing() => Ok(None),
                pixels => pixels.map(Some),
            }
        };
        let indices = (0..self.records.len()).into_par_iter().step_by(step);
        let looked_at = indices.len();
        let found: Result<Vec<Pixels>, TrainError> =
            indices.map(look).filter_map(Result::transpose).collect();
        match found {
            Ok(found) if found.is_empty() => Err(TrainError::NoPictures {
                file: self.records.path().to_path_buf(),
                looked_at,
            }),
            found => found,
        }
    }

    fn pixels(&self, record: &Record, name: &str) -> Result<Pixels, TrainError> {
        self.pictures.pixels(name, &record.id, self.records.path())
    }
}

/// The caption of a record: what its model's first turn says.
fn caption_of(record: &Record) -> Option<String> {
    let says = |turn: &&bunny_data::record::Turn| turn.from == Role::Gpt;
    let turn = record.conversations.iter().find(says)?;
    let caption = turn.value.replace(IMAGE_PLACEHOLDER, "").trim().to_owned();
    (!caption.is_empty()).then_some(caption)
}

impl Dataset for Pairs<'_> {
    type Batch = PairBatch;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn batch(&self, records: &[usize]) -> Result<PairBatch, TrainError> {
        let mut batch = PairBatch::default();
        for &index in records {
            let (record, caption, name) = self.pair(index)?;
            let pixels = self.pixels(&record, &name);
            let Some(pixels) = self.pictures.unless_missing(index, pixels)? else {
                continue;
            };
            batch.pixels.push(pixels);
            batch.ids.extend(self.caption(&caption)?);
            batch.samples.push(record.id);
        }
        batch.places = self.places;
        Ok(batch)
    }

    fn left_out(&self) -> LeftOut {
        self.pictures.left_out()
    }
}

impl PairScan {
    fn look(&mut self, pairs: &Pairs<'_>, index: usize) {
        let (record, caption, name) = match pairs.pair(index) {
            Ok(pair) => pair,
            Err(error) => {
                self.faulty += 1;
                return self.tell(error.to_string());
            }
        };
        match pairs.ids(&caption) {
            Ok(ids) => self.cut += usize::from(ids.len() >= pairs.places),
            Err(error) => {
                self.faulty += 1;
                self.tell(error.to_string());
            }
        }
        if !pairs.pictures.contains(&name) {
            self.missing_pictures += 1;
            self.tell(format!(
                "{}: record {index} (`{}`): there is no picture `{name}`",
                pairs.records.path().display(),
                record.id
            ));
        }
    }

    fn tell(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.cut += other.cut;
        self.missing_pictures += other.missing_pictures;
        self.faulty += other.faulty;
        self.faults.extend(other.faults);
        self.faults.truncate(TOLD);
        self
    }
}

/// Pairs that are told from each other.
#[derive(Debug, Clone, Default)]
pub struct PairBatch {
    /// Names of the records.
    pub samples: Vec<String>,
    /// Their pictures.
    pub pixels: Vec<Pixels>,
    /// Their captions, end to end.
    pub ids: Vec<i32>,
    /// Tokens of a caption.
    pub places: usize,
}

impl BatchInfo for PairBatch {
    fn samples(&self) -> &[String] {
        &self.samples
    }

    fn tokens(&self) -> usize {
        self.ids.len()
    }

    fn answers(&self) -> usize {
        self.samples.len()
    }
}
