use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::*;

fn settings(variables: &[(&str, &str)], home: Option<&str>) -> Result<HubSettings, HubError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let variable = |name: &str| variables.get(name).map(|value| value.to_string());
    HubSettings::from_variables(variable, home.map(PathBuf::from))
}

#[test]
fn the_cache_is_where_python_looks_for_it() {
    for (variables, expected) in [
        (&[][..], "/home/me/.cache/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/caches")], "/caches/huggingface/hub"),
        (
            &[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/caches")],
            "/hf/hub",
        ),
        (&[("HF_HOME", "~/hf")], "/home/me/hf/hub"),
        (
            &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")],
            "/old",
        ),
        (
            &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
            "/new",
        ),
        (&[("HF_HUB_CACHE", "")], "/home/me/.cache/huggingface/hub"),
    ] {
        let settings = settings(variables, Some("/home/me")).unwrap();
        assert_eq!(settings.cache, Path::new(expected), "{variables:?}");
    }
    assert!(matches!(settings(&[], None), Err(HubError::NoHome)));
}

#[test]
fn the_token_comes_from_a_variable_or_a_file_and_is_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(settings(&[("HF_HOME", home)], None).unwrap().token, None);
    fs::write(format!("{home}/token"), "hf_file\n").unwrap();
    fs::write(format!("{home}/other"), "hf_other").unwrap();
    let other = format!("{home}/other");
    for (variables, expected) in [
        (&[("HF_HOME", home)][..], "hf_file"),
        (&[("HF_HOME", home), ("HF_TOKEN_PATH", &other)], "hf_other"),
        (
            &[("HF_HOME", home), ("HUGGING_FACE_HUB_TOKEN", "hf_old")],
            "hf_old",
        ),
        (
            &[("HF_HOME", home), ("HF_TOKEN", " hf_variable\n")],
            "hf_variable",
        ),
    ] {
        let settings = settings(variables, None).unwrap();
        assert_eq!(settings.token.as_deref(), Some(expected));
        assert!(!format!("{settings:?}").contains("hf_"), "{settings:?}");
    }
}

#[test]
fn endpoint_and_offline_are_read() {
    let default = settings(&[], Some("/home/me")).unwrap();
    assert_eq!(default.endpoint, "https://huggingface.co");
    assert!(!default.offline);
    for (variable, value, offline) in [
        ("HF_HUB_OFFLINE", "1", true),
        ("HF_HUB_OFFLINE", "true", true),
        ("HF_HUB_OFFLINE", "0", false),
        ("TRANSFORMERS_OFFLINE", "yes", true),
    ] {
        assert_eq!(
            settings(&[(variable, value)], Some("/")).unwrap().offline,
            offline
        );
    }
    let mirror = settings(&[("HF_ENDPOINT", "https://hub.example/")], Some("/")).unwrap();
    assert_eq!(mirror.endpoint, "https://hub.example");
    for endpoint in [
        "hub.example",
        "ftp://hub.example",
        "https://",
        "https:/hub",
        "not a hub",
    ] {
        let refused = settings(&[("HF_ENDPOINT", endpoint)], Some("/")).unwrap_err();
        assert!(matches!(refused, HubError::BadEndpoint { .. }), "{refused}");
    }
}

#[test]
fn a_model_is_called_as_on_the_hub() {
    for (text, name, revision) in [
        ("BAAI/Bunny-v1_0-3B", "BAAI/Bunny-v1_0-3B", "main"),
        ("gpt2", "gpt2", "main"),
        ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
        ("a/b@v1.0+x", "a/b", "v1.0+x"),
    ] {
        let id: ModelId = text.parse().unwrap();
        assert_eq!((id.name(), id.revision()), (name, revision));
        assert_eq!(id.to_string(), text);
    }
}

#[test]
fn a_name_that_no_hub_gives_is_refused() {
    let long = format!("a/{}", "b".repeat(97));
    for text in [
        "",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "a b",
        "a/b--c",
        "../b",
        "a/..",
        "a/.b",
        "a/b-",
        "a/b.git",
        "a\\b",
        "a/b@",
        "a/b@..",
        "a/b@x/../y",
        "a/b@/x",
        "a/b@x y",
        "a/b\n",
        &long,
    ] {
        let error = text.parse::<ModelId>().unwrap_err();
        assert!(matches!(error, HubError::BadId { .. }), "{text:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn files_of_a_model_are_chosen_among_all_of_its_repository() {
    let chosen = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        model_files(&names)
    };
    // Nothing but GGUF: one language model, and its projector.
    assert_eq!(
        chosen(&[
            "README.md",
            "config.json",
            "ggml-model-Q4_K_M.gguf",
            "ggml-model-f16.gguf",
            "ggml-model-f16-00001-of-00002.gguf",
            "mmproj-model-f16.gguf",
        ]),
        [
            "config.json",
            "ggml-model-Q4_K_M.gguf",
            "mmproj-model-f16.gguf"
        ]
    );
    assert_eq!(
        chosen(&["config.json", "model.safetensors", "model-f16.gguf"]),
        ["config.json", "model.safetensors"]
    );
    // A merged model, with what its authors left beside it.
    assert_eq!(
        chosen(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "modeling_bunny_phi.py",
            "images/example.png",
            "onnx/model.safetensors",
            "pytorch_model-00001-of-00001.bin",
            "pytorch_model.bin.index.json",
            "optimizer.pt",
            "training_args.bin",
            "trainer_state.json",
            "tokenizer.json",
            "requirements.txt",
        ]),
        [
            "config.json",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ]
    );
    // A base model of before safetensors.
    let old = [
        "config.json",
        "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json",
    ];
    assert_eq!(chosen(&old), old);
    // What the two stages of training write.
    let projector = ["config.json", "mm_projector.bin"];
    assert_eq!(chosen(&projector), projector);
    assert_eq!(
        chosen(&[
            "adapter_config.json",
            "adapter_model.bin",
            "non_lora_trainables.bin"
        ])
        .len(),
        3
    );
    assert_eq!(
        chosen(&[
            "adapter_model.bin",
            "adapter_model.safetensors",
            "non_lora_trainables.bin"
        ]),
        ["adapter_model.safetensors", "non_lora_trainables.bin"]
    );
}

#[test]
fn of_all_eva_clips_the_tower_of_bunny_is_chosen() {
    let chosen = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        tower_files(&names)
    };
    assert_eq!(
        chosen(&[
            "README.md",
            "EVA01_CLIP_g_14_psz14_s11B.pt",
            "EVA02_CLIP_L_336_psz14_s6B.pt",
            "EVA02_CLIP_L_psz14_s4B.pt",
        ]),
        ["EVA02_CLIP_L_336_psz14_s6B.pt"]
    );
    let siglip = [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ];
    assert_eq!(chosen(&siglip), siglip);
}
