//! The stages that `tests/reference/training.py` ran, opened as they were there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bunny_core::{
    Bunny,
    checkpoint::{ModelSource, OpenModel, Precision, adapter::Adapter},
    conversation::Template,
    image_processor::{Aspect, DecodeOptions, decode_file},
};
use bunny_data::record::RecordFile;
use bunny_train::{
    batch::{Batch, Layout},
    labels::Sample,
    lora,
    stage::Learns,
};
use burn::tensor::backend::Backend;
use safetensors::SafeTensors;
use serde_json::Value;

pub struct Stage {
    pub json: Value,
}

/// Makes batches of a stage's records.
pub struct Batcher {
    open: OpenModel,
    records: RecordFile,
    template: Template,
}

impl Stage {
    pub fn gradients(name: &str) -> Self {
        Self {
            json: expected()["gradients"][name]["stage"].clone(),
        }
    }

    pub fn text(&self, field: &str) -> String {
        self.json[field].as_str().unwrap().to_owned()
    }

    pub fn learns(&self) -> Learns {
        let mut learns = Learns::default();
        for part in self.json["learns"].as_array().unwrap() {
            match part.as_str().unwrap() {
                "projector" => learns.projector = true,
                "lora" => learns.lora = true,
                "language" => learns.language = true,
                "tower" => learns.tower = true,
                other => panic!("unknown part {other}"),
            }
        }
        learns
    }

    pub fn open<B: Backend>(&self, device: &B::Device) -> (Bunny<B>, Batcher) {
        let name = self.text("model");
        let folder = fixtures().join("models").join(&name);
        let tower = ["siglip-tower", "eva-clip-tower"]
            .map(|tower| folder.join(tower))
            .into_iter()
            .find(|tower| tower.exists());
        let source = ModelSource {
            model: folder,
            base: None,
            vision_tower: tower,
        };
        let mut open = source.open().unwrap();
        let mut model = Bunny::load(&open.config, &open.weights, Precision::F32, device).unwrap();
        if self.learns().lora {
            let adapter = Adapter::open(training().join(format!("adapter-{name}"))).unwrap();
            lora::attach(&mut model, &adapter, device).unwrap();
        }
        let records = self.text("records");
        let (template, aspect) = match &*records {
            "pretrain.json" => (Template::Plain, Aspect::Square),
            _ => (Template::Bunny, Aspect::Pad),
        };
        open.image_processor = open.image_processor.with_aspect(aspect);
        let batcher = Batcher {
            open,
            records: RecordFile::open(training().join(records)).unwrap(),
            template,
        };
        (model, batcher)
    }
}

impl Batcher {
    pub fn batch(&self, records: std::ops::Range<usize>) -> Batch {
        let layout = Layout {
            tokens_per_picture: self.open.config.vision.tokens(),
            max_length: 2048,
        };
        let samples = records.map(|index| {
            let record = self.records.get(index).unwrap();
            let sample = Sample::new(&record, self.template, &self.open.tokenizer).unwrap();
            let pictures = sample.pictures.iter().map(|name| {
                let file = training().join("pictures").join(name);
                let picture = decode_file(file, DecodeOptions::default()).unwrap();
                self.open.image_processor.process(&picture)
            });
            let pictures = pictures.collect();
            (sample, pictures)
        });
        Batch::collate(samples, layout)
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

pub fn training() -> PathBuf {
    fixtures().join("training")
}

pub fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(training().join("expected.json")).unwrap()).unwrap()
}

/// The f32 tensors of a file of `tests/fixtures/training`.
pub fn tensors(name: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(training().join(name)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |data: &[u8]| {
        let numbers = data.as_chunks::<4>().0.iter();
        numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    tensors
        .iter()
        .map(|(name, tensor)| (name.to_owned(), numbers(tensor.data())))
        .collect()
}

/// The largest difference; infinite where a number is not one.
pub fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, |worst, off| {
            if off.is_nan() {
                f32::INFINITY
            } else {
                worst.max(off)
            }
        })
}
