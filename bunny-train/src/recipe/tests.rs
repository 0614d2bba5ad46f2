//! Recipes as people write them, and what is said of those that cannot be followed.

use bunny_core::{
    config::{VisionConfig, presets::PRESETS},
    input::{conversation::Template, image::Aspect},
};

use super::*;
use crate::trainable::{Rates, TrainableParts};

const BOTH: &str = r#"
format_version = 1
model_name_or_path = "base"
vision_tower = "tower"
seed = 3

[pretrain]
data_path = "captions.json"
learning_rate = 5e-4

[finetune]
data_path = "talks.json"
lora_enable = true
lora_alpha = 256
mm_projector_lr = 2e-5
lr_scheduler_type = "cosine"
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
    let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
    Recipe::parse("small.toml", text, &overrides)
}

fn stage(recipe: &Recipe, kind: StageKind) -> &BunnyRecipe {
    let found = recipe.stages.iter().find(|(found, _)| *found == kind);
    match &found.unwrap().1 {
        StageRecipe::Bunny(stage) => stage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_above_the_stages_are_for_both_and_stages_fill_in_their_own() {
    let recipe = parse(BOTH, &[]).unwrap();
    assert_eq!(recipe.name, "small");
    let pretrain = stage(&recipe, StageKind::Pretrain);
    assert_eq!(pretrain.model_name_or_path, "base");
    assert_eq!(pretrain.training.seed, 3);
    assert_eq!(pretrain.trainable_parts(), TrainableParts::PRETRAIN);
    assert_eq!(pretrain.version, Some(Template::Plain));
    assert_eq!(pretrain.image_aspect_ratio, Some(Aspect::Square));
    let finetune = stage(&recipe, StageKind::Finetune);
    assert_eq!(finetune.trainable_parts(), TrainableParts::LORA);
    assert_eq!(finetune.version, None);
    assert_eq!(finetune.image_aspect_ratio, Some(Aspect::Pad));
    assert_eq!(finetune.lora_alpha, 256.0);
    assert_eq!(finetune.training.lr_scheduler_type, SchedulerKind::Cosine);
}

#[test]
fn a_tower_learns_at_its_own_rate_or_the_projectors_or_the_only_one() {
    let rates = |more: &[&str]| {
        let mut overrides = vec![
            "finetune.unfreeze_vision_tower=true",
            "finetune.learning_rate=1e-4",
        ];
        overrides.extend(more);
        stage(&parse(BOTH, &overrides).unwrap(), StageKind::Finetune).rates()
    };
    let given = rates(&["finetune.mm_vision_tower_lr=3e-6"]);
    assert_eq!(
        [given.language, given.projector, given.tower],
        [1e-4, 2e-5, 3e-6]
    );
    assert_eq!(rates(&[]).tower, 2e-5);
    let pretrain = parse(BOTH, &["pretrain.unfreeze_vision_tower=true"]).unwrap();
    assert_eq!(
        stage(&pretrain, StageKind::Pretrain).rates(),
        Rates::uniform(5e-4)
    );
    let frozen = parse(BOTH, &["finetune.mm_vision_tower_lr=3e-6"]).unwrap_err();
    assert!(
        frozen.to_string().contains("unfreeze_vision_tower"),
        "{frozen}"
    );
}

#[test]
fn overrides_replace_values_of_one_stage_or_of_both() {
    let recipe = parse(
        BOTH,
        &[
            "finetune.learning_rate=1e-4",
            "seed = 9",
            "finetune.vision_tower=other/tower",
        ],
    )
    .unwrap();
    let finetune = stage(&recipe, StageKind::Finetune);
    assert_eq!(finetune.training.learning_rate, 1e-4);
    assert_eq!(finetune.vision_tower.as_deref(), Some("other/tower"));
    let pretrain = stage(&recipe, StageKind::Pretrain);
    assert_eq!(
        (pretrain.training.learning_rate, pretrain.training.seed),
        (5e-4, 9)
    );
    assert_eq!(pretrain.vision_tower.as_deref(), Some("tower"));
    for wrong in ["learning_rate", "finetune.=1"] {
        assert!(wrong.parse::<Override>().is_err(), "{wrong}");
    }
    let stage = "finetun.seed=1".parse::<Override>().unwrap_err();
    assert_eq!(
        stage.to_string(),
        "there is no stage `finetun`; stages are language, contrastive, pretrain, finetune"
    );
}

#[test]
fn what_cannot_be_followed_is_named_with_its_place() {
    let fault = |text: &str, overrides: &[&str]| parse(text, overrides).unwrap_err().to_string();
    assert_eq!(
        fault(BOTH, &["finetune.learningrate=1"]),
        "small.toml: finetune.learningrate: there is no such key; the nearest known one is \
         `learning_rate`"
    );
    let place = |overrides: &[&str]| {
        let fault = fault(BOTH, overrides);
        fault.split(": ").nth(1).unwrap().to_owned()
    };
    assert_eq!(place(&["finetune.lora_r=eight"]), "finetune.lora_r");
    assert_eq!(
        place(&["pretrain.lr_scheduler_type=cosinus"]),
        "pretrain.lr_scheduler_type"
    );
    assert_eq!(
        place(&["finetune.loss_average=mean"]),
        "finetune.loss_average"
    );
    assert_eq!(place(&["finetune.warmup_ratio=3"]), "finetune.warmup_ratio");
    assert_eq!(
        place(&["pretrain.lora_enable=true"]),
        "pretrain.lora_enable"
    );
    assert_eq!(place(&["finetune.version=vicuna"]), "finetune.version");
    assert_eq!(
        place(&["finetune.image_aspect_ratio=padded"]),
        "finetune.image_aspect_ratio"
    );
    assert_eq!(
        place(&["pretrain.init_adapter=adapter"]),
        "pretrain.init_adapter"
    );
    assert_eq!(
        place(&["pretrain.freeze_mm_mlp_adapter=true"]),
        "pretrain.freeze_mm_mlp_adapter"
    );
    assert!(fault(&BOTH.replace("= 1\n", "= 2\n"), &[]).contains("reads up to 1"));
    assert!(fault("format_version = 1\n[pretrain\n", &[]).starts_with("small.toml: line 2: "));
    assert!(fault("format_version = 1", &[]).contains("has none of"));
    assert_eq!(
        fault("format_version = 1\n[sft]\nseed = 1\n", &[]),
        "small.toml: recipe: there is no stage `sft`; stages are language, contrastive, pretrain, \
         finetune"
    );
    // Before the keys that are that stage's, and that no stage of the recipe knows.
    assert!(
        fault(
            "format_version = 1\nlora_enable = true\n[sft]\nseed = 1\n",
            &[]
        )
        .contains("there is no stage `sft`")
    );
    assert!(fault("format_version = 1\nseed = 1\n", &[]).contains("has none of"));
    let alone = "format_version = 1\nmodel_name_or_path = \"a\"\n[finetune]\ndata_path = \"b\"\n";
    assert_eq!(
        fault(alone, &["pretrain.learning_rate=1"]),
        "small.toml: pretrain.learning_rate: this recipe has no stage pretrain for it; it has finetune"
    );
    // Nothing is near, and nothing is proposed.
    assert!(fault(alone, &["quantization_bit=4"]).ends_with("`bunny-cli train keys` lists them"));
    for (change, key) in [
        ("finetune.lora_alpha=nan", "finetune.lora_alpha"),
        ("finetune.learning_rate=1e30", "finetune.learning_rate"),
        ("finetune.weight_decay=inf", "finetune.weight_decay"),
        ("finetune.mm_projector_lr=nan", "finetune.mm_projector_lr"),
        (
            "finetune.load_best_model_at_end=true",
            "finetune.load_best_model_at_end",
        ),
        (
            "finetune.early_stopping_patience=2",
            "finetune.early_stopping_patience",
        ),
    ] {
        assert_eq!(place(&[change]), key);
    }
}

#[test]
fn every_key_has_a_place_in_the_list_of_known_ones() {
    // The list is made by writing a stage; what is optional must not be missing from it.
    let keys = BunnyRecipe::keys();
    for key in [
        "vision_tower",
        "max_steps",
        "init_adapter",
        "save_total_limit",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key}");
    }
    assert_eq!(keys.len(), 49);
}

const FROM_NOTHING: &str = r#"
format_version = 1
name = "small"
image_folder = "pictures"
seed = 5

[language]
data_path = "texts.jsonl"
vocab_size = 300
[language.model]
hidden_size = 32
num_attention_heads = 2

[contrastive]
data_path = "captions.json"

[pretrain]
data_path = "captions.json"

[finetune]
data_path = "talks.json"
vision_tower = "my/tower"
"#;

#[test]
fn stages_start_from_what_earlier_ones_make_unless_they_say_otherwise() {
    let recipe = parse(FROM_NOTHING, &[]).unwrap();
    assert_eq!(recipe.folder(), Path::new("runs/small"));
    let recipe = recipe.with_results_in(Path::new("out"));
    let kinds: Vec<_> = recipe.stages.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, StageKind::ALL);
    let StageRecipe::Contrastive(contrastive) = &recipe.stages[1].1 else {
        panic!("the tower comes second");
    };
    assert_eq!(
        contrastive.tokenizer.as_deref(),
        Some(Path::new("out/language"))
    );
    let pretrain = stage(&recipe, StageKind::Pretrain);
    assert_eq!(pretrain.model_name_or_path, "out/language");
    assert_eq!(pretrain.vision_tower.as_deref(), Some("out/contrastive"));
    let finetune = stage(&recipe, StageKind::Finetune);
    assert_eq!(finetune.vision_tower.as_deref(), Some("my/tower"));
    assert_eq!(finetune.model_name_or_path, "out/language");
    let projector = finetune.pretrain_mm_mlp_adapter.as_deref();
    assert_eq!(projector, Some("out/pretrain"));
}

#[test]
fn a_pretraining_that_leaves_a_whole_model_is_what_the_next_stage_starts_from() {
    let recipe = parse(FROM_NOTHING, &["pretrain.unfreeze_vision_tower=true"]).unwrap();
    let recipe = recipe.with_results_in(Path::new("out"));
    let finetune = stage(&recipe, StageKind::Finetune);
    assert_eq!(finetune.model_name_or_path, "out/pretrain");
    assert_eq!(finetune.pretrain_mm_mlp_adapter, None);
    let adapters = [
        "pretrain.tune_mm_mlp_adapter=false",
        "pretrain.lora_enable=true",
    ];
    let fault = parse(FROM_NOTHING, &adapters).unwrap_err().to_string();
    assert!(fault.contains("pretrain.lora_enable: leaves"), "{fault}");
}

#[test]
fn records_go_by_length_only_where_they_may_be_reordered() {
    let changes = ["group_by_modality_length=true", "shuffle=false"];
    let fault = parse(FROM_NOTHING, &changes).unwrap_err().to_string();
    assert!(fault.contains("leave shuffle = true"), "{fault}");
}

#[test]
fn keys_above_the_stages_go_to_those_that_know_them_and_tables_can_be_overridden() {
    let changes = ["language.model.hidden_size=64", "vocab_size=400", "seed=6"];
    let recipe = parse(FROM_NOTHING, &changes).unwrap();
    let StageRecipe::Language(language) = &recipe.stages[0].1 else {
        panic!("the language model comes first");
    };
    assert_eq!(language.model.hidden_size, 64);
    assert_eq!(language.model.num_attention_heads, 2);
    assert_eq!((language.vocab_size, language.training.seed), (400, 6));
    let pretrain = stage(&recipe, StageKind::Pretrain);
    assert_eq!(
        pretrain.image_folder.as_deref(),
        Some(Path::new("pictures"))
    );
}

#[test]
fn sizes_that_do_not_fit_and_sources_that_nobody_makes_are_named() {
    let fault = |changes: &[&str]| parse(FROM_NOTHING, changes).unwrap_err().to_string();
    for (change, said) in [
        (
            "language.model.num_attention_heads=3",
            "language.model: `num_attention_heads`",
        ),
        (
            "language.model.hiden_size=8",
            "language.model: unknown field `hiden_size`",
        ),
        (
            "language.vocab_size=200",
            "language.vocab_size: must be above 257",
        ),
        ("language.lora_r=8", "language.lora_r: there is no such key"),
        ("lora_rank=8", "lora_rank: there is no such key"),
        (
            "contrastive.vision.patch_size=500",
            "contrastive.vision: `patch_size`",
        ),
        (
            "contrastive.text.num_attention_heads=7",
            "contrastive.text.num_attention_heads",
        ),
        (
            "contrastive.image_aspect_ratio=wide",
            "contrastive.image_aspect_ratio",
        ),
        (
            "contrastive.per_device_train_batch_size=1",
            "must be at least 2",
        ),
    ] {
        let fault = fault(&[change]);
        assert!(fault.contains(said), "{change}: {fault}");
    }
    let without = BOTH.replace("model_name_or_path = \"base\"", "");
    let fault = parse(&without, &[]).unwrap_err().to_string();
    assert!(
        fault.contains("pretrain.model_name_or_path: is missing"),
        "{fault}"
    );
}

#[test]
fn published_recipes_can_be_followed() {
    Recipe::built_in(&[]).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            Recipe::read(&path, &[]).unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 19);
}

#[test]
fn every_published_model_has_a_recipe_of_its_parts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    for preset in PRESETS {
        let config = preset.config();
        let mut stages = Vec::new();
        for way in ["", "-unfrozen"] {
            let file = folder.join(format!("{}{way}.toml", preset.name));
            if way.is_empty() || file.exists() {
                stages.extend(Recipe::read(&file, &[]).unwrap().stages);
            }
        }
        let mut unfrozen = false;
        for (_, stage) in stages {
            let StageRecipe::Bunny(stage) = stage else {
                panic!("{} makes its parts", preset.name)
            };
            assert_eq!(stage.model_name_or_path, preset.language_model);
            assert_eq!(stage.vision_tower.as_deref(), Some(preset.vision_tower));
            let is_s2 = matches!(config.vision, VisionConfig::Multiscale(_));
            assert_eq!(stage.use_s2.unwrap_or(false), is_s2, "{}", preset.name);
            if stage.lora_enable {
                let length = config.tokenizer_model_max_length;
                assert_eq!(stage.model_max_length, length, "{}", preset.name);
            }
            unfrozen |= stage.unfreeze_vision_tower;
        }
        assert_eq!(unfrozen, config.unfreeze_vision_tower, "{}", preset.name);
    }
}
