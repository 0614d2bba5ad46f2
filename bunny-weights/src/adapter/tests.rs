use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::StoredDtype;
use crate::files::tests::fixture;
use crate::writer::{PlannedTensor, write_file};

/// A configuration of PEFT with one field changed.
fn with(field: &str, value: Value) -> Result<AdapterConfig, AdapterError> {
    let text = fs::read(fixture("adapter").join(ADAPTER_CONFIG)).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config[field] = value;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(ADAPTER_CONFIG);
    fs::write(&path, config.to_string()).unwrap();
    AdapterConfig::read(&path).map_err(|error| match error {
        CheckpointError::Adapter { path: at, fault } if at == path => fault,
        other => panic!("{other}"),
    })
}

/// An adapter's folder with these tensors of one-byte numbers.
fn folder_with(tensors: &[(&str, [usize; 2])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = fixture("adapter").join(ADAPTER_CONFIG);
    fs::copy(config, folder.path().join(ADAPTER_CONFIG)).unwrap();
    let plan: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| PlannedTensor {
            name: name.to_string(),
            dtype: StoredDtype::U8,
            shape: shape.to_vec(),
        })
        .collect();
    write_file(folder.path().join(ADAPTER_WEIGHTS), &plan, |tensor| {
        Ok::<_, CheckpointError>(vec![0; tensor.size() as usize])
    })
    .unwrap();
    folder
}

fn fault(tensors: &[(&str, [usize; 2])]) -> AdapterError {
    match Adapter::open(folder_with(tensors).path()).unwrap_err() {
        CheckpointError::Adapter { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn an_adapter_of_peft_is_read_with_what_else_has_learned() {
    let adapter = Adapter::open(fixture("adapter")).unwrap();
    let config = adapter.config();
    assert_eq!(
        (config.rank, config.lora_alpha, config.lora_dropout),
        (4, 8.0, 0.05)
    );
    assert_eq!(config.scale(), 2.0);
    let targets = ["dense", "fc1", "fc2", "k_proj", "q_proj", "v_proj"];
    let targets = targets.map(str::to_owned).to_vec();
    assert_eq!(config.target_modules, TargetModules::Names(targets));
    assert!(adapter.is_plain());

    assert_eq!(adapter.targets().len(), 12);
    assert!(
        adapter
            .targets()
            .any(|target| target == "model.layers.1.self_attn.dense")
    );
    let AdapterLayer { a, b, scale, .. } = adapter.get("model.layers.0.mlp.fc1").unwrap();
    assert_eq!(scale, 2.0);
    assert_eq!((a.shape, b.shape), (vec![4, 8], vec![12, 4]));
    let mut zeros = b.bytes.iter();
    assert!(zeros.all(|&byte| byte == 0), "PEFT starts B at zero");
    assert!(a.bytes.iter().any(|&byte| byte != 0));

    let others = adapter.others().unwrap();
    assert!(others.names().eq([
        "model.mm_projector.0.bias",
        "model.mm_projector.0.weight",
        "model.mm_projector.2.bias",
        "model.mm_projector.2.weight",
    ]));
    assert_eq!(
        others.dtype("model.mm_projector.0.weight"),
        Some(StoredDtype::BF16)
    );
}

#[test]
fn a_configuration_survives_writing_and_reading() {
    for (lora_alpha, use_rslora, base_model) in [
        (256.0, false, None),
        (0.5, true, Some("microsoft/phi-2".to_string())),
    ] {
        let config = AdapterConfig {
            lora_dropout: 0.05,
            use_rslora,
            base_model,
            ..AdapterConfig::plain(128, lora_alpha, vec!["q_proj".into(), "fc1".into()])
        };
        let folder = tempfile::tempdir().unwrap();
        config.write(folder.path()).unwrap();
        let path = folder.path().join(ADAPTER_CONFIG);
        assert_eq!(AdapterConfig::read(&path).unwrap(), config);
        let written: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let peft: Value =
            serde_json::from_slice(&fs::read(fixture("adapter").join(ADAPTER_CONFIG)).unwrap())
                .unwrap();
        for field in written.as_object().unwrap().keys() {
            assert!(peft.get(field).is_some(), "PEFT knows no field {field}");
        }
    }
}

#[test]
fn the_scale_is_alpha_over_rank_or_its_root() {
    assert_eq!(with("use_rslora", json!(true)).unwrap().scale(), 4.0);
    assert_eq!(with("use_rslora", Value::Null).unwrap().scale(), 2.0);
}

#[test]
fn what_is_not_known_is_refused_by_its_field() {
    for (field, value) in [
        ("peft_type", json!("LOHA")),
        ("r", json!(0)),
        ("r", json!("8")),
        ("lora_alpha", Value::Null),
        ("lora_dropout", json!(1.5)),
        ("target_modules", json!([])),
        ("target_modules", json!(3)),
        ("bias", json!("some")),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!("lm_head")),
        ("use_dora", json!("yes")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!({"(": 2})),
        ("alpha_pattern", json!({"q_proj": "2"})),
        ("layer_replication", json!([[0, 2]])),
        ("target_parameters", json!(["w"])),
        ("init_lora_weights", json!("pissa")),
        ("trainable_token_indices", json!([1])),
        ("something_of_next_year", json!(1)),
    ] {
        match with(field, value.clone()).unwrap_err() {
            AdapterError::Field {
                field: named,
                value: said,
                ..
            } => {
                assert_eq!((named, said), (field.to_string(), value.to_string()));
            }
            other => panic!("{field}: {other}"),
        }
    }
    for (field, value) in [
        ("target_modules", json!("all-linear")),
        ("target_modules", json!(r".*\.(q|v)_proj")),
        ("bias", json!("lora_only")),
        ("init_lora_weights", json!("gaussian")),
        ("task_type", Value::Null),
        ("peft_version", json!("9.9.9")),
        ("something_of_next_year", json!(false)),
    ] {
        assert!(with(field, value).is_ok(), "{field}");
    }
}

#[test]
fn ranks_and_strengths_of_some_layers_are_their_own() {
    let config = with(
        "rank_pattern",
        json!({"layers.1.q_proj": 2, "q_proj": 8, "^x": 1}),
    )
    .unwrap();
    for (target, rank) in [
        ("model.layers.1.q_proj", 2),
        ("model.layers.0.q_proj", 8),
        ("q_proj", 8),
        ("model.layers.0.my_q_proj", 4),
        ("model.layers.0.k_proj", 4),
    ] {
        assert_eq!(config.rank_of(target), rank, "{target}");
    }
    let config = with("alpha_pattern", json!({r"layers\.[01]\..*": 6.0})).unwrap();
    assert_eq!(config.scale_of("model.layers.1.mlp.fc1", 4), 1.5);
    assert_eq!(config.scale_of("model.layers.2.mlp.fc1", 4), 2.0);
    assert!(!config.is_uniform());
}

#[test]
fn names_of_an_adapters_file_are_known_by_what_its_configuration_says() {
    let plain = AdapterConfig::plain(4, 8.0, vec!["q_proj".into()]);
    let saving = AdapterConfig {
        modules_to_save: vec!["lm_head".into(), "norm".into()],
        has_biases: true,
        ..plain.clone()
    };
    let replaced = |name: &str, config| match found(&format!("base_model.model.{name}"), config) {
        Some(Found::Replaced(name)) => Some(name),
        _ => None,
    };
    for (name, published) in [
        ("lm_head.base_layer.bias", "lm_head.bias"),
        ("lm_head.weight", "lm_head.weight"),
        (
            "model.norm.modules_to_save.default.weight",
            "model.norm.weight",
        ),
        ("model.norm.bias", "model.norm.bias"),
        (
            "model.layers.0.q_proj.base_layer.bias",
            "model.layers.0.q_proj.bias",
        ),
    ] {
        assert_eq!(
            replaced(name, &saving).as_deref(),
            Some(published),
            "{name}"
        );
    }
    for name in [
        "model.norm.weight",
        "model.layers.0.q_proj.bias",
        "model.layers.0.q_proj",
    ] {
        assert_eq!(replaced(name, &plain), None, "{name}");
    }
}

#[test]
fn a_configuration_that_is_no_object_is_refused() {
    for text in ["[]", "", "{\"r\": "] {
        assert!(matches!(
            AdapterConfig::parse(text.as_bytes()),
            Err(AdapterError::Json { .. })
        ));
    }
}

#[test]
fn names_go_both_ways() {
    let target = "model.layers.0.self_attn.q_proj";
    for matrix in [LoraMatrix::A, LoraMatrix::B] {
        let name = lora_name(target, matrix);
        assert_eq!(parse_lora_name(&name), Some((target, matrix)));
        let in_torch = name.replace(".weight", ".default.weight");
        assert_eq!(parse_lora_name(&in_torch), Some((target, matrix)));
    }
    for name in [
        "base_model.model.model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lora_A.weight",
        "base_model.model.x.lora_A.other.weight",
    ] {
        assert_eq!(parse_lora_name(name), None, "{name}");
    }
}

#[test]
fn matrices_that_do_not_belong_together_are_refused() {
    let [a, b] = [LoraMatrix::A, LoraMatrix::B].map(|matrix| lora_name("x", matrix));
    let target = || "x".to_string();
    let missing = "lora_B";
    assert_eq!(
        fault(&[(&a, [4, 8])]),
        AdapterError::Unpaired {
            target: target(),
            missing
        }
    );
    let missing = "lora_A";
    assert_eq!(
        fault(&[(&b, [8, 4])]),
        AdapterError::Unpaired {
            target: target(),
            missing
        }
    );
    assert_eq!(
        fault(&[(&a, [4, 8]), (&b, [8, 3])]),
        AdapterError::Rank {
            target: target(),
            a: vec![4, 8],
            b: vec![8, 3],
            rank: 4
        }
    );
    assert_eq!(
        fault(&[
            (&a, [4, 8]),
            (&b, [8, 4]),
            ("base_model.model.y.weight", [1, 1])
        ]),
        AdapterError::NotLora {
            tensor: "base_model.model.y.weight".into()
        }
    );
    let again = a.replace(".weight", ".default.weight");
    assert_eq!(
        fault(&[(&a, [4, 8]), (&again, [4, 8]), (&b, [8, 4])]),
        AdapterError::Twice { tensor: a }
    );
}

#[test]
fn an_adapter_without_weights_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = fixture("adapter").join(ADAPTER_CONFIG);
    fs::copy(config, folder.path().join(ADAPTER_CONFIG)).unwrap();
    let error = Adapter::open(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            CheckpointError::Adapter {
                fault: AdapterError::NoWeights,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn other_weights_lose_the_wrappers_of_peft_and_no_more() {
    for (stored, published) in [
        // As Bunny's training writes them, and as they are when the model was not wrapped twice.
        (
            "base_model.model.model.mm_projector.0.weight",
            "model.mm_projector.0.weight",
        ),
        (
            "base_model.model.mm_projector.0.weight",
            "model.mm_projector.0.weight",
        ),
        ("model.mm_projector.0.weight", "model.mm_projector.0.weight"),
    ] {
        let [a, b] = [LoraMatrix::A, LoraMatrix::B].map(|matrix| lora_name("x", matrix));
        let folder = folder_with(&[(&a, [4, 8]), (&b, [8, 4])]);
        let plan = [PlannedTensor {
            name: stored.into(),
            dtype: StoredDtype::U8,
            shape: vec![1],
        }];
        write_file(folder.path().join(NON_LORA_WEIGHTS), &plan, |_| {
            Ok::<_, CheckpointError>([0])
        })
        .unwrap();
        let adapter = Adapter::open(folder.path()).unwrap();
        assert!(
            adapter.others().unwrap().names().eq([published]),
            "{stored}"
        );
    }
    assert_eq!(
        non_lora_name("model.mm_projector.0.weight"),
        "base_model.model.model.mm_projector.0.weight"
    );
}
