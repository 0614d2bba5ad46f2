//! Where the parts of a model are looked for, and what is said when they do not fit.
#![cfg(feature = "flex")]
#![recursion_limit = "256"]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bunny_core::{
    ConfigError, Error,
    checkpoint::{ModelSource, Precision},
    generate::Pipeline,
    nn::{Activation, ParameterSpec, Part},
};
use bunny_weights::{ModelFolder, StoredDtype, TensorFiles, folder::TOKENIZER_FILES};
use burn_flex::Flex;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

/// A copy of a fixture's model, to be changed.
fn copy(name: &str) -> tempfile::TempDir {
    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy_folder(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture(name), folder.path());
    folder
}

fn change(file: PathBuf, change: impl FnOnce(&mut Value)) {
    let mut json = read(&file);
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The tokenizer of a model's folder, and nothing else of it.
fn tokenizer_of(folder: &Path) -> ModelFolder {
    ModelFolder::new().with_files_of(folder, TOKENIZER_FILES)
}

/// All files of a folder and of those within.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found
}

fn load(source: &ModelSource) -> Result<Pipeline<Flex>, Error> {
    Pipeline::load(source, Precision::F32, Default::default())
}

/// A LoRA run's folder and the parts it belongs to.
fn adapter() -> ModelSource {
    let case = fixture("phi-siglip-lora");
    ModelSource {
        model: case.join("bunny-lora"),
        base: Some(case.join("base")),
        vision_tower: Some(case.join("siglip-tower")),
    }
}

#[test]
fn an_adapter_without_a_configuration_has_its_bases() {
    let (alone, base) = (
        copy("phi-siglip-lora/bunny-lora"),
        copy("phi-siglip-lora/base"),
    );
    let config = |folder: &tempfile::TempDir| folder.path().join("config.json");
    // The base is a Bunny's then, whose configuration says what the adapter's said.
    fs::rename(config(&alone), config(&base)).unwrap();
    let source = ModelSource {
        model: alone.path().into(),
        base: Some(base.path().into()),
        ..adapter()
    };
    let (found, expected) = (source.open().unwrap(), adapter().open().unwrap());
    assert_eq!(found.config, expected.config);
    let nothing = ModelSource {
        base: None,
        ..source
    };
    assert!(nothing.open().is_err());
}

#[test]
fn a_base_that_holds_a_tower_wants_no_other() {
    // A whole Bunny, of what the adapter belongs to.
    let whole = tempfile::tempdir().unwrap();
    let open = adapter().open().unwrap();
    open.write_merged(whole.path(), StoredDtype::F32).unwrap();

    let mut source = ModelSource {
        vision_tower: None,
        ..adapter()
    };
    assert_eq!(
        source.wanted_tower().unwrap().as_deref(),
        Some("siglip-tower"),
        "this base is a language model"
    );
    source.base = Some(whole.path().into());
    assert_eq!(source.wanted_tower().unwrap(), None);
    // The tower's sizes are beside the base as well.
    assert_eq!(load(&source).unwrap().model.config().vision.tokens(), 9);
}

#[test]
fn a_part_that_is_missing_is_named_as_the_library_calls_it() {
    let no_base = ModelSource {
        base: None,
        ..adapter()
    };
    let error = no_base.open().unwrap_err();
    assert!(
        matches!(&error, Error::NoBase { holds: "an adapter", folder } if *folder == no_base.model),
        "{error}"
    );
    assert!(error.to_string().contains("ModelSource::base"), "{error}");

    let no_projector_base = ModelSource::merged(fixture("phi-eva-pretrained/bunny-pretrain"));
    let error = ModelSource {
        vision_tower: Some(fixture("phi-eva-pretrained/eva-clip-tower")),
        ..no_projector_base
    }
    .open()
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoBase {
                holds: "a projector",
                ..
            }
        ),
        "{error}"
    );

    let folder = copy("phi-siglip-lora/bunny-lora");
    change(folder.path().join("config.json"), |config| {
        config["mm_vision_tower"] = json!("google/siglip-so400m-patch14-384");
        config["mm_hidden_size"] = json!(1152);
    });
    let no_tower = ModelSource {
        model: folder.path().into(),
        vision_tower: None,
        ..adapter()
    };
    let error = no_tower.open().unwrap_err();
    assert!(
        matches!(&error, Error::NoTower { tower, .. } if tower == "google/siglip-so400m-patch14-384"),
        "{error}"
    );
    let said = error.to_string();
    assert!(
        said.contains("`vision_tower`") && !said.contains("--"),
        "{said}"
    );
}

#[test]
fn pictures_of_another_size_than_the_towers_are_refused() {
    let folder = copy("phi-siglip");
    let file = folder.path().join("siglip-tower/preprocessor_config.json");
    change(file.clone(), |processor| {
        processor["size"] = json!({"height": 224, "width": 224});
    });
    let error = ModelSource::merged(folder.path()).open().unwrap_err();
    assert!(
        matches!(&error, Error::Config(ConfigError::Field { file: at, field, .. })
            if *at == file && field == "size"),
        "{error}"
    );
    let said = error.to_string();
    assert!(said.contains("224") && said.contains("46"), "{said}");
}

#[test]
fn a_head_that_is_stored_beside_its_tied_table_is_left_aside() {
    let folder = copy("phi-siglip");
    change(folder.path().join("config.json"), |config| {
        config["tie_word_embeddings"] = json!(true);
    });
    let pipeline = load(&ModelSource::merged(folder.path())).unwrap();
    assert!(pipeline.model.language_model.lm_head.is_none());
}

/// A model whose tower is not as published ones are, in what its folder says.
fn unusual() -> tempfile::TempDir {
    let folder = copy("phi-siglip");
    let tower = folder.path().join("siglip-tower");
    change(tower.join("config.json"), |config| {
        config["hidden_act"] = json!("gelu");
    });
    change(tower.join("preprocessor_config.json"), |processor| {
        processor["image_mean"] = json!([0.4, 0.5, 0.6]);
    });
    folder
}

#[test]
fn a_saved_or_merged_model_says_what_its_towers_folder_said() {
    for folder in [unusual(), copy("stablelm-eva")] {
        let source = ModelSource::merged(folder.path());
        let [saved, merged] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let pipeline = load(&source).unwrap();
        pipeline
            .model
            .save(
                saved.path(),
                StoredDtype::F32,
                u64::MAX,
                &tokenizer_of(folder.path()),
                &pipeline.image_processor,
            )
            .unwrap();
        let open = source.open().unwrap();
        open.write_merged(merged.path(), StoredDtype::F32).unwrap();
        for copy in [saved, merged] {
            let copy = ModelSource::merged(copy.path()).open().unwrap();
            assert_eq!(copy.config.vision, open.config.vision);
            assert_eq!(copy.image_processor, open.image_processor);
        }
    }
}

#[test]
fn the_tower_of_the_unusual_model_is_unusual() {
    let folder = unusual();
    let open = ModelSource::merged(folder.path()).open().unwrap();
    assert_eq!(open.image_processor.mean, [0.4, 0.5, 0.6]);
    let bunny_core::config::VisionConfig::Siglip(tower) = open.config.vision else {
        panic!("{:?}", open.config.vision)
    };
    assert_eq!(tower.activation, Activation::Gelu);
}

#[test]
fn models_are_written_in_any_float_and_in_nothing_else() {
    let folder = fixture("phi-siglip");
    let open = ModelSource::merged(&folder).open().unwrap();
    let pipeline = load(&ModelSource::merged(&folder)).unwrap();
    for (dtype, name) in [
        (StoredDtype::F64, "float64"),
        (StoredDtype::F32, "float32"),
        (StoredDtype::F16, "float16"),
        (StoredDtype::BF16, "bfloat16"),
    ] {
        let [merged, saved] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        open.write_merged(merged.path(), dtype).unwrap();
        let processor = &pipeline.image_processor;
        pipeline
            .model
            .save(
                saved.path(),
                dtype,
                u64::MAX,
                &tokenizer_of(&folder),
                processor,
            )
            .unwrap();
        for copy in [merged, saved] {
            assert_eq!(
                read(&copy.path().join("config.json"))["torch_dtype"],
                name,
                "{dtype:?}"
            );
            load(&ModelSource::merged(copy.path())).unwrap();
        }
    }
    for dtype in [StoredDtype::I32, StoredDtype::U8, StoredDtype::Bool] {
        let copy = tempfile::tempdir().unwrap();
        let merged = open.write_merged(copy.path(), dtype);
        let processor = &pipeline.image_processor;
        let saved = pipeline
            .model
            .save(copy.path(), dtype, u64::MAX, &open.beside, processor);
        for error in [merged.unwrap_err(), saved.unwrap_err()] {
            assert!(error.to_string().contains(dtype.name()), "{error}");
        }
        assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0, "{dtype:?}");
    }
}

#[test]
fn a_merge_lists_every_file_that_it_wrote_once() {
    let merged = tempfile::tempdir().unwrap();
    let open = adapter().open().unwrap();
    let mut written = open.write_merged(merged.path(), StoredDtype::F16).unwrap();
    let mut found = files(merged.path());
    written.sort();
    found.sort();
    assert_eq!(written, found);
    assert!(written.contains(&merged.path().join("tokenizer.json")));
}

#[test]
fn a_model_that_is_merged_and_one_that_is_saved_are_one_folder() {
    let whole = |name: &str| ModelSource::merged(fixture(name));
    for source in [adapter(), whole("phi-siglip"), whole("stablelm-eva")] {
        let place = source.model.display().to_string();
        let [saved, merged] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let open = source.open().unwrap();
        open.write_merged(merged.path(), StoredDtype::F32).unwrap();
        let model = load(&source).unwrap().model;
        model
            .save(
                saved.path(),
                StoredDtype::F32,
                u64::MAX,
                &open.beside,
                &open.image_processor,
            )
            .unwrap();

        let listed = |folder: &Path| {
            let mut names: Vec<PathBuf> = files(folder)
                .iter()
                .map(|file| file.strip_prefix(folder).unwrap().into())
                .collect();
            names.sort();
            names
        };
        assert_eq!(listed(saved.path()), listed(merged.path()), "{place}");
        for name in listed(saved.path()) {
            let bytes = |folder: &Path| fs::read(folder.join(&name)).unwrap();
            let is_same = bytes(saved.path()) == bytes(merged.path());
            let is_weights = name
                .extension()
                .is_some_and(|ending| ending == "safetensors");
            assert!(is_same || is_weights, "{place}: {}", name.display());
        }
        // Of the weights, a merge keeps what of a tower is never read; all else is the same.
        let saved = TensorFiles::open_folder(saved.path()).unwrap();
        let merged = TensorFiles::open_folder(merged.path()).unwrap();
        let unread = [
            "vision_model.encoder.layers.2.",
            "vision_model.head.",
            "model.blocks.2.",
            "model.norm.",
            "model.head.",
        ];
        for name in merged.names() {
            let tower = name.strip_prefix("model.vision_tower.vision_tower.");
            let is_unread = unread
                .iter()
                .any(|start| tower.is_some_and(|tower| tower.starts_with(start)));
            assert_ne!(saved.contains(name), is_unread, "{place}: {name}");
        }
        for name in saved.names() {
            let (one, other) = (saved.get(name).unwrap(), merged.get(name).unwrap());
            assert_eq!(one.shape, other.shape, "{place}: {name}");
            assert_eq!(one.bytes, other.bytes, "{place}: {name}");
        }
    }
}

#[test]
fn what_a_configuration_says_beside_and_in_other_words_is_kept() {
    let folder = copy("phi-siglip");
    change(folder.path().join("config.json"), |config| {
        config["hidden_act"] = json!("gelu_pytorch_tanh");
        config["bos_token_id"] = json!(7);
        config["mm_projector_lr"] = json!(2e-5);
        config
            .as_object_mut()
            .unwrap()
            .remove("tokenizer_model_max_length");
    });
    let before = read(&folder.path().join("config.json"));
    let merged = tempfile::tempdir().unwrap();
    let open = ModelSource::merged(folder.path()).open().unwrap();
    open.write_merged(merged.path(), StoredDtype::BF16).unwrap();
    let after = read(&merged.path().join("config.json"));
    for (field, value) in before.as_object().unwrap() {
        let expected = match field.as_str() {
            "torch_dtype" => json!("bfloat16"),
            _ => value.clone(),
        };
        assert_eq!(after[field], expected, "{field}");
    }
    // As transformers would take it to be.
    assert_eq!(after["tokenizer_model_max_length"], 512);
}

#[test]
fn a_switch_that_nobody_has_thought_of_is_refused() {
    for (field, value, is_refused) in [
        ("use_alibi", json!(true), true),
        ("quantization_config", json!({"bits": 4}), true),
        ("use_alibi", json!(false), false),
        ("initializer_range", json!(0.01), false),
        ("auto_map", json!({"AutoConfig": "a.B"}), false),
        ("transformers_version", json!("4.40.0"), false),
    ] {
        let folder = copy("phi-siglip");
        change(folder.path().join("config.json"), |config| {
            config[field] = value.clone();
        });
        let read = ModelSource::merged(folder.path()).configuration();
        match read {
            Err(error) => {
                let said = error.to_string();
                assert!(is_refused && said.contains(&format!("`{field}`")), "{said}");
            }
            Ok(_) => assert!(!is_refused, "{field}: {value}"),
        }
    }
}

#[test]
fn every_tensor_of_a_file_is_described_or_known_to_be_unread() {
    for name in [
        "phi-siglip",
        "phi2-siglip-trimmed",
        "stablelm-eva",
        "stablelm-siglip",
    ] {
        let open = ModelSource::merged(fixture(name)).open().unwrap();
        let files = TensorFiles::open_folder(fixture(name)).unwrap();
        let specs = open.config.describe();
        for spec in &specs {
            if let Some(shape) = files.shape(&spec.published) {
                assert_eq!(shape[1..], spec.shape[1..], "{name}: {}", spec.published);
            }
        }
        let described = |tensor: &str| specs.iter().any(|spec| spec.published == tensor);
        for tensor in files.names() {
            let is_tower = tensor.starts_with("model.vision_tower.");
            assert!(described(tensor) || is_tower, "{name}: {tensor}");
        }
        let language_model = specs.iter().filter(|spec| spec.part == Part::LanguageModel);
        let counted: u64 = language_model.map(ParameterSpec::count).sum();
        assert_eq!(counted, open.config.parameters().language_model, "{name}");
        // As many numbers as the file has, but for rows of tables beyond the tokenizer's.
        let stored: u64 = specs
            .iter()
            .filter_map(|spec| {
                let shape = files.shape(&spec.published)?;
                let rows = shape[0].min(spec.shape[0]);
                Some((rows * shape[1..].iter().product::<usize>()) as u64)
            })
            .sum();
        let held = specs.iter().filter(|spec| files.contains(&spec.published));
        assert_eq!(
            stored,
            held.map(ParameterSpec::count).sum::<u64>(),
            "{name}"
        );
    }
}
