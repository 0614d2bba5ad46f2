//! Questions, answers and files beside what the scripts of three harnesses made of them.
//!
//! `tests/reference/eval.py` writes the fixtures: made-up benchmarks in the published layouts, with
//! an answer for every trap, and what BAAI-DCAI/Bunny, lmms-eval and VLMEvalKit say of them.

use bunny_eval::score::Suite;
use bunny_eval::{
    Benchmark, Convention, EvalError, Folder, Report, Submission, Template, folder, submission,
};
use serde_json::{Map, Value};

use crate::fixtures;

fn expected(name: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(fixtures().join(format!("expected/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn suite(benchmark: &str) -> Suite {
    let benchmark: Benchmark = benchmark.parse().unwrap();
    Suite::read(benchmark, folder(benchmark, fixtures()).unwrap()).unwrap()
}

fn scored(suite: &Suite, answers: &str, convention: Convention) -> Report {
    let answers = suite
        .answers(fixtures().join(format!("answers/{answers}.jsonl")))
        .unwrap();
    suite.score(&answers, convention).unwrap()
}

fn submitted(suite: &Suite, answers: &str) -> Result<Submission, EvalError> {
    submission(
        suite,
        &suite.answers(fixtures().join(format!("answers/{answers}.jsonl")))?,
    )
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A figure as a script has it; scripts that print two decimals are compared by those.
#[track_caller]
fn is(ours: &Value, theirs: f64, precision: f64, what: &str) {
    let ours = number(ours);
    assert!(
        (ours - theirs).abs() <= precision,
        "{what}: {ours}, the script says {theirs}"
    );
}

/// Every score that an expectation names.
#[track_caller]
fn scores_are(report: &Report, theirs: &Value, precision: f64) {
    let mut compared = 0;
    for (name, value) in &report.scores {
        if let Some(theirs) = theirs.get(name) {
            is(value, number(theirs), precision, name);
            compared += 1;
        }
    }
    assert!(compared > 0, "nothing to compare");
}

const EXACT: f64 = 1e-12;
const DECIMALS: f64 = 0.005_000_1;

#[test]
fn prompts_are_the_references() {
    let templates = [
        ("mme", Template::Bunny),
        ("pope", Template::Phi3),
        ("mmmu-val", Template::Bunny),
        ("mmmu-test", Template::Bunny),
        ("seed-bench", Template::Llama),
        ("mmbench-dev", Template::MiniCpm),
        ("mmbench-test", Template::MiniCpm),
        ("vqav2", Template::Bunny),
        ("gqa", Template::Bunny),
        ("scienceqa", Template::Bunny),
    ];
    assert_eq!(templates.len(), Benchmark::ALL.len());
    for (name, template) in templates {
        let benchmark: Benchmark = name.parse().unwrap();
        let questions =
            bunny_eval::questions(benchmark, &folder(benchmark, fixtures()).unwrap()).unwrap();
        let path = fixtures().join(format!("expected/prompts/{name}.jsonl"));
        let theirs = std::fs::read_to_string(path).unwrap();
        assert_eq!(theirs.lines().count(), questions.len(), "{name}");
        for (line, question) in theirs.lines().zip(&questions) {
            let theirs: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                serde_json::to_value(&question.id).unwrap(),
                theirs["question_id"]
            );
            assert_eq!(
                template.prompt(question),
                theirs["prompt"].as_str().unwrap()
            );
        }
    }
}

/// What the scripts give `generate`, and whether they pad.
#[test]
fn questions_are_asked_with_the_references_settings() {
    let theirs = expected("settings");
    assert_eq!(theirs.len(), Benchmark::ALL.len());
    for benchmark in Benchmark::ALL {
        let theirs = &theirs[benchmark.name()];
        assert_eq!(
            theirs["max_new_tokens"],
            benchmark.max_new_tokens(),
            "{benchmark}"
        );
        assert_eq!(theirs["pads"], benchmark.pads_pictures(), "{benchmark}");
        // The likeliest token each time, which is all that a run knows.
        assert_eq!(theirs["do_sample"], false, "{benchmark}");
        assert!(
            theirs["num_beams"].is_null() || theirs["num_beams"] == 1,
            "{benchmark}"
        );
    }
}

#[test]
fn mme_is_scored_as_three_harnesses_score_it() {
    let suite = suite("mme");
    let theirs = expected("mme");
    for convention in Convention::ALL {
        let report = scored(&suite, "mme", convention);
        scores_are(&report, &theirs[convention.name()], EXACT);
        assert_eq!(
            report.scores.len(),
            2,
            "{convention}: nothing lacks, nothing strict"
        );
    }
    let report = scored(&suite, "mme", Convention::Reference);
    for (category, score) in theirs["reference"]["tasks"].as_object().unwrap() {
        is(
            &report.categories[category]["score"],
            number(score),
            EXACT,
            category,
        );
    }
    assert_eq!(report.categories.len(), 14);
}

#[test]
fn mme_keeps_the_scripts_faults_and_says_so() {
    let suite = suite("mme");
    // Tabs break rows, and what is left is paired by place; forged lines count.
    for name in ["mme-tabs", "mme-missing"] {
        let theirs = &expected(name)["reference"];
        let report = scored(&suite, name, Convention::Reference);
        scores_are(&report, theirs, EXACT);
        for (category, score) in theirs["tasks"].as_object().unwrap() {
            is(
                &report.categories[category]["score"],
                number(score),
                EXACT,
                category,
            );
        }
        assert!(report.scores.contains_key("perception_strict"), "{name}");
        assert!(report.notes.is_empty(), "{name}: {:?}", report.notes);
    }
    // Without one row the script stops: its category is scored here, and the report says so.
    assert_eq!(expected("mme-odd")["reference"]["stops"], "AssertionError");
    let report = scored(&suite, "mme-odd", Convention::Reference);
    assert_eq!(report.missing, 1);
    assert!(
        report.notes[0].starts_with("posters: "),
        "{:?}",
        report.notes
    );
    let whole = scored(&suite, "mme", Convention::Reference);
    assert_eq!(report.scores["perception"], whole.scores["perception"]);
}

#[test]
fn mme_lines_are_the_references() {
    let files = submitted(&suite("mme"), "mme").unwrap().files;
    let theirs = &expected("mme")["reference"]["answer_lines"];
    assert_eq!(files.len(), 14);
    for (name, content) in files {
        let category = name.strip_suffix(".txt").unwrap();
        assert_eq!(
            String::from_utf8(content).unwrap(),
            theirs[category].as_str().unwrap()
        );
    }
}

#[test]
fn pope_is_scored_as_three_harnesses_score_it() {
    let suite = suite("pope");
    let theirs = expected("pope");
    for convention in Convention::ALL {
        let report = scored(&suite, "pope", convention);
        scores_are(&report, &theirs[convention.name()], EXACT);
        assert!(!report.scores.contains_key("f1_strict"));
        let Some(categories) = theirs[convention.name()].get("categories") else {
            continue;
        };
        for (category, values) in categories.as_object().unwrap() {
            for (name, value) in values.as_object().unwrap() {
                is(
                    &report.categories[category][name],
                    number(value),
                    EXACT,
                    name,
                );
            }
        }
    }
}

#[test]
fn pope_pairs_by_place_as_the_script_does_and_stands_the_strict_figure_beside() {
    let suite = suite("pope");
    let report = scored(&suite, "pope-missing", Convention::Reference);
    scores_are(&report, &expected("pope-missing")["reference"], EXACT);
    assert_eq!(report.missing, 1);
    let strict = number(&report.scores["f1_strict"]);
    assert!(strict < number(&scored(&suite, "pope", Convention::Reference).scores["f1"]));
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn mmmu_is_scored_as_three_harnesses_score_it() {
    let suite = suite("mmmu-val");
    let theirs = expected("mmmu-val");
    let report = scored(&suite, "mmmu-val", Convention::Reference);
    let results = theirs["reference"]["results"].as_object().unwrap();
    is(
        &report.scores["overall"],
        number(&results["Overall"]["acc"]),
        EXACT,
        "overall",
    );
    for (name, result) in results.iter().filter(|(name, _)| *name != "Overall") {
        is(
            &report.categories[name]["score"],
            number(&result["acc"]),
            EXACT,
            name,
        );
        assert_eq!(
            report.categories[name]["questions"], result["num"],
            "{name}"
        );
    }
    let fell_back: Vec<&str> = report
        .judged
        .iter()
        .filter(|judged| judged.state == bunny_eval::score::State::Fallback)
        .map(|judged| match &suite.questions()[judged.question].id {
            bunny_eval::QuestionId::Text(id) => id.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        Value::from(fell_back.clone()),
        theirs["reference"]["fallback"]
    );
    assert_eq!(report.fallback, fell_back.len());

    let lmms = scored(&suite, "mmmu-val", Convention::LmmsEval);
    scores_are(&lmms, &theirs["lmms-eval"], EXACT);
    let kit = scored(&suite, "mmmu-val", Convention::VlmEvalKit);
    for (judged, question) in kit.judged.iter().zip(suite.questions()) {
        let id = serde_json::to_value(&question.id).unwrap();
        let theirs = &theirs["vlmevalkit"]["hits"][id.as_str().unwrap()];
        is(
            &judged.score.into(),
            number(theirs),
            0.0,
            id.as_str().unwrap(),
        );
    }
    scores_are(&kit, &theirs["vlmevalkit"], 0.000_500_1);
}

#[test]
fn mmmu_submissions_are_the_references_half_surrogates_included() {
    for name in ["mmmu-val", "mmmu-test"] {
        let files = submitted(&suite(name), name).unwrap().files;
        let theirs = expected(name);
        let [(_, content)] = &files[..] else {
            panic!("one file")
        };
        assert_eq!(
            str::from_utf8(content).unwrap(),
            theirs["reference"]["submission"],
            "{name}"
        );
    }
    let report = scored(&suite("mmmu-test"), "mmmu-test", Convention::Reference);
    assert!(report.scores.is_empty() && report.server.is_some());
    let fallback = expected("mmmu-test")["reference"]["fallback"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(report.fallback, fallback);
}

#[test]
fn seed_bench_is_scored_as_three_harnesses_score_it() {
    let suite = suite("seed-bench");
    let theirs = expected("seed-bench");
    for convention in Convention::ALL {
        let report = scored(&suite, "seed-bench", convention);
        scores_are(&report, &theirs[convention.name()], DECIMALS);
    }
    let report = scored(&suite, "seed-bench", Convention::Reference);
    let types = theirs["reference"]["types"].as_object().unwrap();
    assert_eq!(report.categories.len(), types.len());
    for (name, score) in types {
        is(
            &report.categories[name]["score"],
            number(score),
            EXACT,
            name,
        );
    }
    let files = submitted(&suite, "seed-bench").unwrap().files;
    assert_eq!(
        str::from_utf8(&files[0].1).unwrap(),
        theirs["reference"]["upload"]
    );
}

#[test]
fn seed_bench_gives_figures_where_the_script_stops() {
    let suite = suite("seed-bench");
    assert_eq!(
        expected("seed-bench-no-hit")["reference"]["stops"],
        "KeyError"
    );
    let report = scored(&suite, "seed-bench-no-hit", Convention::Reference);
    is(
        &report.categories["Instance Location"]["score"],
        0.0,
        0.0,
        "a type without a right answer",
    );
    assert!(
        report.notes[0].starts_with("Instance Location: "),
        "{:?}",
        report.notes
    );
    // Other harnesses have no such fault.
    for convention in [Convention::LmmsEval, Convention::VlmEvalKit] {
        let report = scored(&suite, "seed-bench-no-hit", convention);
        assert!(report.notes.is_empty(), "{convention}: {:?}", report.notes);
    }
    // Its first part says what is missing as wrong; then its upload stops.
    let theirs = &expected("seed-bench-missing")["reference"];
    assert_eq!(theirs["stops"], "KeyError");
    let report = scored(&suite, "seed-bench-missing", Convention::Reference);
    scores_are(&report, theirs, DECIMALS);
    let refused = submitted(&suite, "seed-bench-missing")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("2 of 19 questions have no answer"),
        "{refused}"
    );
}

#[test]
fn mmbench_counts_a_question_if_all_its_rotations_are_right() {
    let suite = suite("mmbench-dev");
    let theirs = expected("mmbench-dev");
    for (convention, name) in [
        (Convention::Reference, "vlmevalkit"),
        (Convention::VlmEvalKit, "vlmevalkit"),
        (Convention::LmmsEval, "lmms-eval"),
    ] {
        let report = scored(&suite, "mmbench-dev", convention);
        scores_are(&report, &theirs[name], DECIMALS);
        for (category, value) in theirs[name]["categories"].as_object().unwrap() {
            let ours = report.categories.get(category).or_else(|| {
                // lmms-eval keeps the long names of abilities.
                let short = [
                    ("coarse_perception", "CP"),
                    ("logic_reasoning", "LR"),
                    ("relation_reasoning", "RR"),
                    ("attribute_reasoning", "AR"),
                    ("finegrained_perception (instance-level)", "FP-S"),
                    ("finegrained_perception (cross-instance)", "FP-C"),
                ];
                let (_, short) = short.into_iter().find(|(long, _)| long == category)?;
                report.categories.get(short)
            });
            is(&ours.unwrap()["score"], number(value), DECIMALS, category);
        }
    }
}

/// The cells of a sheet, by the place that each says it has.
fn cells(xlsx: &[u8]) -> Vec<Vec<Value>> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(xlsx)).unwrap();
    let sheet = std::io::read_to_string(zip.by_name("xl/worksheets/sheet1.xml").unwrap()).unwrap();
    let workbook = std::io::read_to_string(zip.by_name("xl/workbook.xml").unwrap()).unwrap();
    assert!(workbook.contains("name=\"Sheet1\""));
    let mut rows = Vec::new();
    for row in sheet.split("<row r=\"").skip(1) {
        let mut cells = Vec::new();
        for cell in row.split("<c r=\"").skip(1) {
            let column = usize::from(cell.as_bytes()[0] - b'A');
            cells.resize(column, Value::Null);
            let inner = |open: &str, close: &str| {
                Some(cell.split_once(open)?.1.split_once(close)?.0.to_owned())
            };
            cells.push(match inner("preserve\">", "</t>") {
                Some(text) => text
                    .replace("&lt;", "<")
                    .replace("&gt;", ">")
                    .replace("&amp;", "&")
                    .into(),
                None => inner("<v>", "</v>").unwrap().parse::<i64>().unwrap().into(),
            });
        }
        rows.push(cells);
    }
    rows
}

#[test]
fn mmbench_spreadsheets_have_the_references_cells() {
    for name in ["mmbench-dev", "mmbench-test"] {
        let files = submitted(&suite(name), name).unwrap().files;
        let theirs = expected(name);
        assert_eq!(theirs["reference"]["sheets"], serde_json::json!(["Sheet1"]));
        let theirs = theirs["reference"]["cells"].as_array().unwrap();
        let ours = cells(&files[0].1);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(&Value::from(ours.clone()), theirs, "{name}");
        }
    }
}

#[test]
fn a_newer_mmbench_table_is_refused_by_name() {
    let folder = Folder::open(fixtures().join("mmbench-newer")).unwrap();
    let error = Suite::read(Benchmark::MmbenchDev, folder)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("MMBench_DEV_EN.tsv is the newer table"),
        "{error}"
    );
    // Under the legacy table's name, too.
    let root = tempfile::tempdir().unwrap();
    let newer = fixtures().join("mmbench-newer/MMBench_DEV_EN.tsv");
    std::fs::copy(newer, root.path().join("MMBench_DEV_EN_legacy.tsv")).unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let error = Suite::read(Benchmark::MmbenchDev, folder)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no column `comment`"), "{error}");
}

#[test]
fn vqav2_submissions_are_the_references() {
    let suite = suite("vqav2");
    for name in ["vqav2", "vqav2-whole"] {
        let theirs = &expected(name)["reference"];
        let submission = submitted(&suite, name).unwrap();
        let ours = str::from_utf8(&submission.files[0].1).unwrap();
        assert_eq!(ours, theirs["submission"].as_str().unwrap(), "{name}");
        let padded = number(&theirs["split"]) - number(&theirs["results"]);
        assert_eq!(submission.padded as f64, padded, "{name}");
        let report = scored(&suite, name, Convention::Reference);
        assert_eq!(
            report.broken_lines as f64,
            number(&theirs["broken"]),
            "{name}"
        );
    }
}

#[test]
fn vqav2_is_scored_by_ten_people_where_their_answers_are_public() {
    let folder = Folder::open(fixtures().join("vqav2-val")).unwrap();
    let suite = Suite::read(Benchmark::Vqav2, folder).unwrap();
    let theirs = expected("vqav2-val");
    for convention in [Convention::Reference, Convention::LmmsEval] {
        let report = scored(&suite, "vqav2-val", convention);
        scores_are(&report, &theirs[convention.name()], DECIMALS);
    }
    let report = scored(&suite, "vqav2-val", Convention::Reference);
    for (kind, score) in theirs["reference"]["types"].as_object().unwrap() {
        is(
            &report.categories[kind]["score"],
            number(score),
            DECIMALS,
            kind,
        );
    }
    let answers = suite
        .answers(fixtures().join("answers/vqav2-val.jsonl"))
        .unwrap();
    let refused = suite.score(&answers, Convention::VlmEvalKit).unwrap_err();
    assert!(matches!(refused, EvalError::NoScorer { .. }), "{refused}");
}

#[test]
fn gqa_is_scored_as_three_harnesses_score_it() {
    let suite = suite("gqa");
    let theirs = expected("gqa");
    for convention in Convention::ALL {
        let report = scored(&suite, "gqa", convention);
        scores_are(&report, &theirs[convention.name()], DECIMALS);
    }
    let report = scored(&suite, "gqa", Convention::Reference);
    assert_eq!(report.scores.len(), 4);
    let parts = theirs["reference"]["parts"].as_object().unwrap();
    assert_eq!(parts.len(), 4);
    let mut compared = 0;
    for (title, rows) in parts {
        for (name, row) in rows.as_object().unwrap() {
            let name = match title.as_str() {
                "steps number" => format!("steps {name}"),
                "words number" => format!("words {name}"),
                _ => name.to_lowercase(),
            };
            is(
                &report.categories[&name]["score"],
                number(&row[0]),
                DECIMALS,
                &name,
            );
            assert_eq!(report.categories[&name]["questions"], row[1], "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, report.categories.len());
    let files = submitted(&suite, "gqa").unwrap().files;
    assert_eq!(
        str::from_utf8(&files[0].1).unwrap(),
        theirs["reference"]["predictions"]
    );
}

#[test]
fn scienceqa_is_scored_as_three_harnesses_score_it() {
    let suite = suite("scienceqa");
    let theirs = expected("scienceqa");
    for convention in Convention::ALL {
        let report = scored(&suite, "scienceqa", convention);
        scores_are(&report, &theirs[convention.name()], DECIMALS);
        assert_eq!(
            report.scores["img"], report.scores["img_strict"],
            "nothing lacks"
        );
    }
    let report = scored(&suite, "scienceqa", Convention::Reference);
    for name in ["correct", "count", "image_correct", "image_count"] {
        assert_eq!(report.details[name], theirs["reference"][name], "{name}");
    }
    for judged in &report.judged {
        let id = serde_json::to_value(&suite.questions()[judged.question].id).unwrap();
        let index = number(&theirs["reference"]["results"][id.as_str().unwrap()]);
        let letter = judged
            .parsed
            .as_deref()
            .and_then(|letter| "ABCDE".find(letter));
        // What is beyond the options is none of them, in the script.
        assert!(
            letter.map_or(-1.0, |at| at as f64) == index || index == -1.0,
            "{id}"
        );
        assert_eq!(
            judged.score == 1.0,
            Some(letter) == judged.gold.as_deref().map(|gold| "ABCDE".find(gold)),
            "{id}"
        );
    }
}

#[test]
fn scienceqa_rows_without_an_answer_leave_the_picture_figure_and_stand_in_the_strict_one() {
    let suite = suite("scienceqa");
    let report = scored(&suite, "scienceqa-missing", Convention::Reference);
    let theirs = &expected("scienceqa-missing")["reference"];
    scores_are(&report, theirs, DECIMALS);
    assert_eq!(report.missing, 3);
    assert_eq!(report.details["image_count"], theirs["image_count"]);
    let right = number(&theirs["image_correct"]);
    is(
        &report.scores["img_strict"],
        100.0 * right / 13.0,
        DECIMALS,
        "13 have a picture",
    );
}

/// One note for each beginning, in this order.
#[track_caller]
fn says<const N: usize>(report: &Report, beginnings: [&str; N]) {
    let notes = &report.notes;
    assert_eq!(notes.len(), N, "{notes:?}");
    for (note, beginning) in notes.iter().zip(beginnings) {
        assert!(note.starts_with(beginning), "{notes:?}");
    }
}

#[test]
fn what_has_nothing_to_divide_by_is_zero_where_the_scripts_stop() {
    let theirs = expected("nothing");
    let stops = |benchmark: &str| &theirs[benchmark]["stops"];
    let root = tempfile::tempdir().unwrap();
    let given = root.path().join("answers.jsonl");
    let rows = |name: &str| -> Vec<Value> {
        let path = fixtures().join(format!("answers/{name}.jsonl"));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let score = |suite: &Suite, rows: &[Value]| {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(&given, lines.join("\n")).unwrap();
        let answers = suite.answers(&given).unwrap();
        let report = suite.score(&answers, Convention::Reference).unwrap();
        // What is no number would be `null` here.
        let told = serde_json::json!([
            report.scores,
            report.categories,
            report.intervals,
            report.details
        ]);
        assert!(!told.to_string().contains("null"), "{told}");
        report
    };
    let copied = |benchmark: &str, names: &[&str]| {
        let folder = root.path().join(benchmark);
        std::fs::create_dir(&folder).unwrap();
        for name in names {
            std::fs::copy(fixtures().join(benchmark).join(name), folder.join(name)).unwrap();
        }
        folder
    };

    // Nothing is answered "yes".
    let mut answers = rows("pope");
    for row in &mut answers {
        row["text"] = "No".into();
    }
    let report = score(&suite("pope"), &answers);
    assert_eq!(stops("pope"), "ZeroDivisionError");
    assert_eq!(report.scores["f1"], 0.0);
    says(
        &report,
        ["F1 of adversarial: ", "F1 of popular: ", "F1 of random: "],
    );

    // No answer about one category says yes or no.
    let mut answers = rows("mme");
    for row in &mut answers {
        if row["question_id"].as_str().unwrap().starts_with("count/") {
            row["text"] = "It is so".into();
        }
    }
    let report = score(&suite("mme"), &answers);
    assert_eq!(stops("mme"), "ValueError");
    assert_eq!(report.categories["count"]["score"], 0.0);
    says(&report, ["count: no answer says yes or no"]);

    // Nothing with a picture is answered.
    let mut answers = rows("scienceqa");
    answers.retain(|row| !row["prompt"].as_str().unwrap().contains("<image>"));
    let report = score(&suite("scienceqa"), &answers);
    assert_eq!(stops("scienceqa"), "ZeroDivisionError");
    assert_eq!(report.scores["img"], 0.0);
    says(&report, ["img: "]);

    // No question is about a video; all are answered right.
    let folder = copied("seed-bench", &["SEED-Bench.json"]);
    let path = folder.join("SEED-Bench.json");
    let mut gold: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let questions = gold["questions"].as_array_mut().unwrap();
    questions.retain(|question| question["data_type"] == "image");
    let right = |row: &Value| {
        let id = match &row["question_id"] {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        let question = questions
            .iter()
            .find(|one| one["question_id"] == id.as_str())?;
        Some(question["answer"].clone())
    };
    let kept: Vec<(Value, Value)> = rows("seed-bench")
        .into_iter()
        .filter_map(|row| right(&row).map(|right| (row, right)))
        .collect();
    let asked = std::fs::read_to_string(fixtures().join("seed-bench/bunny-seed-bench.jsonl"));
    let asked: Vec<String> = asked
        .unwrap()
        .lines()
        .filter(|line| right(&serde_json::from_str(line).unwrap()).is_some())
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(folder.join("bunny-seed-bench.jsonl"), asked.concat()).unwrap();
    std::fs::write(&path, gold.to_string()).unwrap();
    let answers: Vec<Value> = kept
        .into_iter()
        .map(|(mut row, right)| {
            row["text"] = right;
            row
        })
        .collect();
    let pictures = Suite::read(Benchmark::SeedBench, Folder::open(&folder).unwrap()).unwrap();
    let report = score(&pictures, &answers);
    assert_eq!(stops("seed-bench"), "ZeroDivisionError");
    assert_eq!(report.scores["video"], 0.0);
    says(&report, ["video: "]);
    assert_eq!(report.scores["image"], 100.0);

    // No question has a group.
    let name = "testdev_balanced_questions.json";
    let folder = copied("gqa", &["bunny_gqa_testdev_balanced.jsonl"]);
    let whole = Folder::open(fixtures().join("gqa")).unwrap();
    let mut gold: Value = serde_json::from_slice(&whole.read(name).unwrap().unwrap()).unwrap();
    for question in gold.as_object_mut().unwrap().values_mut() {
        question["groups"] = serde_json::json!({"global": null, "local": null});
    }
    std::fs::write(folder.join(name), gold.to_string()).unwrap();
    let ungrouped = Suite::read(Benchmark::Gqa, Folder::open(&folder).unwrap()).unwrap();
    let report = score(&ungrouped, &rows("gqa"));
    assert_eq!(stops("gqa"), "ZeroDivisionError");
    assert_eq!(report.scores["distribution"], 0.0);
    says(&report, ["distribution: "]);
    let whole = scored(&suite("gqa"), "gqa", Convention::Reference);
    assert_eq!(report.scores["accuracy"], whole.scores["accuracy"]);
}

#[test]
fn an_answer_to_no_question_is_named() {
    let suite = suite("pope");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "{\"question_id\": 1, \"text\": \"no\"}\n{\"question_id\": \"1\", \"text\": \"no\"}\n",
    )
    .unwrap();
    let error = suite
        .score(&suite.answers(file.path()).unwrap(), Convention::Reference)
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.ends_with("line 2: question_id \"1\": pope asks no such question"),
        "{told}"
    );
}

#[test]
fn the_newer_random_labels_of_pope_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::create_dir(at("coco")).unwrap();
    for category in ["adversarial", "popular", "random"] {
        let name = format!("coco/coco_pope_{category}.json");
        let mut labels = std::fs::read_to_string(fixtures().join("pope").join(&name)).unwrap();
        if category == "random" {
            labels.push_str(
                "{\"question_id\": 8, \"image\": \"x.jpg\", \"text\": \"?\", \"label\": \"no\"}\n",
            );
        }
        std::fs::write(at(&name), labels).unwrap();
    }
    std::fs::copy(
        fixtures().join("pope/bunny_pope_test.jsonl"),
        at("bunny_pope_test.jsonl"),
    )
    .unwrap();
    let read = || Suite::read(Benchmark::Pope, Folder::open(root.path()).unwrap());
    let error = read().unwrap_err().to_string();
    assert!(
        error.contains("8 labels for 7 random questions") && error.contains("e3e39262"),
        "{error}"
    );
    // As many rows in another order.
    let labels = std::fs::read_to_string(at("coco/coco_pope_random.json")).unwrap();
    let turned: Vec<&str> = labels
        .lines()
        .take(7)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    std::fs::write(at("coco/coco_pope_random.json"), turned.join("\n")).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.contains("coco_pope_random.json: line 1") && error.contains("e3e39262"),
        "{error}"
    );
}
