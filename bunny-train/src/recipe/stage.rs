//! The keys of one stage.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{StageKind, keys::nearest};
use crate::{feed::PicturePolicy, lora::LoraConfig, schedule::SchedulerKind, stage::Learns};

/// What a step's loss is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossAverage {
    /// All answer tokens of the step.
    #[default]
    Step,
    /// The means of its micro-batches, as in the reference; short answers then count for more.
    MicroBatch,
}

/// The keys of one stage, with the reference's names and defaults unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageRecipe {
    /// The language model, or a whole Bunny to go on from: a folder or a hub id.
    pub model_name_or_path: String,
    /// The vision tower: a folder, a file of weights or a hub id; not needed where the model holds
    /// one.
    pub vision_tower: Option<String>,
    /// The conversation template (`bunny`, `phi3`, `minicpm`, `llama`, `plain`); `plain` in
    /// pre-training, else the language model's own.
    pub version: Option<String>,
    /// The records.
    pub data_path: PathBuf,
    /// The folder or archive that records' `image` paths lie in.
    pub image_folder: Option<PathBuf>,
    /// `pad` or `square`; `square` in pre-training, else `pad`.
    pub image_aspect_ratio: Option<String>,
    /// A record whose picture is missing: `error` stops, `skip` leaves it out and counts it. Ours.
    pub missing_pictures: PicturePolicy,
    /// Records whose loss is reported, never learnt from. Ours.
    pub eval_data_path: Option<PathBuf>,
    /// Report it every so many steps; at the end in any case.
    pub eval_steps: Option<u64>,

    /// Only the projector learns; so in pre-training unless said otherwise.
    pub tune_mm_mlp_adapter: Option<bool>,
    /// The projector does not learn.
    pub freeze_mm_mlp_adapter: bool,
    /// The vision tower learns too.
    pub unfreeze_vision_tower: bool,
    /// Adapters learn in the place of the language model.
    pub lora_enable: bool,
    /// Rank of the adapters.
    pub lora_r: usize,
    /// Their strength, times the rank.
    pub lora_alpha: f64,
    /// Share of their inputs dropped.
    pub lora_dropout: f64,
    /// A folder with an adapter to start from. Ours.
    pub init_adapter: Option<String>,
    /// The projector's kind.
    pub mm_projector_type: String,
    /// A projector to start from: a folder or a file; by default what the stage before has made.
    pub pretrain_mm_mlp_adapter: Option<String>,

    /// Learning rate.
    pub learning_rate: f64,
    /// The projector's, and an unfrozen tower's; `learning_rate` unless given.
    pub mm_projector_lr: Option<f64>,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// Gradients whose norm is larger are scaled down to it; 0 clips nothing.
    pub max_grad_norm: f64,
    /// Share of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// How it goes on.
    pub lr_scheduler_type: SchedulerKind,

    /// Times that every record is seen.
    pub num_train_epochs: f64,
    /// Stop after so many steps, whatever the epochs.
    pub max_steps: Option<u64>,
    /// Records that go through the model together.
    pub per_device_train_batch_size: usize,
    /// Times that happens before a step is taken.
    pub gradient_accumulation_steps: usize,
    /// Positions of a row, pictures expanded; longer ones are cut.
    pub model_max_length: usize,
    /// Keep less in memory, and compute layers twice.
    pub gradient_checkpointing: bool,
    /// Put records of one modality and similar length into a batch.
    pub group_by_modality_length: bool,
    /// Shuffle records anew in every epoch. Ours.
    pub shuffle: bool,
    /// What a step's loss is the mean of. Ours.
    pub loss_average: LossAverage,
    /// Seed of order, dropouts and new weights.
    pub seed: u64,
    /// Threads that prepare batches ahead of the step.
    pub dataloader_num_workers: usize,

    /// Keep a checkpoint every so many steps.
    pub save_steps: u64,
    /// Keep the last so many checkpoints.
    pub save_total_limit: usize,
}

impl Default for StageRecipe {
    fn default() -> Self {
        Self {
            model_name_or_path: String::new(),
            vision_tower: None,
            version: None,
            data_path: PathBuf::new(),
            image_folder: None,
            image_aspect_ratio: None,
            missing_pictures: PicturePolicy::Error,
            eval_data_path: None,
            eval_steps: None,
            tune_mm_mlp_adapter: None,
            freeze_mm_mlp_adapter: false,
            unfreeze_vision_tower: false,
            lora_enable: false,
            lora_r: 128,
            lora_alpha: 256.0,
            lora_dropout: 0.05,
            init_adapter: None,
            mm_projector_type: "mlp2x_gelu".into(),
            pretrain_mm_mlp_adapter: None,
            learning_rate: 2e-4,
            mm_projector_lr: None,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            warmup_ratio: 0.03,
            lr_scheduler_type: SchedulerKind::Cosine,
            num_train_epochs: 1.0,
            max_steps: None,
            per_device_train_batch_size: 8,
            gradient_accumulation_steps: 1,
            model_max_length: 2048,
            gradient_checkpointing: true,
            group_by_modality_length: false,
            shuffle: true,
            loss_average: LossAverage::Step,
            seed: 42,
            dataloader_num_workers: 4,
            save_steps: 500,
            save_total_limit: 1,
        }
    }
}

impl StageRecipe {
    /// A stage's keys; an error gives the key (with a dot before it) and the problem.
    pub(super) fn from_table(kind: StageKind, table: Table) -> Result<Self, (String, String)> {
        let known = Self::keys();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        if let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) {
            let nearest = nearest(unknown, &known).unwrap_or_default();
            return Err((
                format!(".{unknown}"),
                format!("there is no such key; the nearest known one is `{nearest}`"),
            ));
        }
        // One key at a time, so that an error names its key.
        for (key, value) in &table {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            Value::Table(alone)
                .try_into::<Self>()
                .map_err(|error| (format!(".{key}"), error.message().trim_end().to_owned()))?;
        }
        let mut stage: Self = Value::Table(table)
            .try_into()
            .map_err(|error| (String::new(), error.message().to_owned()))?;
        stage.fill(kind);
        stage.check()?;
        Ok(stage)
    }

    /// The names of all keys.
    pub fn keys() -> Vec<String> {
        // Every optional key is given, since a missing one is not written.
        let some = || Some("x".to_owned());
        let all = Self {
            vision_tower: some(),
            version: some(),
            image_folder: Some("x".into()),
            image_aspect_ratio: some(),
            eval_data_path: Some("x".into()),
            eval_steps: Some(1),
            tune_mm_mlp_adapter: Some(false),
            init_adapter: some(),
            pretrain_mm_mlp_adapter: some(),
            mm_projector_lr: Some(0.0),
            max_steps: Some(1),
            ..Self::default()
        };
        match Value::try_from(all) {
            Ok(Value::Table(table)) => table.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    /// What depends on the stage.
    fn fill(&mut self, kind: StageKind) {
        let pretrain = kind == StageKind::Pretrain;
        self.tune_mm_mlp_adapter.get_or_insert(pretrain);
        let aspect = if pretrain { "square" } else { "pad" };
        self.image_aspect_ratio.get_or_insert_with(|| aspect.into());
        if pretrain {
            self.version.get_or_insert_with(|| "plain".into());
        }
    }

    /// What would end in a wrong run, or in none.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, problem: &str| Err((format!(".{key}"), problem.to_owned()));
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..1.0).contains(&value);
        if self.model_name_or_path.is_empty() {
            return wrong("model_name_or_path", "is missing: name the language model");
        }
        if self.data_path.as_os_str().is_empty() {
            return wrong("data_path", "is missing: name the records");
        }
        if self.learns().is_nothing() {
            return wrong("freeze_mm_mlp_adapter", "nothing is left that learns");
        }
        if self.lora_enable && self.tune_mm_mlp_adapter == Some(true) {
            return wrong(
                "lora_enable",
                "contradicts tune_mm_mlp_adapter: set one of them",
            );
        }
        if self.lora_r == 0 || self.lora_r > 1 << 16 {
            return wrong("lora_r", "must be from 1 to 65536");
        }
        if !share(self.lora_dropout) {
            return wrong("lora_dropout", "must be from 0 up to, but not, 1");
        }
        if !positive(self.learning_rate) {
            return wrong("learning_rate", "must be above 0");
        }
        if !self.mm_projector_lr.is_none_or(positive) {
            return wrong("mm_projector_lr", "must be above 0");
        }
        if !positive(self.num_train_epochs) {
            return wrong("num_train_epochs", "must be above 0");
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return wrong("warmup_ratio", "must be from 0 to 1");
        }
        if !share(self.adam_beta1) || !share(self.adam_beta2) {
            return wrong(
                "adam_beta1",
                "and adam_beta2 must be from 0 up to, but not, 1",
            );
        }
        if !positive(self.adam_epsilon) {
            return wrong("adam_epsilon", "must be above 0");
        }
        if !(self.weight_decay >= 0.0 && self.max_grad_norm >= 0.0) {
            return wrong("weight_decay", "and max_grad_norm must not be negative");
        }
        let counts = [
            (
                "per_device_train_batch_size",
                self.per_device_train_batch_size,
            ),
            (
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps,
            ),
            ("model_max_length", self.model_max_length),
            ("save_steps", self.save_steps as usize),
            ("save_total_limit", self.save_total_limit),
            ("max_steps", self.max_steps.unwrap_or(1) as usize),
            ("eval_steps", self.eval_steps.unwrap_or(1) as usize),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((key, _)) => wrong(key, "must be at least 1"),
            None => Ok(()),
        }
    }

    /// What learns.
    pub fn learns(&self) -> Learns {
        let only_projector = self.tune_mm_mlp_adapter == Some(true);
        Learns {
            projector: !self.freeze_mm_mlp_adapter,
            lora: self.lora_enable,
            language: !self.lora_enable && !only_projector,
            tower: self.unfreeze_vision_tower,
        }
    }

    /// The adapters, if there are any.
    pub fn lora(&self) -> LoraConfig {
        LoraConfig {
            rank: self.lora_r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
        }
    }

    /// Records of one step on one device.
    pub fn step_records(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }
}
