//! Files in GGUF as others left them: older converters' forms are the same models, and what is wrong with one is
//! named as the file names it.
#![recursion_limit = "256"]

mod gguf_models;

use std::{fs, path::Path};

use bunny_core::{
    checkpoint::{GgufProjector, GgufWeights, ModelSource, OpenModel},
    config::VisionConfig,
};
use bunny_weights::{
    CheckpointError,
    gguf::{Array, GgufFile, GgufTensor, Metadata, PlannedBlocks, Value, write_file},
};
use gguf_models::{file_named, fixture, merged, numbers, write};
use tempfile::tempdir;

/// Writes a file anew with other keys, and with tensors as `change` has them.
fn rewritten(
    file: &Path,
    keys: impl FnOnce(&mut Metadata),
    change: impl FnOnce(Vec<GgufTensor>) -> Vec<GgufTensor>,
) {
    let draft = {
        let open = GgufFile::open(file).unwrap();
        let mut metadata = open.metadata().clone();
        keys(&mut metadata);
        let tensors = change(
            open.names()
                .map(|name| open.get(name).unwrap().clone())
                .collect(),
        );
        let plan: Vec<_> = tensors
            .iter()
            .map(|tensor| PlannedBlocks {
                name: tensor.name.clone(),
                kind: tensor.kind,
                shape: tensor.shape.clone(),
            })
            .collect();
        let mut left = tensors.iter();
        write_file::<CheckpointError>(file, &metadata, &plan, |_, sink| {
            sink.put(&left.next().unwrap().bytes)
        })
        .unwrap()
    };
    draft.publish().unwrap();
}

#[test]
fn files_of_older_converters_are_the_same_models() {
    let open = merged(fixture("phi-siglip"));
    let written = write(&open, GgufWeights::F16, GgufProjector::Mlp);
    let expected = numbers(&merged(&written));
    // As Bunny's published projector files are: no type, another activation, the two matrices of an MLP
    // with each other's names, all layers, and nothing of which features.
    rewritten(
        &file_named(written.path(), "mmproj"),
        |keys| {
            for key in [
                "clip.projector_type",
                "clip.vision.feature_layer",
                "general.type",
            ] {
                keys.remove(key);
            }
            keys.insert("clip.use_gelu".into(), false.into());
            keys.insert("clip.has_llava_projector".into(), true.into());
        },
        |tensors| {
            let swapped = tensors.into_iter().map(|mut tensor| {
                tensor.name = match tensor.name.contains(".ffn_up.") {
                    true => tensor.name.replace(".ffn_up.", ".ffn_down."),
                    false => tensor.name.replace(".ffn_down.", ".ffn_up."),
                };
                tensor
            });
            swapped.collect()
        },
    );
    // As Phi-2's of 2023: queries, keys and values in one, and no word of how text is cut.
    rewritten(
        &file_named(written.path(), "small"),
        |keys| {
            keys.remove("tokenizer.ggml.pre");
        },
        |tensors| {
            let mut fused = Vec::new();
            let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
            for tensor in &tensors {
                let Some((layer, parameter)) = tensor.name.split_once(".attn_q.") else {
                    if !tensor.name.contains(".attn_k.") && !tensor.name.contains(".attn_v.") {
                        fused.push(tensor.clone());
                    }
                    continue;
                };
                let parts =
                    ["q", "k", "v"].map(|part| find(&format!("{layer}.attn_{part}.{parameter}")));
                let mut shape = tensor.shape.clone();
                shape[0] *= 3;
                fused.push(GgufTensor {
                    name: format!("{layer}.attn_qkv.{parameter}"),
                    bytes: parts.map(|part| part.bytes.to_vec()).concat().into(),
                    shape,
                    ..tensor.clone()
                });
            }
            fused
        },
    );
    let back = merged(&written);
    assert_eq!(back.config.vision, open.config.vision);
    for (name, (_, found)) in numbers(&back) {
        assert!(found == expected[&name].1, "{name}");
    }
    let prompt = "A chat. USER: <image>\nWhat is 12? ASSISTANT:";
    let ids = |open: &OpenModel| open.tokenizer.encode_prompt(prompt).unwrap();
    assert_eq!(ids(&back), ids(&open));
}

#[test]
fn layers_that_are_not_read_and_rows_that_nobody_says_are_passed_over() {
    let open = merged(fixture("phi-siglip"));
    let written = write(&open, GgufWeights::F16, GgufProjector::Mlp);
    let expected = numbers(&merged(&written));
    let VisionConfig::Siglip(tower) = &open.config.vision else {
        panic!("a SigLIP")
    };
    let used = tower.layers_used();
    // A whole tower, with what stands behind it.
    rewritten(
        &file_named(written.path(), "mmproj"),
        |keys| {
            keys.insert("clip.vision.block_count".into(), (used as u32 + 1).into());
        },
        |mut tensors| {
            let last = format!("v.blk.{}.", used - 1);
            let copies: Vec<_> = tensors
                .iter()
                .filter(|tensor| tensor.name.starts_with(&last))
                .map(|tensor| GgufTensor {
                    name: tensor.name.replace(&last, &format!("v.blk.{used}.")),
                    ..tensor.clone()
                })
                .collect();
            let norm = tensors
                .iter()
                .find(|tensor| tensor.name == "v.blk.0.ln1.weight");
            let norm = GgufTensor {
                name: "v.post_ln.weight".into(),
                ..norm.unwrap().clone()
            };
            tensors.extend(copies);
            tensors.push(norm);
            tensors
        },
    );
    // Eight rows more than the tokenizer has tokens.
    rewritten(
        &file_named(written.path(), "small"),
        |keys| {
            let list = |key: &str| keys[key].array().unwrap().clone();
            let (tokens, roles) = (
                list("tokenizer.ggml.tokens"),
                list("tokenizer.ggml.token_type"),
            );
            let mut texts: Vec<String> = tokens.texts().unwrap().map(str::to_owned).collect();
            let mut roles: Vec<i32> = roles.integers().unwrap().map(|role| role as i32).collect();
            for _ in 0..8 {
                texts.push(format!("[PAD{}]", texts.len()));
                roles.push(5);
            }
            keys.insert(
                "tokenizer.ggml.tokens".into(),
                Array::of_texts(texts).into(),
            );
            keys.insert(
                "tokenizer.ggml.token_type".into(),
                Array::of_integers(&roles).into(),
            );
        },
        |tensors| {
            let grown = tensors.into_iter().map(|mut tensor| {
                if matches!(
                    &*tensor.name,
                    "token_embd.weight" | "output.weight" | "output.bias"
                ) {
                    let row = tensor.bytes.len() / tensor.shape[0];
                    tensor.bytes = [&tensor.bytes[..], &vec![1; 8 * row]].concat().into();
                    tensor.shape[0] += 8;
                }
                tensor
            });
            grown.collect()
        },
    );
    let back = merged(&written);
    assert_eq!(back.tokenizer.vocab_size(), open.tokenizer.vocab_size());
    for (name, (_, found)) in numbers(&back) {
        assert!(found == expected[&name].1, "{name}");
    }
}

#[test]
fn a_model_is_found_by_its_file_or_its_folder() {
    let open = merged(fixture("phi-siglip"));
    let written = write(&open, GgufWeights::F16, GgufProjector::JanusPro);
    let (text, projector) = (
        file_named(written.path(), "small"),
        file_named(written.path(), "mmproj"),
    );
    let source = ModelSource::merged(&text);
    assert_eq!(source.wanted_base().unwrap(), None);
    assert_eq!(source.wanted_tower().unwrap(), None);
    // Without its weights.
    let parameters = source.configuration().unwrap().parameters();
    assert_eq!(parameters, open.config.parameters());
    assert!(source.open().is_ok());

    let said = |source: &ModelSource| source.open().unwrap_err().to_string();
    let wrong = said(&ModelSource::merged(&projector));
    assert!(wrong.contains("a projector file"), "{wrong}");
    fs::copy(&text, written.path().join("other.gguf")).unwrap();
    let several = said(&ModelSource::merged(written.path()));
    assert!(several.contains("other.gguf, small-f16.gguf"), "{several}");
    assert!(source.open().is_ok());

    let elsewhere = tempdir().unwrap();
    let moved = elsewhere.path().join("vision.gguf");
    fs::rename(&projector, &moved).unwrap();
    let alone = said(&source);
    assert!(alone.contains("mmproj"), "{alone}");
    let given = ModelSource {
        vision_tower: Some(moved),
        ..source
    };
    assert!(given.open().is_ok());
}

#[test]
fn what_is_wrong_with_a_file_is_named_as_the_file_names_it() {
    let open = merged(fixture("phi-siglip"));
    type Keys = fn(&mut Metadata);
    type Tensors = fn(Vec<GgufTensor>) -> Vec<GgufTensor>;
    let same: Tensors = |tensors| tensors;
    let without = |_: &mut Metadata| {};
    let cases: [(&str, Keys, Tensors, &str); 9] = [
        (
            "small",
            |keys| drop(keys.remove("phi2.block_count")),
            same,
            "`phi2.block_count`",
        ),
        (
            "small",
            |keys| drop(keys.insert("general.architecture".into(), "mamba".into())),
            same,
            "is `mamba`, which is none of phi2, stablelm",
        ),
        (
            "small",
            |keys| drop(keys.insert("phi2.rope.scaling.type".into(), "yarn".into())),
            same,
            "`phi2.rope.scaling.type` `yarn` is not supported",
        ),
        (
            "small",
            |keys| {
                drop(keys.insert(
                    "phi2.attention.layer_norm_epsilon".into(),
                    Value::F32(f32::NAN),
                ))
            },
            same,
            "layer_norm_epsilon` must be a number",
        ),
        (
            "small",
            |keys| drop(keys.insert("tokenizer.ggml.pre".into(), "tekken".into())),
            same,
            "`tokenizer.ggml.pre` names a way to cut text",
        ),
        (
            "small",
            without,
            |mut tensors| {
                tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
                tensors
            },
            "1 missing (blk.1.ffn_up.weight)",
        ),
        (
            "mmproj",
            |keys| drop(keys.insert("clip.projector_type".into(), "ldp".into())),
            same,
            "`clip.projector_type` `ldp` is not supported",
        ),
        (
            "mmproj",
            |keys| {
                drop(keys.insert(
                    "clip.vision.image_std".into(),
                    Array::of_floats(&[0.5]).into(),
                ))
            },
            same,
            "`clip.vision.image_std` is no list of three floats",
        ),
        (
            "mmproj",
            without,
            |mut tensors| {
                let class = GgufTensor {
                    name: "v.class_embd".into(),
                    ..tensors[0].clone()
                };
                tensors.push(class);
                tensors
            },
            "class token",
        ),
    ];
    for (part, keys, tensors, problem) in cases {
        let written = write(&open, GgufWeights::F16, GgufProjector::JanusPro);
        rewritten(&file_named(written.path(), part), keys, tensors);
        let error = ModelSource::merged(written.path()).open().unwrap_err();
        let error = error.to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.contains(".gguf") && !error.contains('\n'), "{error}");
    }
}
