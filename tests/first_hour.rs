//! What a newcomer meets: the next step after a training, errors that mend, and what a machine can do.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bunny-cli"))
}

/// Runs the program from the root of the workspace, whose paths recipes name.
fn bunny(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(root())
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a failed command says, which must be one line.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The small recipe, whose records are looked at as held-out ones too.
fn train(out: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["train", "recipes/tiny.toml", "--out", text(out)];
    arguments.extend(["--set", "max_steps=4"]);
    arguments.extend([
        "--set",
        "finetune.eval_data_path=tests/fixtures/training/finetune.json",
        "--set",
        "finetune.eval_steps=2",
    ]);
    arguments.extend(more);
    bunny(&arguments)
}

#[test]
#[cfg(unix)]
fn a_training_ends_with_its_losses_and_with_commands_that_run_as_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    // A path that a shell would take for two.
    let out = folder.path().join("my run");
    let output = train(&out, &["--set", "finetune.load_best_model_at_end=true"]);
    let said = printed(&output);
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    let line = |step: usize| {
        let start = format!("finetune {step}/4 ");
        log.lines()
            .find(|line| line.starts_with(&start))
            .unwrap()
            .to_owned()
    };
    assert!(
        line(1).ends_with(" left") && !line(1).contains("eval_loss"),
        "{log}"
    );
    assert!(
        line(2).contains(" eval_loss ") && line(4).contains(" eval_loss "),
        "{log}"
    );
    assert!(!line(4).contains(" left"), "{log}");
    for part in [
        "finetune: 4 steps",
        " at first, ",
        "; eval_loss ",
        "best eval_loss ",
        "these weights are left",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let commands: Vec<&str> = said
        .lines()
        .filter_map(|line| line.find("bunny-cli ").map(|at| &line[at..]))
        .collect();
    let verbs: Vec<&str> = commands
        .iter()
        .map(|command| command.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(verbs, ["chat", "eval", "merge", "train"]);
    for command in &commands {
        let mut command = (*command).to_owned();
        if command.contains(" chat ") {
            // Else it waits for somebody to say something.
            command += " --prompt Hi --max-new-tokens 2";
        }
        let output = Command::new("bash")
            .args(["-c", &command.replacen("bunny-cli", text(program()), 1)])
            .current_dir(root())
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        printed(&output);
    }

    let card = fs::read_to_string(folder.path().join("my run/merged/README.md")).unwrap();
    for part in [
        "# merged",
        "| base | `base` |",
        "| data | `finetune.json` |",
        "lora_r = 8",
        "## Figures",
        "licence",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // Where it was made is nobody's business.
    assert!(!card.contains(text(folder.path())), "{card}");
}

#[test]
fn a_training_tells_a_program_in_a_line_of_json_how_each_stage_went() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let best = "finetune.load_best_model_at_end=true";
    let output = train(&out, &["--set", best, "--format", "json"]);
    let lines: Vec<Value> = printed(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // What people read goes another way.
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    for part in ["finetune: ", "finetune 4/4 "] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, stage) in lines.iter().zip(["pretrain", "finetune"]) {
        assert_eq!(line["format_version"], 1);
        assert_eq!(line["stage"], stage);
        assert_eq!(line["steps"], 4);
        assert_eq!(line["total_steps"], 4);
        assert_eq!(line["stopped_early"], false);
        assert!(line["seconds"].as_f64().unwrap() > 0.0);
        let left = Path::new(line["folder"].as_str().unwrap());
        assert_eq!(left, out.join(stage));
        // The losses are those of the file that it names.
        let steps = fs::read_to_string(line["metrics"].as_str().unwrap()).unwrap();
        let losses: Vec<f64> = steps
            .lines()
            .map(|step| serde_json::from_str::<Value>(step).unwrap()["loss"].as_f64())
            .map(Option::unwrap)
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        for (key, expected) in [("first_loss", losses[0]), ("loss", mean)] {
            let told = line[key].as_f64().unwrap();
            // Read from JSON, and summed, in f64.
            let far = (told - expected).abs();
            assert!(far <= 1e-12 * expected.abs(), "{key}: {told} {expected}");
        }
        assert_eq!(line["loss_steps"], 4);
    }
    assert_eq!(lines[0]["best"], Value::Null);
    let best = &lines[1]["best"];
    assert_eq!(best["weights_are_left"], true);
    assert!(best["eval_loss"].as_f64() <= lines[1]["eval_loss"].as_f64());
    assert!(Path::new(best["checkpoint"].as_str().unwrap()).is_dir());

    let refused = train(&out, &["--dry-run", "--format", "json"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_last_evaluation_ends_nothing_early_and_records_that_are_no_questions_are_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let records = fs::read(root().join("tests/fixtures/training/finetune.json")).unwrap();
    let records: Vec<Value> = serde_json::from_slice(&records).unwrap();
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    let file = folder.path().join("held out.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let file = format!("finetune.eval_data_path={}", text(&file));
    // Nothing gets better: the second evaluation, at the last step, is one too many.
    let out = folder.path().join("run");
    let said = printed(&train(
        &out,
        &[
            "--set",
            &file,
            "--set=max_steps=2",
            "--set=finetune.eval_steps=1",
            "--set=finetune.learning_rate=1e-30",
            "--set=finetune.mm_projector_lr=1e-30",
            "--set=finetune.early_stopping_patience=1",
        ],
    ));
    assert!(said.contains("finetune: 2 steps, done in"), "{said}");
    assert!(!said.contains("ended before"), "{said}");
    assert!(
        said.contains("to examine it       write questions for `bunny-cli eval qa`"),
        "{said}"
    );
}

#[test]
fn a_dry_run_computes_for_the_longest_record_and_says_what_the_machine_has() {
    let folder = tempfile::tempdir().unwrap();
    let said = printed(&train(folder.path(), &["--dry-run", "--stage", "finetune"]));
    let longest = said.split("the longest has ").nth(1).unwrap();
    let longest = longest.split_whitespace().next().unwrap();
    let line = said
        .lines()
        .find(|line| line.contains("  memory "))
        .unwrap();
    assert!(
        line.ends_with(&format!(
            "computed for the longest record, of {longest} positions"
        )),
        "{said}"
    );
    #[cfg(unix)]
    assert!(said.contains("  this machine "), "{said}");
    assert!(!said.contains("it will not fit"), "{said}");

    let mut wide = vec!["--dry-run", "--stage", "finetune"];
    wide.extend(["--set", "per_device_train_batch_size=80000000"]);
    let said = printed(&train(folder.path(), &wide));
    #[cfg(unix)]
    assert!(
        said.contains("it will not fit: take a smaller per_device"),
        "{said}"
    );
}

#[test]
fn what_was_mistyped_is_told_with_its_mend() {
    let folder = tempfile::tempdir().unwrap();
    let stage = folder.path().join("stage.toml");
    let tiny = fs::read_to_string(root().join("recipes/tiny.toml")).unwrap();
    fs::write(&stage, tiny.replace("[finetune]", "[sft]")).unwrap();
    let alone = folder.path().join("alone.toml");
    let (before, finetune) = tiny.split_once("[pretrain]").unwrap();
    let finetune = finetune.split_once("[finetune]").unwrap().1;
    fs::write(&alone, format!("{before}[finetune]{finetune}")).unwrap();
    let adapter = "tests/fixtures/models/phi-siglip-lora/bunny-lora";
    let llama = folder.path().join("llama");
    fs::create_dir(&llama).unwrap();
    fs::write(
        llama.join("config.json"),
        r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}"#,
    )
    .unwrap();
    let adapted = format!("model_name_or_path={adapter}");
    let gguf = folder.path().join("gguf");
    let model = "tests/fixtures/models/phi-siglip";
    printed(&bunny(&["export", "gguf", model, "--out", text(&gguf)]));
    let in_gguf = format!("model_name_or_path={}", text(&gguf));
    let as_file = format!("{in_gguf}/phi-siglip-f16.gguf");
    for (arguments, told) in [
        (
            &["train", text(&stage), "--dry-run"][..],
            "there is no stage `sft`; stages are language, contrastive, pretrain, finetune",
        ),
        (
            &["train", "recipes/tiny.toml", "--set", "quantization_bit=4"],
            "quantization_bit: there is no such key; `bunny-cli train keys` lists them",
        ),
        (
            &["train", text(&alone), "--set", "pretrain.learning_rate=1"],
            "this recipe has no stage pretrain for it; it has finetune",
        ),
        (
            &[
                "train",
                "recipes/tiny.toml",
                "--set",
                "finetune.lora_alpha=nan",
            ],
            "finetune.lora_alpha: must be a finite number",
        ),
        (
            &["train", "recipes/tiny.toml", "--set", "learning_rate=1e30"],
            "learning_rate: must be above 0, and at most 100",
        ),
        (
            &["chat", "--model", text(&llama), "--prompt", "Hi"],
            "`llama`",
        ),
        (
            &["train", "recipes/tiny.toml", "--dry-run", "--set", &adapted],
            "merge it first",
        ),
        (
            &["train", "recipes/tiny.toml", "--dry-run", "--set", &in_gguf],
            "a model in GGUF, which training does not start from",
        ),
        (
            &["train", "recipes/tiny.toml", "--dry-run", "--set", &as_file],
            "make a folder of it first",
        ),
        (
            &[
                "train",
                text(&alone),
                "--dry-run",
                "--set",
                "init_adapter=bunny-core/tests/fixtures/adapters/dora",
            ],
            "adapters/dora: the adapter does not fit the model: it is more than plain LoRA",
        ),
        (
            &[
                "data",
                "plan",
                "--rows",
                "1000",
                "--dim",
                "8",
                "--clusters",
                "10000",
            ],
            "more clusters than rows",
        ),
    ] {
        let said = complaint(&bunny(arguments));
        assert!(said.contains(told), "{arguments:?}: {said}");
        // Nothing is said twice.
        let clauses: Vec<&str> = said.trim_start_matches("error: ").split(": ").collect();
        for (at, clause) in clauses.iter().enumerate() {
            assert!(!clauses[..at].contains(clause), "{said}");
        }
    }
    let flagged = bunny(&["train", "--recipe", "my recipe.toml"]);
    assert_eq!(flagged.status.code(), Some(2));
    let said = String::from_utf8(flagged.stderr).unwrap();
    assert!(
        said.contains("goes without a flag: bunny-cli train 'my recipe.toml'"),
        "{said}"
    );
}

#[test]
fn a_file_without_a_record_passes_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    for (name, contents) in [
        ("list.json", "[]"),
        ("empty.json", ""),
        ("blank.jsonl", "\n\n"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, contents).unwrap();
        for arguments in [
            &["data", "stats", text(&file), "--html", text(&page)][..],
            &["data", "validate", text(&file), "--report", text(&page)],
            &["data", "preview", text(&file), "--out", text(&page)],
            &["ask", text(&file), "--out", text(&page)],
        ] {
            let said = complaint(&bunny(arguments));
            assert!(said.contains(name), "{said}");
            let told = [
                "there are no records in it",
                "there is no question in it",
                "the file is empty",
                "not a list of conversations",
            ];
            assert!(told.iter().any(|told| said.contains(told)), "{said}");
            assert!(!page.exists(), "{arguments:?}");
        }
    }
}

#[test]
fn a_selections_page_names_options_as_the_flags_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let (world, out) = (folder.path().join("world"), folder.path().join("coreset"));
    printed(&bunny(&[
        "data",
        "synth",
        "--out",
        text(&world),
        "--pairs",
        "40",
        "--conversations",
        "1",
        "--questions",
        "11",
        "--texts",
        "1",
        "--seed",
        "1",
    ]));
    printed(&bunny(&[
        "data",
        "coreset",
        "--embeddings",
        text(&world.join("embeddings")),
        "--out",
        text(&out),
        "--clusters",
        "2",
        "--centroid-window",
        "none",
    ]));
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    let help = printed(&bunny(&["data", "coreset", "--help"]));
    let told: Vec<&str> = page
        .split("<td>--")
        .skip(1)
        .map(|row| row.split("</td>").next().unwrap())
        .collect();
    assert!(told.len() > 20, "{told:?}");
    for flag in told {
        assert!(help.contains(&format!("--{flag} <")), "--{flag}");
    }
    let marked = page.matches("<tr class=\"set\"><td>--").count();
    assert_eq!(marked, 2, "{page}");
    assert!(!page.contains("<pre>"));
}

#[test]
fn a_backend_that_is_not_built_in_is_refused_at_once_with_the_line_that_builds_it() {
    for (name, is_built_in) in [
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("ndarray", cfg!(feature = "ndarray")),
    ] {
        if is_built_in {
            continue;
        }
        // The recipe, which is not there, is not even looked for.
        let refused = bunny(&["train", "nowhere.toml", "--backend", name]);
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8(refused.stderr).unwrap();
        let line = format!("cargo install --path bunny-cli --features {name}");
        assert!(said.contains(&line) && !said.contains("nowhere"), "{said}");
    }
}

#[test]
fn without_a_network_nobody_waits() {
    // Nobody listens where somebody just did.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let cache = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let output = Command::new(program())
        .args(["chat", "--model", "BAAI/Bunny-v1_0-3B", "--prompt", "Hi"])
        .env("HF_ENDPOINT", format!("http://{port}"))
        .env("HF_HOME", cache.path())
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let said = complaint(&output);
    assert!(
        said.starts_with("error: ") && said.contains("cannot reach"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn bash_completes_verbs_options_and_values() {
    let script = printed(&bunny(&["completions", "bash"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bunny-cli");
    fs::write(&file, &script).unwrap();
    for (words, expected) in [
        ("bunny-cli tr", "train"),
        ("bunny-cli data cor", "coreset"),
        ("bunny-cli chat --back", "--backend"),
        ("bunny-cli chat --backend cu", "cuda"),
    ] {
        let count = words.split(' ').count();
        let asked = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={}; cur=${{COMP_WORDS[-1]}}; \
             prev=${{COMP_WORDS[-2]}}; complete=$(complete -p bunny-cli); \
             complete=${{complete##*-F }}; ${{complete%% *}} bunny-cli \"$cur\" \"$prev\"; \
             echo \"${{COMPREPLY[@]}}\"",
            file.display(),
            count - 1
        );
        let output = Command::new("bash").args(["-c", &asked]).output().unwrap();
        let proposed = printed(&output);
        assert!(
            proposed.split_whitespace().any(|word| word == expected),
            "{words}: {proposed}"
        );
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let script = printed(&bunny(&["completions", shell]));
        assert!(script.contains("coreset"), "{shell}");
    }
}

#[test]
fn doctor_says_what_the_machine_and_the_build_can_do() {
    let report: Value =
        serde_json::from_str(&printed(&bunny(&["doctor", "--format", "json"]))).unwrap();
    assert_eq!(report["format_version"], 1);
    assert!(report["processor"]["threads"].as_u64().unwrap() >= 1);
    let measured = |name: &str| report["measured"][name].as_f64().unwrap();
    // Slower than any machine this runs on, and faster than any there is.
    let (bandwidth, products) = (measured("bytes_per_second"), measured("f32_tflops"));
    assert!((1e8..1e13).contains(&bandwidth), "{bandwidth}");
    assert!((1e-4..1e3).contains(&products), "{products}");
    let backends = report["backends"].as_array().unwrap();
    let cpu = backends
        .iter()
        .find(|backend| backend["name"] == "cpu")
        .unwrap();
    assert!(cpu["problem"].is_null(), "{cpu}");
    let fits = report["fits"].as_array().unwrap();
    assert_eq!(fits.len(), 12);
    let shown = printed(&bunny(&["doctor"]));
    for part in [
        "processor ",
        "memory ",
        "TFLOP/s",
        "backend     cpu      ready",
        "bunny-phi-2-siglip",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
