//! Conversations about pictures, of which the answers are learnt.

use bunny_core::input::{conversation::Template, image::Pixels, tokenizer::Tokenizer};
use bunny_data::record::RecordFile;

use super::{Batch, BatchInfo, Dataset, Layout, LeftOut, Pictures, Sample};
use crate::error::TrainError;

/// Records of conversations, and how they become batches.
#[derive(Debug)]
pub struct InstructionDataset<'a> {
    /// The records.
    pub records: RecordFile,
    /// Their pictures.
    pub pictures: Pictures,
    /// How conversations are rendered.
    pub template: Template,
    /// Text to ids.
    pub tokenizer: &'a Tokenizer,
    /// How samples become rows.
    pub layout: Layout,
}

impl InstructionDataset<'_> {
    /// A record as it is learnt.
    ///
    /// # Errors
    /// When the record cannot be read or learnt from.
    pub fn sample(&self, index: usize) -> Result<Sample, TrainError> {
        let record = self.records.get(index)?;
        Sample::new(&record, self.template, self.tokenizer).map_err(|source| TrainError::Sample {
            file: self.records.path().to_path_buf(),
            index,
            id: record.id,
            source,
        })
    }

    fn pixels(&self, sample: &Sample) -> Result<Vec<Pixels>, TrainError> {
        let file = self.records.path();
        let names = sample.pictures.iter();
        names
            .map(|name| self.pictures.pixels(name, &sample.id, file))
            .collect()
    }
}

impl Dataset for InstructionDataset<'_> {
    type Batch = Batch;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn batch(&self, records: &[usize]) -> Result<Batch, TrainError> {
        let mut samples = Vec::with_capacity(records.len());
        let mut kept = Vec::with_capacity(records.len());
        for &index in records {
            let sample = self.sample(index)?;
            let pixels = self.pixels(&sample);
            if let Some(pixels) = self.pictures.unless_missing(index, pixels)? {
                samples.push((sample, pixels));
                kept.push(index);
            }
        }
        let batch = Batch::collate(samples, self.layout);
        for row in batch.unlearnt() {
            let tally = &self.pictures.tally;
            tally.without_answer(kept[row], &batch.samples[row]);
        }
        Ok(batch)
    }

    fn left_out(&self) -> LeftOut {
        self.pictures.left_out()
    }
}

impl BatchInfo for Batch {
    fn samples(&self) -> &[String] {
        &self.samples
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn answers(&self) -> usize {
        self.answers.len()
    }
}
