//! Benchmarks as a user asks, scores and tabulates them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{bunny, complaint, fixture, json_lines, text};

fn benchmarks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bunny-eval/tests/fixtures")
}

fn run<'a>(model: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "eval", "run", "pope", "--model", model, "--data", data, "--out", out, "--format", "json",
    ];
    arguments.extend(more);
    arguments
}

#[test]
fn a_killed_run_of_a_benchmark_ends_with_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let (model, data) = (fixture("phi-siglip"), benchmarks());
    let (model, data) = (text(&model), text(&data));
    let whole = at("whole");
    let report = json_lines(&bunny(&run(model, data, text(&whole), &[])));
    assert_eq!(report.len(), 1);
    assert_eq!(report[0]["benchmarks"][0]["answered"], 23);
    let answers = |out: &Path| std::fs::read(out.join("pope.jsonl")).unwrap_or_default();
    let expected = answers(&whole);

    let killed = at("killed");
    for (kills, lines) in [(1, 4), (2, 11)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
            .args(run(model, data, text(&killed), &["--batch", "1"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let written = || {
            answers(&killed)
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
        };
        while written() < lines && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // As a kill in the midst of a write.
        let mut torn = answers(&killed);
        torn.extend_from_slice(b"{\"question_id\": 3, \"pro");
        std::fs::write(killed.join("pope.jsonl"), torn).unwrap();
        assert!(written() >= lines, "kill {kills}");
    }
    let report = json_lines(&bunny(&run(model, data, text(&killed), &["--batch", "5"])));
    assert_eq!(answers(&killed), expected);
    assert_eq!(report[0]["benchmarks"][0]["missing"], 0);
    let told = complaint(&bunny(&run(
        model,
        data,
        text(&killed),
        &["--max-new-tokens", "3"],
    )));
    assert!(
        told.contains("line 1: options differ") && told.contains("max_new_tokens=3 "),
        "{told}"
    );

    // In parts.
    let parts: Vec<PathBuf> = ["1/2", "2/2"]
        .into_iter()
        .map(|part| {
            let out = at("parts");
            json_lines(&bunny(&run(model, data, text(&out), &["--shard", part])));
            out.join(format!("pope.{}.jsonl", part.replace('/', "-of-")))
        })
        .collect();
    let merged = at("merged.jsonl");
    let output = bunny(&[
        "eval",
        "merge",
        "pope",
        text(&parts[1]),
        text(&parts[0]),
        "--data",
        data,
        "--out",
        text(&merged),
    ]);
    assert!(output.status.success());
    assert_eq!(std::fs::read(merged).unwrap(), expected);
}

#[test]
fn the_first_questions_make_no_submission() {
    let root = tempfile::tempdir().unwrap();
    let (model, data) = (fixture("phi-siglip"), benchmarks());
    let asked = |out: &Path, more: &[&str]| -> Value {
        let mut arguments = vec![
            "eval",
            "run",
            "mmbench-dev",
            "--model",
            text(&model),
            "--data",
            text(&data),
            "--out",
            text(out),
            "--max-new-tokens",
            "4",
            "--format",
            "json",
        ];
        arguments.extend(more);
        json_lines(&bunny(&arguments)).remove(0)["benchmarks"][0].take()
    };
    let (part, whole) = (root.path().join("part"), root.path().join("whole"));
    let report = asked(&part, &["--limit", "5"]);
    assert_eq!(
        (&report["partial"], &report["answered"]),
        (&true.into(), &5.into())
    );
    assert!(!part.join("submission").exists());
    let report = asked(&whole, &[]);
    assert_eq!(report["partial"], false);
    assert!(whole.join("submission/mmbench-dev").is_dir(), "{report}");
}

#[test]
fn questions_of_ones_own_are_asked_judged_and_compared() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let (model, questions) = (fixture("phi-siglip"), at("q.tsv"));
    std::fs::copy(fixture("wide.png"), at("wide.png")).unwrap();
    std::fs::write(
        &questions,
        "question\tanswer\timage\nWhat is this?\tnothing\twide.png\nSum?\t4\t\n",
    )
    .unwrap();
    let answers = at("answers.jsonl");
    let qa = |more: &[&str]| {
        let mut arguments = vec!["eval", "qa", text(&questions), "--model", text(&model)];
        arguments.extend(more);
        arguments.extend(["--format", "json"]);
        json_lines(&bunny(&arguments)).remove(0)
    };
    let report = qa(&["--out", text(&answers), "--max-new-tokens", "4"]);
    assert_eq!(
        (&report["questions"], &report["missing"]),
        (&2.into(), &0.into())
    );

    // The same rows, right by hand.
    let right = at("right.jsonl");
    let text_of =
        |id: usize, said: &str| format!("{{\"question_id\": {id}, \"text\": \"{said}\"}}\n");
    std::fs::write(&right, text_of(1, "Nothing.") + &text_of(2, "4")).unwrap();
    assert_eq!(qa(&["--answers", text(&right)])["score"], 100.0);
    let compared = qa(&["--answers", text(&answers), "--against", text(&right)]);
    assert_eq!(
        (&compared["only_b"], &compared["paired"]),
        (&2.into(), &2.into())
    );

    // Without right answers they are asked alike.
    let asked = at("asked.jsonl");
    let output = bunny(&[
        "ask",
        text(&questions),
        "--model",
        text(&model),
        "--out",
        text(&asked),
        "--max-new-tokens",
        "4",
    ]);
    assert!(output.status.success());
    assert_eq!(
        std::fs::read(asked).unwrap(),
        std::fs::read(answers).unwrap()
    );
}

#[test]
fn table_2_is_trained_and_made_at_tiny_size() {
    let root = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/table-2.sh");
    let make = |dry_run: &str| {
        Command::new("bash")
            .arg(&script)
            .env("TINY", "1")
            .env("DRY_RUN", dry_run)
            .env("ONLY", "phi-1.5-siglip stablelm-2-eva")
            .env("BENCHMARKS", "mme scienceqa")
            .env("OUT", root.path())
            .env("BUNNY", env!("CARGO_BIN_EXE_bunny-cli"))
            .output()
            .unwrap()
    };
    // The plan is all, and nothing is trained.
    let planned = make("1");
    assert!(planned.status.success(), "{planned:?}");
    let plan = String::from_utf8_lossy(&planned.stdout);
    assert_eq!(
        plan.trim_end(),
        "plan: phi-1.5-siglip stablelm-2-eva; then mme scienceqa"
    );
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);

    let output = make("");
    assert!(output.status.success(), "{output:?}");
    let table = std::fs::read_to_string(root.path().join("table-2.markdown")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[2].starts_with("| **stablelm-2-eva** |"), "{table}");
    assert!(
        lines[3].starts_with("| bunny-stablelm-2-eva-lora (published) |"),
        "{table}"
    );
    assert!(lines[5].starts_with("| **phi-1.5-siglip** |"), "{table}");
    // What is done is not done again.
    let again = make("");
    assert!(again.status.success());
    assert!(
        !String::from_utf8_lossy(&again.stderr).contains("finetune"),
        "{again:?}"
    );
}
