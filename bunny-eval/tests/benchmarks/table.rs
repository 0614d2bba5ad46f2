//! Tables from results, and two models on the same questions.

use std::path::{Path, PathBuf};

use bunny_eval::compare::compare;
use bunny_eval::score::Suite;
use bunny_eval::table::{COLUMNS, Entered, Label, Layout, Table, TableForm, write_report};
use bunny_eval::{Answers, Benchmark, Convention, folder};
use serde_json::Value;

use crate::fixtures;

fn suite(benchmark: Benchmark) -> Suite {
    Suite::read(benchmark, folder(benchmark, fixtures()).unwrap()).unwrap()
}

fn answers(suite: &Suite, name: &str) -> Answers {
    suite
        .answers(fixtures().join(format!("answers/{name}.jsonl")))
        .unwrap()
}

fn label(name: &str, tower: &str, language: &str) -> Label {
    Label {
        name: name.to_owned(),
        vision_tower: Some(tower.to_owned()),
        language_model: Some(language.to_owned()),
    }
}

/// A folder of results of everything that is scored here, and of two figures of servers.
fn results(root: &Path, label: &Label) -> PathBuf {
    let into = root.join(&label.name);
    for benchmark in Benchmark::ALL {
        let suite = suite(benchmark);
        let report = suite
            .score(&answers(&suite, benchmark.name()), Convention::Reference)
            .unwrap();
        write_report(&into, &report).unwrap();
    }
    Entered::new(
        Benchmark::MmbenchTest,
        &[(None, 70.25)],
        Some("2026-11-30".to_owned()),
    )
    .unwrap()
    .write(&into)
    .unwrap();
    Entered::new(Benchmark::MmmuTest, &[(None, 0.335)], None)
        .unwrap()
        .write(&into)
        .unwrap();
    label.write(&into).unwrap();
    into
}

#[test]
fn a_row_has_eleven_figures_beside_the_published_ones() {
    let root = tempfile::tempdir().unwrap();
    let into = results(root.path(), &label("ours", "siglip", "phi-2"));
    let table = Table::of(&[into], Convention::Reference, Layout::Models, None).unwrap();
    let json: Value = serde_json::from_str(&table.written(TableForm::Json).unwrap()).unwrap();
    let row = &json["rows"][0];
    assert_eq!(row["published"]["name"], "Bunny-v1_0-3B");
    let values: Vec<Option<f64>> = row["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["value"].as_f64())
        .collect();
    // What the reference's scripts said of these answers; VQAv2's server has not answered.
    let expected = [
        875.0,
        650.0,
        70.25,
        28.57,
        68.42,
        65.0,
        33.5,
        f64::NAN,
        55.56,
        30.77,
        61.111_111_111,
    ];
    assert_eq!(values.len(), COLUMNS.len());
    for ((value, expected), column) in values.iter().zip(expected).zip(COLUMNS) {
        match value {
            None => assert!(expected.is_nan(), "{}", column.heading),
            Some(value) => assert!(
                (value - expected).abs() < 1e-6,
                "{}: {value}",
                column.heading
            ),
        }
    }
    // 875 less 1488.8, the interval moved alike.
    let difference = &row["differences"][0];
    assert!((difference["value"].as_f64().unwrap() + 613.8).abs() < 1e-9);
    let (low, own) = (
        &difference["interval"]["low"],
        &row["entries"][0]["interval"]["low"],
    );
    assert!((low.as_f64().unwrap() - (own.as_f64().unwrap() - 1488.8)).abs() < 1e-9);
    assert_eq!(row["differences"][7], Value::Null);
    assert_eq!(json["peers"].as_array().unwrap().len(), 22);
}

#[test]
fn tables_are_written_for_readmes_papers_and_pages() {
    let root = tempfile::tempdir().unwrap();
    results(root.path(), &label("b_ours & co", "siglip", "phi-1.5"));
    results(root.path(), &label("a <ours>", "eva", "phi-2"));
    // A folder of folders; the paper's order is EVA first.
    let table = Table::of(
        &[root.path()],
        Convention::Reference,
        Layout::Combinations,
        None,
    )
    .unwrap();
    let markdown = table.written(TableForm::Markdown).unwrap();
    let lines: Vec<&str> = markdown.lines().collect();
    assert!(
        lines[0].starts_with("| model | MME^P | MME^C | MMB^T | MMB^D | SEED |"),
        "{markdown}"
    );
    assert!(
        lines[2].starts_with("| **a <ours>** | 875.0 ["),
        "{markdown}"
    );
    assert!(
        lines[2].contains("| 70.2\\* |") && lines[2].contains("| – |"),
        "{markdown}"
    );
    assert!(
        lines[3].starts_with("| bunny-phi-2-eva-lora (published) | 1421.0 | 285.4 |"),
        "{markdown}"
    );
    assert!(
        lines[4].starts_with("| difference | -546.0 ["),
        "{markdown}"
    );
    assert!(lines[5].starts_with("| **b_ours & co** |"), "{markdown}");
    assert!(
        lines[0].matches('|').count() == 13
            && lines[2..8]
                .iter()
                .all(|line| line.matches('|').count() == 13)
    );

    let latex = table.written(TableForm::Latex).unwrap();
    assert!(
        latex.contains("Model & MME$^{\\mathrm{P}}$ & MME$^{\\mathrm{C}}$"),
        "{latex}"
    );
    assert!(
        latex.contains("\\textbf{b\\_ours \\& co} & 875.0") && latex.contains(" & -- & "),
        "{latex}"
    );
    assert!(
        latex
            .lines()
            .filter(|line| line.ends_with("\\\\"))
            .all(|line| line.matches(" & ").count() == 11)
    );

    let html = table.written(TableForm::Html).unwrap();
    assert!(
        html.contains("<th>MME<sup>P</sup></th>") && html.contains("<td>a &lt;ours&gt;</td>"),
        "{html}"
    );
}

#[test]
fn what_no_table_can_hold_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let empty = Table::of(&[root.path()], Convention::Reference, Layout::Models, None).unwrap_err();
    assert!(
        empty
            .to_string()
            .contains("there are no results under reference in it"),
        "{empty}"
    );
    let told = |benchmark, name: Option<&str>, value| {
        Entered::new(benchmark, &[(name.map(str::to_owned), value)], None)
            .unwrap_err()
            .to_string()
    };
    assert!(told(Benchmark::Mme, None, 1.0).contains("name one of perception, cognition"));
    assert!(told(Benchmark::Gqa, Some("f1"), 1.0).contains("no figure `f1`: name one of accuracy"));
    assert!(told(Benchmark::MmmuTest, None, 33.0).contains("between 0 and 1"));
    assert!(told(Benchmark::Mme, Some("perception"), f64::NAN).contains("between 0 and 2000"));
    let into = results(root.path(), &label("ours", "siglip", "phi-2"));
    let report = into.join("gqa.reference.json");
    let newer = std::fs::read_to_string(&report)
        .unwrap()
        .replace("\"format_version\": 1", "\"format_version\": 2");
    std::fs::write(&report, newer).unwrap();
    let error = Table::of(&[into], Convention::Reference, Layout::Models, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("gqa.reference.json: format_version 2 is newer than 1"),
        "{error}"
    );
}

#[test]
fn a_part_is_marked_in_its_report_and_its_table_and_cannot_be_submitted() {
    let root = tempfile::tempdir().unwrap();
    for benchmark in Benchmark::ALL {
        let mut part = suite(benchmark);
        part.limit(5);
        let lines =
            std::fs::read_to_string(fixtures().join(format!("answers/{benchmark}.jsonl"))).unwrap();
        let first: Vec<&str> = lines.lines().take(5).collect();
        let given = Answers::parse(
            Path::new("part.jsonl"),
            first.join("\n").as_bytes(),
            bunny_eval::answer::BrokenLines::Count,
        )
        .unwrap();
        let report = part.score(&given, Convention::Reference).unwrap();
        assert!(report.partial, "{benchmark}");
        assert_eq!(report.questions, 5, "{benchmark}");
        assert_eq!(report.judged.len(), 5, "{benchmark}");
        write_report(root.path(), &report).unwrap();
        let refused = bunny_eval::submission(&part, &given)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("leave --limit out"), "{refused}");
    }
    let table = Table::of(&[root.path()], Convention::Reference, Layout::Models, None).unwrap();
    let markdown = table.written(TableForm::Markdown).unwrap();
    assert!(
        markdown.contains('†') && markdown.contains("only the first questions"),
        "{markdown}"
    );
}

#[test]
fn intervals_hold_their_figures_and_say_how_they_were_made() {
    for benchmark in Benchmark::ALL {
        let suite = suite(benchmark);
        let report = suite
            .score(&answers(&suite, benchmark.name()), Convention::Reference)
            .unwrap();
        for (score, methods) in &report.intervals {
            let value = report.scores[score].as_f64().unwrap();
            for (method, interval) in methods.as_object().unwrap() {
                let (low, high) = (
                    interval["low"].as_f64().unwrap(),
                    interval["high"].as_f64().unwrap(),
                );
                assert!(
                    low <= value + 0.01 && value <= high + 0.01,
                    "{benchmark} {score} {method}: {low} {value} {high}"
                );
            }
            let expected = match benchmark {
                Benchmark::Mme | Benchmark::Pope | Benchmark::MmbenchDev => "bootstrap",
                _ => "wilson",
            };
            assert!(methods.get(expected).is_some(), "{benchmark}: {methods}");
        }
    }
    let gqa = suite(Benchmark::Gqa);
    let report = gqa
        .score(&answers(&gqa, "gqa"), Convention::Reference)
        .unwrap();
    assert_eq!(report.intervals["accuracy"]["clustered"]["unit"], "picture");
    let mme = suite(Benchmark::Mme);
    let report = mme
        .score(&answers(&mme, "mme"), Convention::Reference)
        .unwrap();
    assert_eq!(report.intervals["perception"]["bootstrap"]["draws"], 10_000);
}

#[test]
fn two_models_are_compared_question_by_question() {
    let suite = suite(Benchmark::Pope);
    let a = answers(&suite, "pope");
    // The second model says the right word of three that the first has wrong, and spoils one.
    let text = std::fs::read_to_string(fixtures().join("answers/pope.jsonl")).unwrap();
    let changed = text
        .replace("\"text\": \"NO\"", "\"text\": \"no\"")
        .replace("\"text\": \"Not\"", "\"text\": \"not\"")
        .replace("\"text\": \"none\"", "\"text\": \"no\"")
        .replacen("\"text\": \"Yes\"", "\"text\": \"No <b>\"", 1);
    let b = Answers::parse(
        Path::new("b.jsonl"),
        changed.as_bytes(),
        bunny_eval::answer::BrokenLines::Refuse,
    )
    .unwrap();
    let comparison = compare(&suite, &a, &b, Convention::Reference).unwrap();
    assert_eq!(
        (comparison.only_a, comparison.only_b, comparison.paired),
        (1, 3, 23)
    );
    // Of four changes at most one to one side: 2 · (1 + 4) / 16.
    assert!((comparison.mcnemar_p - 0.625).abs() < 1e-12);
    let sides: String = comparison
        .changed
        .iter()
        .map(|changed| changed.right)
        .collect();
    assert_eq!(sides, "abbb");
    let figure = &comparison.figures[0];
    assert_eq!(figure.name, "f1");
    assert!((figure.a - 0.611_111_111_111_111).abs() < 1e-12 && figure.difference > 0.0);
    let interval = figure.interval.unwrap();
    assert!(interval.low <= figure.difference && figure.difference <= interval.high);

    let page = comparison
        .page(suite.questions(), suite.folder(), ["old", "<new>"], 2)
        .unwrap();
    assert_eq!(page.matches("<article>").count(), 2);
    assert_eq!(page.matches("data:image/png;base64,").count(), 2);
    assert!(
        page.contains("&lt;new&gt;: No &lt;b&gt;") && page.contains("… and 2 more"),
        "{page}"
    );
    assert!(!page.contains("<new>") && !page.contains("No <b>"));
}

#[test]
fn mmbench_questions_change_sides_with_all_their_rotations() {
    let suite = suite(Benchmark::MmbenchDev);
    let a = answers(&suite, "mmbench-dev");
    let text = std::fs::read_to_string(fixtures().join("answers/mmbench-dev.jsonl")).unwrap();
    // One rotation of a question turns wrong.
    let turned = |line: &str| match line.contains("\"question_id\": 1000252,") {
        true => line.replace("\"text\": \"A\"", "\"text\": \"B\"") + "\n",
        false => format!("{line}\n"),
    };
    let changed: String = text.lines().map(turned).collect();
    assert_ne!(text, changed);
    let b = Answers::parse(
        Path::new("b.jsonl"),
        changed.as_bytes(),
        bunny_eval::answer::BrokenLines::Refuse,
    )
    .unwrap();
    let comparison = compare(&suite, &a, &b, Convention::Reference).unwrap();
    assert_eq!(comparison.paired, 7);
    assert_eq!((comparison.only_a, comparison.only_b), (1, 0));
}
