//! Models whose language model is in integers: written, opened again, and beside adapters.
#![recursion_limit = "256"]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bunny_core::{
    checkpoint::{MeanSquares, ModelSource, Precision, Quantized},
    generate::{Foretold, Pipeline, Prompt, foretell},
    input::tokenizer::Token,
    nn::{Activations, Packing, WeightFormat},
};
use bunny_weights::{StoredDtype, TensorFiles};
use burn_flex::Flex;
use serde_json::Value;

/// f32, and nothing rounded that is multiplied with integers.
const EXACT: Precision = Precision {
    activations: Activations::F32,
    ..Precision::F32
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

fn json(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn quantise(source: &ModelSource, packing: &str, out: &Path) -> Quantized {
    let packing: Packing = packing.parse().unwrap();
    let open = source.open().unwrap();
    let none = MeanSquares::new();
    open.write_quantized(out, packing, &none, StoredDtype::F32, |_| {})
        .unwrap()
}

/// What a model holds likely behind a few words.
fn said(source: &ModelSource, precision: Precision) -> Foretold {
    let pipeline = Pipeline::<Flex>::load(source, precision, Default::default()).unwrap();
    let tokens = (20..60).map(Token::Text).collect();
    let text = Prompt {
        tokens,
        pictures: Vec::new(),
    };
    foretell(&pipeline.model, text, &pipeline.device).unwrap()
}

fn format_of(folder: &Path) -> WeightFormat {
    let source = ModelSource::merged(folder);
    let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default()).unwrap();
    pipeline.model.language_model_format()
}

#[test]
fn what_is_written_in_integers_is_what_is_opened() {
    for (name, packing, layers, expected) in [
        // Rows of 48 and 112 are no multiple of 32: they have one scale each.
        ("phi-siglip", "int4", 3 * 6 + 1, "int8:48"),
        ("stablelm-siglip", "int4", 2 * 7 + 1, "int4:32"),
        ("stablelm-siglip", "int8", 2 * 7 + 1, "int8:32"),
        ("stablelm-siglip", "int4:64", 2 * 7 + 1, "int4:64"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (packed, floats) = (folder.path().join("packed"), folder.path().join("floats"));
        let source = ModelSource::merged(fixture(name));
        let written = quantise(&source, packing, &packed);
        assert_eq!(written.layers.len(), layers, "{name}");
        match format_of(&packed) {
            WeightFormat::Packed(packing) => assert_eq!(packing.to_string(), expected, "{name}"),
            other => panic!("{name} is in {other}"),
        }
        // The same numbers as floats, through the other way of reading them.
        let again = ModelSource::merged(&packed);
        let open = again.open().unwrap();
        open.write_merged(&floats, StoredDtype::F32).unwrap();
        assert!(
            json(floats.join("config.json"))
                .get("quantization_config")
                .is_none()
        );
        assert_eq!(format_of(&floats), WeightFormat::F32);
        let same = said(&again, EXACT).compare(&said(&ModelSource::merged(&floats), EXACT));
        assert_eq!(same.places, 39);
        assert!(same.mean_divergence < 1e-9, "{name}: {same:?}");
        assert_eq!(same.same_likeliest, 1.0, "{name}");
        // And they are as near what they were as plain rounding leaves them: the search looks at each layer
        // alone, so that all of them together may lie a little farther off.
        let original = said(&source, EXACT).compare(&said(&again, EXACT));
        let rounding = EXACT.packed(Some(packing.parse().unwrap()));
        let rounded = said(&source, EXACT).compare(&said(&source, rounding));
        assert!(
            original.mean_divergence < 2.0 * rounded.mean_divergence,
            "{name}, {packing}: {original:?}, {rounded:?}"
        );
        assert!(original.mean_divergence > 0.0, "{name}: {original:?}");
        // Rounded to what it is in, nothing changes; to eight bits it does.
        let own = expected
            .parse()
            .ok()
            .filter(|own: &Packing| own.group != 48);
        let repacked = said(&again, EXACT.packed(own));
        let kept = said(&again, EXACT).compare(&repacked);
        // Of the token table, which is in floats in the file, a row of eight bits.
        let room = 2.0 * rounded.mean_divergence;
        assert!(kept.mean_divergence < room, "{name}: {kept:?}");
    }
}

#[test]
fn a_report_says_what_each_layer_lost() {
    let folder = tempfile::tempdir().unwrap();
    let source = ModelSource::merged(fixture("stablelm-siglip"));
    let written = quantise(&source, "int4", &folder.path().join("packed"));
    let floats = TensorFiles::open_folder(fixture("stablelm-siglip")).unwrap();
    for layer in &written.layers {
        let shape = floats.shape(&format!("{}.weight", layer.layer)).unwrap();
        // Normal numbers in groups of 32: 8.1 % in four bits, 0.5 in eight, and 0.7 in rows of 72.
        let usual = match layer.packing.to_string().as_str() {
            "int4:32" => 0.06..0.09,
            "int8:32" | "int8:72" => 0.003..0.01,
            other => panic!("{} is in {other}", layer.layer),
        };
        assert!(usual.contains(&layer.of_weights), "{layer:?}");
        // Without a calibration, all inputs are alike.
        assert_eq!(layer.of_weights, layer.of_outputs);
        let bits = if layer.packing.to_string().starts_with("int4") {
            4
        } else {
            8
        };
        let groups = shape[1].div_ceil(layer.packing.group);
        let bytes = shape[0] * (shape[1] * bits / 8 + 2 * groups);
        assert_eq!(layer.bytes, bytes as u64, "{layer:?}");
    }
}

#[test]
fn an_adapter_of_a_model_in_integers_is_merged_in_floats() {
    let folder = tempfile::tempdir().unwrap();
    let (base, floats) = (folder.path().join("base"), folder.path().join("floats"));
    let case = fixture("stablelm-siglip-lora");
    // The base alone, in integers: as a whole Bunny whose projector and tower the adapter's folder has.
    let whole = ModelSource {
        model: case.join("bunny-lora"),
        base: Some(case.join("base")),
        vision_tower: Some(case.join("siglip-tower")),
    };
    quantise(&whole, "int8", &base);
    let open = |base: &Path| ModelSource {
        model: case.join("bunny-lora"),
        base: Some(base.into()),
        vision_tower: Some(case.join("siglip-tower")),
    };
    let merged = ModelSource::merged(&base).open().unwrap();
    merged.write_merged(&floats, StoredDtype::F32).unwrap();
    let [packed, plain] = [&base, &floats].map(|base| said(&open(base), EXACT));
    let same = plain.compare(&packed);
    assert!(same.mean_divergence < 1e-9, "{same:?}");
    let without = said(&ModelSource::merged(&base), EXACT);
    assert!(without.compare(&packed).mean_divergence > 1e-3);
}

#[test]
fn a_model_in_integers_is_not_saved_as_if_it_were_floats() {
    let source = ModelSource::merged(fixture("phi-siglip-int4"));
    let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let processor = &pipeline.image_processor;
    let beside = bunny_weights::ModelFolder::new();
    let saved = pipeline
        .model
        .save(folder.path(), StoredDtype::F32, 1 << 30, &beside, processor);
    assert!(saved.unwrap_err().to_string().contains("int4:32"));
}

/// A copy of a fixture whose configuration is changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let tower = folder.path().join("siglip-tower");
    fs::create_dir(&tower).unwrap();
    for file in ["config.json", "preprocessor_config.json"] {
        fs::copy(
            fixture(name).join("siglip-tower").join(file),
            tower.join(file),
        )
        .unwrap();
    }
    let mut config = json(folder.path().join("config.json"));
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn what_is_said_of_integers_and_not_read_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 3] = [
        (
            |config| config["quantization_config"]["quant_method"] = "gptq".into(),
            "`quantization_config`",
        ),
        (
            |config| {
                config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] =
                    3.into();
            },
            "`quantization_config.config_groups.group_0.weights.num_bits` is 3",
        ),
        (
            |config| {
                config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] =
                    64.into();
            },
            "weight_scale` is F16",
        ),
    ];
    for (change, says) in cases {
        let folder = changed("phi-siglip-int4", change);
        let error = ModelSource::merged(folder.path()).open().unwrap_err();
        let error = error.to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
