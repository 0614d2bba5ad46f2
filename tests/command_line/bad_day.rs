//! What happens on a bad day: things are moved, lacking, too large, or not where they were.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{bunny, complaint, fixture, json_lines, records, succeeds, text, train};

/// Copies a folder of files, and the folders in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &place),
            false => drop(fs::copy(&path, &place).unwrap()),
        }
    }
}

fn bunny_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
        .args(arguments)
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The small recipe with all that it names beside it, under short names.
fn project(folder: &Path) -> PathBuf {
    let model = fixture("phi-siglip-lora");
    copy(&model.join("base"), &folder.join("base"));
    copy(&model.join("siglip-tower"), &folder.join("tower"));
    let data = fixture("../training");
    copy(&data.join("pictures"), &folder.join("pictures"));
    for records in ["pretrain.json", "finetune.json"] {
        fs::copy(data.join(records), folder.join(records)).unwrap();
    }
    let recipe = folder.join("mine.toml");
    let copied = bunny(&["recipe", "copy", "tiny", "--out", text(&recipe)]);
    succeeds(&copied);
    let given = fs::read_to_string(&recipe).unwrap();
    let short = given
        .replace(
            "tests/fixtures/models/phi-siglip-lora/siglip-tower",
            "tower",
        )
        .replace("tests/fixtures/models/phi-siglip-lora/base", "base")
        .replace("tests/fixtures/training/", "");
    assert_ne!(given, short);
    fs::write(&recipe, short).unwrap();
    recipe
}

#[test]
fn recipes_are_carried_shown_and_copied() {
    let list = &json_lines(&bunny(&["recipe", "list", "--format", "json"]))[0];
    let named = |name: &str| {
        let recipes = list["recipes"].as_array().unwrap().iter();
        recipes.filter(|recipe| recipe["name"] == name).count()
    };
    assert_eq!((named("bunny-phi-2-siglip"), named("bunny-695k")), (1, 1));
    let shown = bunny(&["recipe", "show", "bunny-695k"]);
    succeeds(&shown);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/mixes/bunny-695k.toml");
    assert_eq!(shown.stdout, fs::read(file).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let copy = || bunny_in(folder.path(), &["recipe", "copy", "tiny"]);
    succeeds(&copy());
    assert!(complaint(&copy()).contains("tiny.toml: is there already"));
    // The schema lies where the repository is.
    let shown = bunny(&["recipe", "show", "own-pictures"]);
    assert!(shown.stdout.starts_with(b"# bunny-cli model unpack base\n"));
    // By its name, from anywhere, as far as what it names is there.
    let run = bunny_in(folder.path(), &["train", "bunny-phi-2-siglip", "--dry-run"]);
    assert!(complaint(&run).contains("pretrain.data_path = data/pretrain"));
    let mix = bunny_in(
        folder.path(),
        &["data", "mix", "bunny-695k", "--out", "mixed.json"],
    );
    assert!(complaint(&mix).contains("SVIT_mix_665K.json"));
}

#[test]
fn what_a_recipe_names_is_found_beside_it_and_a_moved_run_opens() {
    let above = tempfile::tempdir().unwrap();
    let (here, there) = (above.path().join("here"), above.path().join("there/deep"));
    fs::create_dir(&here).unwrap();
    project(&here);
    let elsewhere = tempfile::tempdir().unwrap();
    let recipe = here.join("mine.toml");
    let run = |more: &[&str]| {
        let out = here.join("run");
        let arguments = [
            "train",
            text(&recipe),
            "--out",
            text(&out),
            "--set",
            "max_steps=2",
        ];
        bunny_in(elsewhere.path(), &[&arguments[..], more].concat())
    };
    succeeds(&run(&[]));
    let say = |folder: &Path| {
        let model = folder.join("run/finetune");
        let arguments = [
            "score",
            "--prompt",
            "What?",
            "--answer",
            "A red bus.",
            "--model",
        ];
        let scored = bunny_in(
            elsewhere.path(),
            &[&arguments[..], &[text(&model)]].concat(),
        );
        json_lines(&scored)[0]["log_probability"].clone()
    };
    let before = say(&here);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::rename(&here, &there).unwrap();
    assert_eq!(say(&there), before);
    let config = fs::read(there.join("run/finetune/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["bunny_base_path"], "../../base");
    assert_eq!(config["bunny_vision_tower_path"], "../../tower");
    // Of what is merged all parts are inside.
    let (model, merged) = (there.join("run/finetune"), there.join("merged"));
    let done = bunny_in(
        elsewhere.path(),
        &["merge", "--model", text(&model), "--out", text(&merged)],
    );
    succeeds(&done);
    let config = fs::read_to_string(merged.join("config.json")).unwrap();
    assert!(!config.contains("bunny_base_path"));
}

#[test]
fn work_that_takes_more_memory_than_there_is_stops_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let large = ["--no-scan", "--set=per_device_train_batch_size=1000000000"];
    let refused = complaint(&train(&out, &large));
    for word in ["pretrain", "GB of memory", "--over-memory"] {
        assert!(refused.contains(word), "{refused}");
    }
    let arguments = [
        "data",
        "coreset",
        "--embeddings",
        "x",
        "--out",
        "y",
        "--memory",
        "900000GB",
    ];
    let refused = complaint(&bunny(&arguments));
    assert!(refused.contains("--over-memory"), "{refused}");
    let leave = bunny(&[&arguments[..], &["--over-memory"]].concat());
    assert!(!complaint(&leave).contains("--over-memory"));
}

#[test]
fn what_is_made_from_nothing_has_to_fit_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    write("texts.jsonl", "{\"text\": \"a red circle\"}\n");
    write("pairs.json", "[]");
    let recipe = format!(
        "format_version = 1\nname = \"large\"\nper_device_train_batch_size = 1000000000\n\
         [language]\ndata_path = \"texts.jsonl\"\nvocab_size = 300\n\
         [contrastive]\ndata_path = \"pairs.json\"\ntokenizer = {:?}\n",
        fixture("phi-siglip")
    );
    let recipe = write("large.toml", &recipe);
    for (stage, mend) in [
        ("language", "gradient_checkpointing = true"),
        ("contrastive", "image_size"),
    ] {
        let refused = complaint(&bunny_in(
            folder.path(),
            &["train", text(&recipe), "--no-scan", "--stage", stage],
        ));
        for word in [stage, "GB of memory", mend, "--over-memory"] {
            assert!(refused.contains(word), "{refused}");
        }
    }
}

#[test]
fn the_system_may_speak_first() {
    let folder = tempfile::tempdir().unwrap();
    let says = |records: &str| {
        let file = folder.path().join("records.json");
        fs::write(&file, records).unwrap();
        bunny(&["data", "validate", text(&file)])
    };
    let turns = r#"{"from":"human","value":"What?"},{"from":"gpt","value":"A bus."}"#;
    let system = r#"{"from":"system","value":"Be brief."}"#;
    succeeds(&says(&format!(
        r#"[{{"id":"a","conversations":[{system},{turns}]}}]"#
    )));
    let late = says(&format!(
        r#"[{{"id":"a","conversations":[{turns},{system}]}}]"#
    ));
    assert_eq!(late.status.code(), Some(1));
    let said = String::from_utf8_lossy(&late.stdout).into_owned();
    assert!(
        said.contains("the system speaks first or not at all"),
        "{said}"
    );
}

#[test]
fn a_picture_comes_by_standard_input_or_inside_its_address() {
    let (model, picture) = (fixture("phi-siglip"), fixture("wide.png"));
    let arguments = |image: &str| {
        let words = [
            "score",
            "--model",
            text(&model),
            "--prompt",
            "What?",
            "--answer",
            "A bus.",
        ];
        [&words[..], &["--image", image]]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect()
    };
    let ask = |image: &str, input: &[u8]| {
        let arguments: Vec<String> = arguments(image);
        let mut child = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = child.stdin.take().unwrap();
        // Whoever does not read it may be gone.
        let _ = to.write_all(input);
        drop(to);
        child.wait_with_output().unwrap()
    };
    let bytes = fs::read(&picture).unwrap();
    let from_file = json_lines(&ask(text(&picture), b""))[0].clone();
    assert_eq!(json_lines(&ask("-", &bytes))[0], from_file);
    let inside = bunny_eval::picture::data_url(&bytes);
    assert_eq!(json_lines(&ask(&inside, b""))[0], from_file);
    assert!(complaint(&ask("-", b"nonsense")).contains("standard input"));
}

#[test]
fn pictures_are_fetched_from_the_open_net_alone() {
    let ask = [
        "chat",
        "--prompt",
        "Hi",
        "--image",
        "http://127.0.0.1:9/a.png",
    ];
    let refused = complaint(&bunny(&ask));
    assert!(refused.contains("--allow-private-addresses"), "{refused}");
    let allowed = bunny(&[&ask[..], &["--allow-private-addresses"]].concat());
    assert!(!complaint(&allowed).contains("--allow-private-addresses"));
}

#[test]
fn names_that_move_a_terminal_are_shown_and_not_obeyed() {
    let name = "no\u{1b}[2Jthing\u{202e}";
    for arguments in [
        &["chat", "--model", name, "--prompt", "Hi"][..],
        &["data", "stats", name],
        &["train", name],
        &["recipe", "show", name],
        &["model", "inspect", name],
        &["eval", "run", "pope", "--data", name, "--out", name],
    ] {
        let told = complaint(&bunny(arguments));
        let moves = |letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}';
        assert!(!told.contains(moves), "{arguments:?}: {told:?}");
        assert!(told.contains("thing"), "{told}");
    }
}

#[test]
fn a_file_that_is_there_is_written_over_when_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("notes.json");
    let recipe = folder.path().join("mix.toml");
    fs::write(
        &recipe,
        "format_version = 1\nname = \"mix\"\n[[source]]\nname = \"all\"\npath = \"records.json\"\n",
    )
    .unwrap();
    let data = records(folder.path(), |_| {});
    let (data, recipe, root) = (text(&data), text(&recipe), text(folder.path()));
    for arguments in [
        &["data", "mix", recipe, "--data", root, "--out"][..],
        &["data", "stats", data, "--html"],
        &["data", "preview", data, "--out"],
        &["data", "validate", data, "--report"],
        &["data", "validate", data, "--fix"],
    ] {
        fs::write(&mine, "mine").unwrap();
        let written = [arguments, &[text(&mine)]].concat();
        let refused = complaint(&bunny(&written));
        assert!(
            refused.contains("notes.json: is there already"),
            "{refused}"
        );
        assert_eq!(fs::read(&mine).unwrap(), b"mine", "{arguments:?}");
        succeeds(&bunny(&[&written[..], &["--force"]].concat()));
        assert_ne!(fs::read(&mine).unwrap(), b"mine", "{arguments:?}");
        // What stands beside what is written is as good as it.
        for beside in ["notes.json.manifest.json", "notes.json.dropped.jsonl"] {
            let _ = fs::remove_file(folder.path().join(beside));
        }
    }
}

#[test]
fn a_page_does_not_take_the_place_of_the_answers_that_it_compares() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let questions = write(
        "own.jsonl",
        "{\"question\": \"What is it?\", \"answer\": \"a bus\"}\n",
    );
    let answer = |said: &str| format!("{{\"question_id\": 1, \"text\": \"{said}\"}}\n");
    let (a, b) = (
        write("a.jsonl", &answer("a bus")),
        write("b.jsonl", &answer("a cat")),
    );
    let compared = |page: &Path, more: &[&str]| {
        let arguments = [
            "eval",
            "qa",
            text(&questions),
            "--answers",
            text(&a),
            "--against",
            text(&b),
            "--page",
            text(page),
        ];
        bunny(&[&arguments[..], more].concat())
    };
    for read in [&a, &b, &questions] {
        let before = fs::read(read).unwrap();
        for more in [&[][..], &["--force"]] {
            let refused = complaint(&compared(read, more));
            assert!(refused.contains("it is read"), "{refused}");
            assert_eq!(fs::read(read).unwrap(), before);
        }
    }
    let page = folder.path().join("page.html");
    succeeds(&compared(&page, &[]));
    assert!(complaint(&compared(&page, &[])).contains("is there already"));
    succeeds(&compared(&page, &["--force"]));
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_told() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["chat", "--help"],
        &["model", "list"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
            .args(arguments)
            .stdout(full.unwrap())
            .output()
            .unwrap();
        let told = complaint(&output);
        assert!(told.contains("standard output: No space left"), "{told}");
    }
    // A file may have a few blocks, and the weights take more.
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().join("merged"), fixture("phi-siglip-lora"));
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 8; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_bunny-cli"), "merge", "--model"])
        .arg(model.join("bunny-lora"))
        .arg("--model-base")
        .arg(model.join("base"))
        .arg("--vision-tower")
        .arg(model.join("siglip-tower"))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let told = complaint(&output);
    assert!(told.contains("File too large"), "{told}");
    let mut left = fs::read_dir(&out).into_iter().flatten();
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
    assert!(!left.any(|entry| hidden(&entry.unwrap().file_name())));
}

#[test]
fn a_recipe_takes_the_names_of_the_list_of_models() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    let named = "--set=model_name_or_path=bunny-phi-2-siglip";
    for arguments in [
        &["train", "mine.toml", "--no-scan", named][..],
        &["train", "mine.toml", "--dry-run", named],
        &["train", "inspect", "mine.toml", named],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
            .args(arguments)
            .current_dir(folder.path())
            // Where nothing was downloaded, and nothing can be.
            .env("HF_HOME", folder.path().join("hub"))
            .env_remove("HF_HUB_CACHE")
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let told = complaint(&output);
        assert!(told.contains("BAAI/Bunny-v1_0-3B"), "{told}");
    }
}

#[test]
fn counts_that_no_machine_has_are_refused() {
    let huge = "18446744073709551615";
    for arguments in [
        &["eval", "qa", "x.tsv", "--batch"][..],
        &["ask", "x.tsv", "--out", "y", "--batch"],
        &["data", "stats", "x", "--tokenizer", "y", "--picture-tokens"],
        &["bench", "train", "--batch"],
        &["bench", "train", "--positions"],
    ] {
        let output = bunny(&[arguments, &[huge]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("invalid value"), "{told}");
    }
}
