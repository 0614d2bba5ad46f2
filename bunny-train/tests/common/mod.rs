//! The stages that `tests/reference/training.py` ran, opened as they were there.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bunny_core::{
    Bunny,
    checkpoint::{ModelSource, OpenModel, Precision},
    input::{
        conversation::Template,
        image::{Aspect, DecodeOptions, decode_file},
    },
};
use bunny_data::record::RecordFile;
use bunny_train::{
    data::{Batch, Layout, Sample},
    recipe::{BunnyRecipe, LossAverage, StageKind, TrainingArguments},
    reduce::Reduction,
    run::{Job, metrics::METRICS_FILE},
    stages::{BunnyStage, ModelPaths},
    trainable::{LoraConfig, TrainableParts, lora},
};
use bunny_weights::adapter::Adapter;
use burn::tensor::backend::{AutodiffBackend, Backend};
use safetensors::SafeTensors;
use serde_json::Value;

/// The rank and strength of the fixtures' adapters.
pub const LORA: LoraConfig = LoraConfig {
    rank: 8,
    alpha: 16.0,
    dropout: 0.0,
    use_rslora: false,
};

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

    pub fn run(name: &str) -> Self {
        Self {
            json: expected()["runs"][name]["stage"].clone(),
        }
    }

    /// The stage as a job that leaves its results in `folder`.
    pub fn job(&self, folder: &Path) -> Job<BunnyStage> {
        let number = |field: &str| self.json[field].as_f64();
        let count = |field: &str| self.json[field].as_u64().unwrap() as usize;
        let records = self.text("records");
        let kind = match &*records {
            "pretrain.json" => StageKind::Pretrain,
            _ => StageKind::Finetune,
        };
        let pretrain = kind == StageKind::Pretrain;
        let parts = self.parts();
        let model = fixtures().join("models").join(self.text("model"));
        let adapter = training().join(format!("adapter-{}", self.text("model")));
        let recipe = BunnyRecipe {
            model_name_or_path: model.display().to_string(),
            version: Some(match pretrain {
                true => Template::Plain,
                false => Template::Bunny,
            }),
            image_folder: Some(training().join("pictures")),
            image_aspect_ratio: Some(match pretrain {
                true => Aspect::Square,
                false => Aspect::Pad,
            }),
            tune_mm_mlp_adapter: Some(pretrain),
            unfreeze_vision_tower: parts.tower,
            lora_enable: parts.lora,
            lora_r: LORA.rank,
            lora_alpha: LORA.alpha,
            lora_dropout: LORA.dropout,
            mm_projector_lr: number("projector_learning_rate"),
            gradient_checkpointing: false,
            loss_average: match &*self.text("average") {
                "tokens" => LossAverage::Step,
                _ => LossAverage::MicroBatch,
            },
            training: TrainingArguments {
                data_path: training().join(records),
                learning_rate: number("learning_rate").unwrap(),
                weight_decay: number("weight_decay").unwrap(),
                per_device_train_batch_size: count("batch"),
                gradient_accumulation_steps: count("accumulate"),
                shuffle: false,
                dataloader_num_workers: 2,
                ..TrainingArguments::default()
            },
            ..BunnyRecipe::default()
        };
        let stage = BunnyStage {
            kind,
            paths: ModelPaths {
                vision_tower: Some(model.join("siglip-tower")),
                model,
                projector: None,
                adapter: parts.lora.then_some(adapter),
            },
            recipe,
        };
        Job::new(stage, folder)
    }

    pub fn text(&self, field: &str) -> String {
        self.json[field].as_str().unwrap().to_owned()
    }

    pub fn parts(&self) -> TrainableParts {
        let mut parts = TrainableParts::default();
        for part in self.json["learns"].as_array().unwrap() {
            match part.as_str().unwrap() {
                "projector" => parts.projector = true,
                "lora" => parts.lora = true,
                "language" => parts.language = true,
                "tower" => parts.tower = true,
                other => panic!("unknown part {other}"),
            }
        }
        parts
    }

    pub fn open<B: Backend>(&self, device: &B::Device) -> (Bunny<B>, Batcher) {
        let name = self.text("model");
        let folder = fixtures().join("models").join(&name);
        let tower = ["siglip-tower", "eva-clip-tower", "clip-tower"]
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
        if self.parts().lora {
            let adapter = Adapter::open(training().join(format!("adapter-{name}"))).unwrap();
            lora::attach(&mut model, &adapter, LORA, device).unwrap();
        }
        let records = self.text("records");
        let (template, aspect) = match &*records {
            "pretrain.json" => (Template::Plain, Aspect::Square),
            _ => (open.config.family.template(), Aspect::Pad),
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
        let layout = Layout::new(&self.open.config, 2048);
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
    read_tensors(&training().join(name))
}

/// The f32 tensors of a file.
pub fn read_tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
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

/// Runs a stage to its end, each step over two micro-batches, shared by one rank or two.
pub fn run_on_ranks<B: AutodiffBackend>(mut job: Job<BunnyStage>, ranks: usize) {
    job.stage.recipe.training.gradient_accumulation_steps = 2 / ranks;
    let setup = job.setup().unwrap();
    let devices = vec![Default::default(); ranks];
    let outcome = job.run_on::<B>(
        &setup,
        Precision::F32,
        &devices,
        Reduction::Memory,
        &mut |_, _| {},
    );
    assert!(outcome.unwrap().is_complete());
}

/// Every file of a finished run, but for what depends on the clock.
pub fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name != METRICS_FILE {
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}
