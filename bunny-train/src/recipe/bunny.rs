//! The keys of the stages `pretrain` and `finetune`.

use std::path::PathBuf;

use bunny_core::input::{conversation::Template, image::Aspect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    PicturePolicy, StageKind, TrainingArguments,
    keys::{Fault, Keys},
    training::{RATE, is_rate},
};
use crate::trainable::{LoraConfig, Rates, TrainableParts};

/// What a step's loss is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossAverage {
    /// All answer tokens of the step.
    #[default]
    Step,
    /// The means of its micro-batches, as in the reference; short answers then count for more.
    MicroBatch,
}

/// The keys of a Bunny's own stages, with the reference's names and defaults unless said
/// otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BunnyRecipe {
    /// The language model, or a whole Bunny to go on from: a folder or a hub id; by default what
    /// stage `language` has made.
    pub model_name_or_path: String,
    /// The vision tower: a folder, a file of weights or a hub id; not needed where the model holds
    /// one; by default what stage `contrastive` has made.
    pub vision_tower: Option<String>,
    /// The conversation template (`bunny`, `phi3`, `minicpm`, `llama`, `plain`); `plain` in
    /// pre-training, else the language model's own.
    #[serde(with = "super::named")]
    #[schemars(schema_with = "super::named::templates")]
    pub version: Option<Template>,
    /// The folder or archive that records' `image` paths lie in.
    pub image_folder: Option<PathBuf>,
    /// `pad` or `square`; `square` in pre-training, else `pad`.
    #[serde(with = "super::named")]
    #[schemars(schema_with = "super::named::aspects")]
    pub image_aspect_ratio: Option<Aspect>,
    /// A record whose picture is missing: `error` stops, `skip` leaves it out and counts it. Ours.
    pub missing_pictures: PicturePolicy,

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
    /// Adapters are scaled by `lora_alpha` over the root of `lora_r`, as rank-stabilised LoRA does.
    pub use_rslora: bool,
    /// A folder with an adapter to start from, and with it what learnt beside the adapter: its
    /// projector holds, and its tower. Ours.
    pub init_adapter: Option<String>,
    /// The tower, a SigLIP, is shown each picture in several sizes (S²); as the model that is gone on
    /// from was, unless given.
    pub use_s2: Option<bool>,
    /// The sizes, sides in pixels: `384,768,1152` unless given. Ours.
    pub s2_scales: Option<String>,
    /// The projector's kind: that of the model that is gone on from, else `mlp2x_gelu`, unless
    /// given.
    pub mm_projector_type: Option<String>,
    /// A projector to start from: a folder or a file; by default what the stage before has made.
    pub pretrain_mm_mlp_adapter: Option<String>,

    /// The projector's learning rate; `learning_rate` unless given.
    pub mm_projector_lr: Option<f64>,
    /// An unfrozen tower's learning rate, as in LLaVA-NeXT; the projector's unless given, which is
    /// what the reference does.
    pub mm_vision_tower_lr: Option<f64>,

    /// Positions of a row, pictures expanded; longer ones are cut.
    pub model_max_length: usize,
    /// Keep less in memory, and compute layers twice.
    pub gradient_checkpointing: bool,
    /// Put records of one modality and similar length into a batch.
    pub group_by_modality_length: bool,
    /// What a step's loss is the mean of. Ours.
    pub loss_average: LossAverage,

    /// Data, rates and steps.
    #[serde(flatten)]
    pub training: TrainingArguments,
}

impl Default for BunnyRecipe {
    fn default() -> Self {
        Self {
            model_name_or_path: String::new(),
            vision_tower: None,
            version: None,
            image_folder: None,
            image_aspect_ratio: None,
            missing_pictures: PicturePolicy::Error,
            tune_mm_mlp_adapter: None,
            freeze_mm_mlp_adapter: false,
            unfreeze_vision_tower: false,
            lora_enable: false,
            lora_r: 128,
            lora_alpha: 256.0,
            lora_dropout: 0.05,
            use_rslora: false,
            init_adapter: None,
            use_s2: None,
            s2_scales: None,
            mm_projector_type: None,
            pretrain_mm_mlp_adapter: None,
            mm_projector_lr: None,
            mm_vision_tower_lr: None,
            model_max_length: 2048,
            gradient_checkpointing: true,
            group_by_modality_length: false,
            loss_average: LossAverage::Step,
            training: TrainingArguments::default(),
        }
    }
}

impl Keys for BunnyRecipe {
    fn full() -> Self {
        let some = || Some("x".to_owned());
        Self {
            vision_tower: some(),
            version: Some(Template::Plain),
            image_folder: Some("x".into()),
            image_aspect_ratio: Some(Aspect::Square),
            tune_mm_mlp_adapter: Some(false),
            init_adapter: some(),
            use_s2: Some(true),
            s2_scales: some(),
            mm_projector_type: some(),
            pretrain_mm_mlp_adapter: some(),
            mm_projector_lr: Some(0.0),
            mm_vision_tower_lr: Some(0.0),
            training: TrainingArguments::full(),
            ..Self::default()
        }
    }
}

impl BunnyRecipe {
    /// What depends on the stage.
    pub(super) fn fill(&mut self, kind: StageKind) {
        let pretrain = kind == StageKind::Pretrain;
        self.tune_mm_mlp_adapter.get_or_insert(pretrain);
        let aspect = if pretrain {
            Aspect::Square
        } else {
            Aspect::Pad
        };
        self.image_aspect_ratio.get_or_insert(aspect);
        if pretrain {
            self.version.get_or_insert(Template::Plain);
        }
    }

    /// What would end in a wrong run, or in none.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.training.check()?;
        let wrong = |key: &str, problem: &str| Err((format!(".{key}"), problem.to_owned()));
        let share = |value: f64| (0.0..1.0).contains(&value);
        if self.trainable_parts().is_nothing() {
            return wrong("freeze_mm_mlp_adapter", "nothing is left that learns");
        }
        if self.lora_enable && self.tune_mm_mlp_adapter == Some(true) {
            return wrong(
                "lora_enable",
                "contradicts tune_mm_mlp_adapter: set one of them",
            );
        }
        if self.init_adapter.is_some() && !self.lora_enable {
            return wrong("init_adapter", "is of no use without lora_enable = true");
        }
        if self.lora_r == 0 || self.lora_r > 1 << 16 {
            return wrong("lora_r", "must be from 1 to 65536");
        }
        if !share(self.lora_dropout) {
            return wrong("lora_dropout", "must be from 0 up to, but not, 1");
        }
        if !self.lora_alpha.is_finite() {
            return wrong("lora_alpha", "must be a finite number");
        }
        if !self.mm_projector_lr.is_none_or(is_rate) {
            return wrong("mm_projector_lr", RATE);
        }
        if !self.mm_vision_tower_lr.is_none_or(is_rate) {
            return wrong("mm_vision_tower_lr", RATE);
        }
        if self.mm_vision_tower_lr.is_some() && !self.unfreeze_vision_tower {
            return wrong(
                "mm_vision_tower_lr",
                "is of no use without unfreeze_vision_tower = true",
            );
        }
        if self.s2_scales.is_some() && self.use_s2 == Some(false) {
            return wrong("s2_scales", "is of no use with use_s2 = false");
        }
        if self.model_max_length == 0 {
            return wrong("model_max_length", "must be at least 1");
        }
        if self.group_by_modality_length && !self.training.shuffle {
            return wrong(
                "group_by_modality_length",
                "puts records in an order of its own: leave shuffle = true",
            );
        }
        Ok(())
    }

    /// What learns.
    pub fn trainable_parts(&self) -> TrainableParts {
        let only_projector = self.tune_mm_mlp_adapter == Some(true);
        TrainableParts {
            projector: !self.freeze_mm_mlp_adapter,
            lora: self.lora_enable,
            language: !self.lora_enable && !only_projector,
            tower: self.unfreeze_vision_tower,
        }
    }

    /// How pictures are made square.
    pub(crate) fn aspect(&self) -> Aspect {
        self.image_aspect_ratio.unwrap_or(Aspect::Square)
    }

    /// The highest rate of each part.
    pub fn rates(&self) -> Rates {
        let language = self.training.learning_rate;
        let projector = self.mm_projector_lr.unwrap_or(language);
        Rates {
            language,
            projector,
            tower: self.mm_vision_tower_lr.unwrap_or(projector),
        }
    }

    /// The adapters, if there are any.
    pub fn lora(&self) -> LoraConfig {
        LoraConfig {
            rank: self.lora_r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
            use_rslora: self.use_rslora,
        }
    }
}
