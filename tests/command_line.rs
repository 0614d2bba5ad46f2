//! The command line as a user meets it: outputs, exit codes, and errors in one line.

#[path = "command_line/bad_day.rs"]
mod bad_day;
#[path = "command_line/evaluation.rs"]
mod evaluation;
#[path = "command_line/integers.rs"]
mod integers;
mod program;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bunny_weights::TensorFiles;
use program::{bunny, text};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

fn expected(name: &str) -> Value {
    let file = fixture(name).join("expected.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a failed command says, which must be one line.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn chat_speaks_json_that_agrees_with_the_reference() {
    let (model, picture) = (fixture("phi-siglip"), fixture("wide.png"));
    let output = bunny(&[
        "chat",
        "--model",
        text(&model),
        "--image",
        text(&picture),
        "--prompt",
        "What is in the picture?",
        "--prompt",
        "Are you sure?",
        "--max-new-tokens",
        "16",
        "--format",
        "json",
    ]);
    let turns = json_lines(&output);
    let expected = expected("phi-siglip");
    assert_eq!(turns.len(), 2);
    for (turn, expected) in turns.iter().zip(expected["turns"].as_array().unwrap()) {
        for (field, reference) in [
            ("prompt", "prompt"),
            ("input_ids", "input_ids"),
            ("generated_ids", "generated_ids"),
            ("text", "generated_text"),
        ] {
            assert_eq!(turn[field], expected[reference], "{field}");
        }
        assert!(turn["timings"]["prefill_seconds"].as_f64().unwrap() > 0.0);
    }
    // The second turn reads only what the first has not read.
    let read = turns[1]["timings"]["prefill_positions"].as_u64().unwrap();
    assert!(
        read < turns[1]["input_ids"].as_array().unwrap().len() as u64 / 2,
        "{read}"
    );
}

#[test]
fn chat_takes_an_adapter_with_its_base() {
    let case = fixture("phi-siglip-lora");
    let output = bunny(&[
        "chat",
        "--model",
        text(&case.join("bunny-lora")),
        "--model-base",
        text(&case.join("base")),
        "--vision-tower",
        text(&case.join("siglip-tower")),
        "--image",
        text(&fixture("wide.png")),
        "--prompt",
        "What is in the picture?",
        "--max-new-tokens",
        "16",
        "--dtype",
        "f32",
        "--format",
        "json",
    ]);
    let ids = &json_lines(&output)[0]["generated_ids"];
    assert_eq!(
        *ids,
        expected("phi-siglip-lora")["turns"][0]["generated_ids"]
    );
}

/// A conversation whose lines come through a pipe.
fn piped(lines: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(["chat", "--model", text(&fixture("phi-siglip"))])
        .args(["--max-new-tokens", "16"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_conversation_can_be_piped_in() {
    let picture = fixture("wide.png");
    let asked = format!("/image {}\nWhat is in the picture?\n", text(&picture));
    let output = piped(&format!("{asked}/exit\nnever asked\n"));
    succeeds(&output);
    let answer = expected("phi-siglip")["turns"][0]["generated_text"].clone();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(said(&output), answer.as_str().unwrap());

    // The first error ends it.
    let output = piped(&format!("{asked}/nonsense\nnever asked\n"));
    assert!(complaint(&output).contains("no command `/nonsense`"));
    assert_eq!(said(&output), answer.as_str().unwrap());
    for (line, named) in [("/image none.png", "none.png"), ("/image", "/image FILE")] {
        assert!(complaint(&piped(line)).contains(named), "{line}");
    }
}

#[test]
fn score_gives_one_log_probability_per_answer_token() {
    let output = bunny(&[
        "score",
        "--model",
        text(&fixture("phi-siglip")),
        "--image",
        text(&fixture("wide.png")),
        "--prompt",
        "What is in the picture?",
        "--answer",
        "A red bus.",
    ]);
    let report = &json_lines(&output)[0];
    let tokens = report["tokens"].as_array().unwrap();
    assert!(tokens.len() > 2);
    let sum: f64 = tokens
        .iter()
        .map(|token| token["log_probability"].as_f64().unwrap())
        .sum();
    assert!((sum - report["log_probability"].as_f64().unwrap()).abs() < 1e-4);
    assert!(sum < 0.0);
}

#[test]
fn inspect_counts_the_published_3b_exactly() {
    let output = bunny(&["model", "inspect", "bunny-phi-2-siglip", "--format", "json"]);
    assert_eq!(json_lines(&output)[0]["parameters"], 3_182_254_624u64);
}

#[test]
fn inspect_takes_the_tower_of_an_adapter_or_a_projector_from_elsewhere() {
    for (name, own, tower) in [
        ("phi-siglip-lora", "bunny-lora", "siglip-tower"),
        ("phi-eva-pretrained", "bunny-pretrain", "eva-clip-tower"),
    ] {
        let [own, tower] = [own, tower].map(|folder| fixture(name).join(folder));
        let config = std::fs::read(own.join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let inspect = ["model", "inspect", text(&own), "--format", "json"];
        complaint(&bunny(&inspect));
        let given = [&inspect[..], &["--vision-tower", text(&tower)]].concat();
        let report = &json_lines(&bunny(&given))[0];
        let (seen, said) = (&report["vision_tower"], &report["language_model"]);
        assert_eq!(seen["hidden_size"], config["mm_hidden_size"], "{name}");
        assert_eq!(said["hidden_size"], config["hidden_size"], "{name}");
    }
}

#[test]
fn list_names_every_published_model() {
    let output = bunny(&["model", "list", "--format", "json"]);
    let models = &json_lines(&output)[0]["models"];
    let weights = models.as_array().unwrap().iter().map(|model| {
        let id = model["weights"].as_str().unwrap();
        id.split_once('/').unwrap().1.to_owned()
    });
    let weights: Vec<String> = weights.collect();
    assert_eq!(
        weights,
        [
            "bunny-phi-1.5-eva-lora",
            "bunny-stablelm-2-eva-lora",
            "bunny-phi-2-eva-lora",
            "bunny-phi-1.5-siglip-lora",
            "bunny-stablelm-2-siglip-lora",
            "Bunny-v1_0-3B",
            "Bunny-v1_0-2B-zh",
            "Bunny-v1_0-3B-zh",
            "Bunny-v1_0-4B",
            "Bunny-v1_1-4B",
            "Bunny-Llama-3-8B-V",
            "Bunny-v1_1-Llama-3-8B-V",
        ]
    );
}

#[test]
fn bad_usage_ends_with_2() {
    for arguments in [
        &["chat", "--temperature", "hot"][..],
        &["train", "--ranks", "0"],
        &["chat", "--model", "x", "--temperature", "-1"],
        &["chat", "--top-p", "2"],
        &["chat", "--max-new-tokens", "0"],
        &["bench", "--backend", "abacus"],
        &["bench", "--repeats", "0"],
        &["bench", "train", "--batch", "0"],
        &["eval", "picture-world", "--data", "x", "--blind-seed", "1"],
        &["merge", "--average", "a=1", "--out", "x", "--dtype", "f32"],
    ] {
        assert_eq!(bunny(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let negative = bunny(&["chat", "--temperature", "-1"]);
    assert!(String::from_utf8_lossy(&negative.stderr).contains("must be a number, 0 or more"));
}

#[test]
fn failures_are_one_line_that_names_what_is_wrong() {
    let missing = bunny(&["chat", "--model", "./nowhere", "--prompt", "Hi"]);
    assert!(complaint(&missing).contains("./nowhere"));
    let mistyped = bunny(&["chat", "--model", "no/where", "--prompt", "Hi"]);
    assert!(complaint(&mistyped).contains("no/where: no such folder here"));
    let unknown = bunny(&["bench", "--arch", "hare"]);
    assert!(complaint(&unknown).contains("bunny-phi-2-siglip"));
    let model = fixture("phi-siglip");
    let picture = bunny(&[
        "chat",
        "--model",
        text(&model),
        "--image",
        "none.png",
        "--prompt",
        "Hi",
    ]);
    assert!(complaint(&picture).contains("none.png"));
    let offline = bunny(&["chat", "--model", "nobody/nothing", "--prompt", "Hi"]);
    assert!(complaint(&offline).contains("nobody/nothing"));
    let words = "Hi ".repeat(600);
    let long = bunny(&["chat", "--model", text(&model), "--prompt", &words]);
    assert!(complaint(&long).contains("the model has 512"));
}

#[test]
fn an_answer_ends_with_the_models_positions() {
    let model = fixture("phi-siglip");
    let output = bunny(&[
        "chat",
        "--model",
        text(&model),
        "--prompt",
        "Hi",
        "--max-new-tokens",
        "9999",
        "--format",
        "json",
    ]);
    let turn = &json_lines(&output)[0];
    let count = |field: &str| turn[field].as_array().unwrap().len();
    // It has 512 positions.
    assert!(count("input_ids") + count("generated_ids") <= 512);
    let is_full = count("input_ids") + count("generated_ids") == 512;
    let reason = if is_full { "length" } else { "end_of_text" };
    assert_eq!(turn["finish_reason"], reason);
}

#[test]
fn a_bench_runs_at_the_length_that_it_reports() {
    let model = fixture("phi-siglip");
    let bench = |more: &[&str]| {
        let arguments = [
            "bench",
            "--model",
            text(&model),
            "--repeats=1",
            "--warmup=0",
        ];
        bunny(&[&arguments[..], &["--format", "json"], more].concat())
    };
    // It has 512 positions, of which a picture takes 9, and 384 tokens.
    let report = &json_lines(&bench(&["--prompt", "511", "--decode", "1"]))[0];
    assert_eq!(report["prompt"], 511);
    let short = bench(&["--prompt", "8", "--decode", "1"]);
    assert!(complaint(&short).contains("takes 9 positions"));
    let long = bench(&["--prompt", "511", "--decode", "2"]);
    assert!(complaint(&long).contains("the model's 512 positions"));
}

#[test]
fn what_is_read_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let data = records(folder.path(), |_| {});
    let before = std::fs::read(&data).unwrap();
    let recipe = folder.path().join("mix.toml");
    let source = "[[source]]\nname = \"all\"\npath = \"records.json\"\n";
    std::fs::write(
        &recipe,
        format!("format_version = 1\nname = \"mix\"\n{source}"),
    )
    .unwrap();
    let (data, recipe, root) = (text(&data), text(&recipe), text(folder.path()));
    for arguments in [
        &["data", "stats", data, "--html", data][..],
        &["data", "preview", data, "--out", data],
        &["data", "mix", recipe, "--data", root, "--out", data],
        &["data", "mix", recipe, "--data", root, "--out", recipe],
    ] {
        let said = complaint(&bunny(arguments));
        assert!(said.contains("name another file"), "{said}");
    }
    assert_eq!(std::fs::read(data).unwrap(), before);
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 2);
    let out = folder.path().join("new.json");
    succeeds(&bunny(&[
        "data",
        "mix",
        recipe,
        "--data",
        root,
        "--out",
        text(&out),
    ]));
}

/// The arguments of `train` on the small recipe, whose paths are those of the workspace.
fn train(out: &Path, more: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(["train", "recipes/tiny.toml", "--out", text(out)])
        .args(["--set", "max_steps=2"])
        .args(more)
        .current_dir(root)
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// Merges a run of the small recipe.
fn merge(run: &Path, out: &Path) {
    let merged = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args([
            "merge",
            "--dtype",
            "f32",
            "--model",
            text(run),
            "--out",
            text(out),
        ])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    succeeds(&merged);
}

/// Fails with what the command complained of.
fn succeeds(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The records of the small recipe's second stage, changed.
fn records(folder: &Path, change: impl FnOnce(&mut Vec<Value>)) -> PathBuf {
    let file = fixture("../training/finetune.json");
    let mut records: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut records);
    let changed = folder.join("records.json");
    std::fs::write(&changed, serde_json::to_vec(&records).unwrap()).unwrap();
    changed
}

#[test]
fn what_would_stop_the_second_stage_is_told_before_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let data = records(folder.path(), |records| {
        records[3]["conversations"][1]["value"] = "".into();
    });
    let data = format!("finetune.data_path={}", text(&data));
    for (change, said) in [
        (&*data, "records that cannot be learnt from: 1"),
        ("finetune.version=llama", "add a beginning of sequence"),
        (
            "finetune.model_max_length=2",
            "there is nothing to learn: no step has an answer",
        ),
        (
            "finetune.data_path=gone.json",
            "finetune.data_path = gone.json",
        ),
    ] {
        let output = train(&out, &["--set", change]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(told.contains(said), "{told}");
        assert!(!out.exists(), "{change}: a stage was begun");
    }
}

#[test]
fn records_that_nothing_is_learnt_from_are_named_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = records(folder.path(), |records| {
        let question = &mut records[1]["conversations"][0]["value"];
        *question = (question.as_str().unwrap().to_owned() + &" why".repeat(400)).into();
        records[3]["image"] = "gone.png".into();
    });
    let names = records_named(&data, [1, 3]);
    let data = format!("data_path={}", text(&data));
    let run = folder.path().join("run");
    // Never with a projector drawn at random in the place of one that is to be made.
    let output = train(&run, &["--stage=finetune"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("yet to be made by an earlier stage"),
        "{told}"
    );
    succeeds(&train(&run, &["--stage=pretrain"]));
    let output = train(
        &run,
        &[
            "--stage=finetune",
            "--set",
            &data,
            "--set=missing_pictures=skip",
            "--set=shuffle=false",
            "--ranks=2",
        ],
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines = |wanted: &str| told.lines().filter(|line| line.contains(wanted)).count();
    // Once before the first step, and once, as a warning, when it comes along.
    assert_eq!(lines(&format!("`{}`", names[0])), 2, "{told}");
    assert_eq!(lines(&format!("`{}`", names[1])), 2, "{told}");
    assert_eq!(lines("records cut before their first answer: 1"), 1);
    assert_eq!(lines("records left out for their pictures: 1"), 1);
    assert!(!told.contains('\x1b'), "colours are for terminals");
}

fn records_named<const N: usize>(file: &Path, places: [usize; N]) -> [String; N] {
    let records: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    places.map(|place| records[place]["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_run_is_followed_by_tensorboard_and_merged_by_its_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = train(&out, &["--set=report_to=[\"tensorboard\"]"]);
    succeeds(&output);
    for stage in ["pretrain", "finetune"] {
        let is_event_file = |name: &str| name.starts_with("events.out.tfevents.");
        let files = std::fs::read_dir(out.join(stage)).unwrap();
        let found = files
            .filter(|entry| is_event_file(&entry.as_ref().unwrap().file_name().to_string_lossy()));
        assert_eq!(found.count(), 1);
        merge(&out.join(stage), &folder.path().join(stage));
    }
    let output = bunny(&["train", "plot", text(&out), "--out", "curves.pdf"]);
    assert!(complaint(&output).contains("ends in .svg or .png"));
    let (stage, png) = (out.join("pretrain"), folder.path().join("curves.png"));
    let output = bunny(&["train", "plot", text(&stage), "--out", text(&png)]);
    if output.status.success() {
        let curves = image::open(&png).unwrap().into_rgb8();
        let blue = curves
            .pixels()
            .filter(|pixel| pixel.0 == [0x25, 0x63, 0xeb]);
        assert!(blue.count() > 100, "curves are drawn");
    } else {
        let told = match cfg!(feature = "plot-png") {
            true => "no font on this machine",
            false => "--features plot-png",
        };
        assert!(complaint(&output).contains(told));
    }
    let output = bunny(&["train", "plot", text(&out)]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn a_frozen_projector_is_in_the_merged_model_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = train(&out, &["--set=finetune.freeze_mm_mlp_adapter=true"]);
    succeeds(&output);
    let merged = folder.path().join("merged");
    merge(&out.join("finetune"), &merged);
    let given = TensorFiles::open_file(out.join("pretrain/mm_projector.safetensors")).unwrap();
    let kept = TensorFiles::open_file(merged.join("model.safetensors")).unwrap();
    assert_eq!(given.names().count(), 4);
    for name in given.names() {
        let (given, kept) = (given.get(name).unwrap(), kept.get(name).unwrap());
        assert_eq!(given.bytes, kept.bytes, "{name}");
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_lists_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("phi-siglip");
    for entry in std::fs::read_dir(&model).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let tower = model.join("siglip-tower").canonicalize().unwrap();
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["mm_vision_tower"] = text(&tower).into();
    config["num_hidden_layers"] = (config["num_hidden_layers"].as_u64().unwrap() + 1).into();
    config["mm_projector_type"] = "linear".into();
    std::fs::write(&file, config.to_string()).unwrap();
    let output = bunny(&["chat", "--model", text(folder.path()), "--prompt", "Hi"]);
    let said = complaint(&output);
    assert!(
        said.contains("missing") && said.contains("unexpected"),
        "{said}"
    );
    assert!(said.contains("model.mm_projector.weight"), "{said}");
    assert!(said.contains("model.mm_projector.0.weight"), "{said}");
    assert!(
        said.contains("mlp.fc1.weight") && said.contains("self_attn.dense.bias"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_early_ends_the_program_in_silence() {
    use std::os::unix::process::ExitStatusExt;

    let records = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    let record = r#"{"id":"a","conversations":[{"from":"human","value":"Hello"},{"from":"gpt","value":"Hello!"}]}"#;
    std::fs::write(&records, format!("[{record}]")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(["data", "stats", text(records.path())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // SIGPIPE, as `cat` and `sort` end.
    assert_eq!(output.status.signal(), Some(13));
}

#[cfg(unix)]
#[test]
fn a_page_may_have_a_name_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let data = records(folder.path(), |_| {});
    let page = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"page-\xff.html"));
    let output = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(["data", "preview", text(&data), "--format", "json", "--out"])
        .arg(&page)
        .output()
        .unwrap();
    let report = &json_lines(&output)[0];
    assert!(
        report["page"]
            .as_str()
            .unwrap()
            .ends_with("page-\u{fffd}.html")
    );
    assert!(page.exists());
}

#[cfg(unix)]
#[test]
fn training_that_is_told_to_end_leaves_a_checkpoint_though_nobody_reads_it() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(["train", "recipes/tiny.toml", "--out", text(&out)])
        .args(["--stage=pretrain", "--no-scan"])
        .args(["--set=max_steps=100000", "--set=save_steps=100000"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().starts_with("pretrain 1/"));
    drop(told);
    let steps = || std::fs::read_to_string(out.join("pretrain/metrics.jsonl")).unwrap();
    let before = steps().lines().count();
    while steps().lines().count() < before + 2 {
        assert_eq!(child.try_wait().unwrap(), None, "it goes on unread");
    }
    let told_to_end = Command::new("kill").arg(child.id().to_string()).status();
    assert!(told_to_end.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let last = format!("checkpoint-{}", steps().lines().count());
    assert!(out.join("pretrain").join(last).is_dir());
}
