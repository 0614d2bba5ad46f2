//! The keys that every stage has: data, rates, steps, checkpoints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every stage is told, under the names of transformers' `TrainingArguments` and with the
/// reference's defaults unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrainingArguments {
    /// The records.
    pub data_path: PathBuf,
    /// Records whose loss is reported, never learnt from. Ours.
    pub eval_data_path: Option<PathBuf>,
    /// Report it every so many steps; at the end in any case.
    pub eval_steps: Option<u64>,
    /// Leave the weights of the evaluation with the lowest loss, not of the last step, and keep their
    /// checkpoint. Needs `eval_data_path` and `eval_steps`.
    pub load_best_model_at_end: bool,
    /// End the run when so many evaluations in a row were no better than the best one. Needs
    /// `eval_data_path` and `eval_steps`.
    pub early_stopping_patience: Option<u64>,

    /// What turns gradients into steps: `adamw`, or `muon` for the matrices of layers and projector.
    pub optim: Optim,
    /// Learning rate.
    pub learning_rate: f64,
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
    /// Shuffle records anew in every epoch. Ours.
    pub shuffle: bool,
    /// Seed of order, dropouts and new weights.
    pub seed: u64,
    /// Threads that prepare batches ahead of the step.
    pub dataloader_num_workers: usize,

    /// Keep a checkpoint every so many steps.
    pub save_steps: u64,
    /// Keep the last so many checkpoints.
    pub save_total_limit: usize,
    /// Who is told of every step beside `metrics.jsonl`: `["tensorboard"]` or nobody.
    pub report_to: Vec<Reporter>,
}

/// Who is told of every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reporter {
    /// TensorBoard, by an event file in the stage's folder.
    Tensorboard,
}

/// What turns gradients into steps; transformers' `optim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Optim {
    /// AdamW for all that learns.
    #[default]
    #[serde(alias = "adamw_torch")]
    Adamw,
    /// Muon for the matrices of layers and projector, AdamW for all else.
    Muon,
}

/// How the learning rate goes on after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchedulerKind {
    /// Half a cosine down to zero.
    #[default]
    Cosine,
    /// A line down to zero.
    Linear,
    /// As it is, after the warm-up.
    ConstantWithWarmup,
    /// As it is, from the first step on.
    Constant,
}

/// What becomes of a record whose picture is missing or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PicturePolicy {
    /// The run stops, naming it.
    #[default]
    Error,
    /// The record is left out, and counted.
    Skip,
}

impl Default for TrainingArguments {
    fn default() -> Self {
        Self {
            data_path: PathBuf::new(),
            eval_data_path: None,
            eval_steps: None,
            load_best_model_at_end: false,
            early_stopping_patience: None,
            optim: Optim::Adamw,
            learning_rate: 2e-4,
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
            shuffle: true,
            seed: 42,
            dataloader_num_workers: 4,
            save_steps: 500,
            save_total_limit: 1,
            report_to: Vec::new(),
        }
    }
}

/// More threads that make batches only wait for each other.
const MOST_WORKERS: usize = 1024;
/// So many of these times so many of those can still be counted.
const MOST_RECORDS: usize = i32::MAX as usize;
/// Whether weights survive steps at this learning rate: a slip of the hand does not get so far.
pub(super) fn is_rate(value: f64) -> bool {
    value > 0.0 && value <= 100.0
}

/// What is said of others.
pub(super) const RATE: &str = "must be above 0, and at most 100";

impl TrainingArguments {
    /// Records of one step on one device.
    pub fn step_records(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// With every optional key given, for the list of known ones.
    pub(super) fn full() -> Self {
        Self {
            eval_data_path: Some("x".into()),
            eval_steps: Some(1),
            early_stopping_patience: Some(1),
            max_steps: Some(1),
            ..Self::default()
        }
    }

    /// What would end in a wrong run, or in none.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, problem: &str| Err((format!(".{key}"), problem.to_owned()));
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..1.0).contains(&value);
        if self.data_path.as_os_str().is_empty() {
            return wrong("data_path", "is missing: name the records");
        }
        if !is_rate(self.learning_rate) {
            return wrong("learning_rate", RATE);
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
        for (key, value) in [
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(key, "must be a number, 0 or more");
            }
        }
        let evaluates = self.eval_data_path.is_some() && self.eval_steps.is_some();
        for (key, is_given) in [
            ("load_best_model_at_end", self.load_best_model_at_end),
            (
                "early_stopping_patience",
                self.early_stopping_patience.is_some(),
            ),
        ] {
            if is_given && !evaluates {
                return wrong(key, "needs eval_data_path and eval_steps");
            }
        }
        if self.dataloader_num_workers > MOST_WORKERS {
            return wrong("dataloader_num_workers", "must be at most 1024");
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
            ("save_steps", self.save_steps as usize),
            ("save_total_limit", self.save_total_limit),
            ("max_steps", self.max_steps.unwrap_or(1) as usize),
            ("eval_steps", self.eval_steps.unwrap_or(1) as usize),
            (
                "early_stopping_patience",
                self.early_stopping_patience.unwrap_or(1) as usize,
            ),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(key, "must be at least 1");
        }
        // The first two are multiplied.
        match counts[..2].iter().find(|(_, count)| *count > MOST_RECORDS) {
            Some((key, _)) => wrong(key, "must be at most 2147483647"),
            None => Ok(()),
        }
    }
}
