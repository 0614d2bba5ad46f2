//! Validation, statistics and preview of a dataset with one of every fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bunny_data::images::{ImageSource, PictureCheck};
use bunny_data::preview::{PreviewOptions, preview};
use bunny_data::record::{Record, RecordFile};
use bunny_data::stats::{StatsOptions, stats};
use bunny_data::validate::{RecordStage, ValidateOptions, WARNINGS, validate, write_fixed};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Each record with the kinds of problems it has.
fn records() -> Vec<(Value, Vec<&'static str>)> {
    let turns = |turns: &[(&str, &str)]| -> Value {
        turns
            .iter()
            .map(|(from, value)| json!({"from": from, "value": value}))
            .collect()
    };
    let good = turns(&[("human", "<image>\nWhat?"), ("gpt", "A cat.")]);
    let with = |id: &str, image: Value, conversations: &Value| json!({"id": id, "image": image, "conversations": conversations});
    let text = |id: &str, said: &[(&str, &str)]| json!({"id": id, "conversations": turns(said)});
    vec![
        (with("g0", json!("good.jpg"), &good), vec![]),
        (text("g1", &[("human", "Hi"), ("gpt", "Hello")]), vec![]),
        (with("g0", json!("good.jpg"), &good), vec!["duplicate_id"]),
        (
            with("p1", json!("missing.jpg"), &good),
            vec!["missing_picture"],
        ),
        (
            with("p2", json!("cut.jpg"), &good),
            vec!["truncated_picture"],
        ),
        (
            with("p3", json!("gif.jpg"), &good),
            vec!["mislabelled_picture"],
        ),
        (with("p4", json!("html.jpg"), &good), vec!["not_a_picture"]),
        (
            with("p5", json!("../secret.jpg"), &good),
            vec!["missing_picture"],
        ),
        (
            with("p6", json!("missing.jpg"), &good),
            vec!["missing_picture"],
        ),
        (
            with(
                "c0",
                json!("good.jpg"),
                &turns(&[("human", "What?"), ("gpt", "A cat.")]),
            ),
            vec!["placeholder_count"],
        ),
        (
            with("c1", json!(["good.jpg", "good.jpg"]), &good),
            vec!["placeholder_count"],
        ),
        (
            with(
                "c2",
                json!(["good.jpg", "good.jpg"]),
                &turns(&[("human", "<image><image> Same?"), ("gpt", "Yes.")]),
            ),
            vec!["placeholder_count"],
        ),
        // The loader makes one of two in a turn.
        (
            with(
                "c3",
                json!("good.jpg"),
                &turns(&[("human", "<image> What <image>?"), ("gpt", "A cat.")]),
            ),
            vec![],
        ),
        (
            with(
                "c4",
                json!("good.jpg"),
                &turns(&[("human", "Draw"), ("gpt", "<image>")]),
            ),
            vec!["placeholder_in_answer"],
        ),
        (
            text("t0", &[("human", "Show <image>"), ("gpt", "?")]),
            vec!["placeholder_without_picture"],
        ),
        (text("t1", &[]), vec!["no_turns"]),
        (
            text("t2", &[("human", "Hi"), ("gpt", " \n")]),
            vec!["empty_turn"],
        ),
        (
            text("t3", &[("human", "Hi"), ("human", "Hi"), ("gpt", "Hello")]),
            vec!["not_alternating"],
        ),
        (
            text("t4", &[("gpt", "Hello"), ("human", "Hi"), ("gpt", "Hello")]),
            vec!["starts_with_answer"],
        ),
        (
            text("t5", &[("human", "Hi"), ("gpt", "Hello"), ("human", "Bye")]),
            vec!["ends_without_answer"],
        ),
        (
            text(
                "t6",
                &[("system", "Be kind"), ("human", "Hi"), ("gpt", "Hello")],
            ),
            vec![],
        ),
        (
            text(
                "t7",
                &[("human", "one two three four five six"), ("gpt", "seven")],
            ),
            vec!["too_long"],
        ),
        (
            json!({"id": "n0", "conversation": []}),
            vec!["not_a_record"],
        ),
    ]
}

fn dataset() -> (TempDir, RecordFile, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    let values: Vec<Value> = records().into_iter().map(|(record, _)| record).collect();
    fs::write(&path, serde_json::to_vec(&values).unwrap()).unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 9]))
        .save(images.join("good.jpg"))
        .unwrap();
    image::RgbImage::new(8, 8)
        .save(images.join("tiny.gif"))
        .unwrap();
    fs::rename(images.join("tiny.gif"), images.join("gif.jpg")).unwrap();
    let whole = fs::read(images.join("good.jpg")).unwrap();
    fs::write(images.join("cut.jpg"), &whole[..whole.len() - 20]).unwrap();
    fs::write(images.join("html.jpg"), "<html>not found</html>").unwrap();
    fs::write(folder.path().join("secret.jpg"), &whole).unwrap();
    let file = RecordFile::open(&path).unwrap();
    let images = ImageSource::open(&images).unwrap();
    (folder, file, images)
}

fn words(record: &Record) -> usize {
    record.words()
}

#[test]
fn every_fault_is_found_and_nothing_else() {
    let (_folder, file, images) = dataset();
    let mut options = ValidateOptions::default();
    options.images = Some(&images);
    options.pictures = PictureCheck::Decode;
    options.tokens = Some(&words);
    options.max_tokens = Some(6);
    let report = validate(&file, &options, &|_, _| {}).unwrap();
    for (index, (record, expected)) in records().iter().enumerate() {
        let found: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.record == index)
            .map(|finding| finding.problem.kind())
            .collect();
        assert_eq!(&found, expected, "record {index}: {record}");
    }
    assert_eq!(report.pictures, 6);
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(
        one_thread
            .install(|| validate(&file, &options, &|_, _| {}))
            .unwrap(),
        report
    );

    let json = serde_json::to_value(&report).unwrap();
    let mislabelled = &json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["id"] == "p3")
        .unwrap();
    assert_eq!(
        **mislabelled,
        json!({"record": 5, "id": "p3", "problem": "bad_picture", "path": "gif.jpg", "fault": "mislabelled", "is": "gif"})
    );
}

#[test]
fn a_fix_keeps_what_has_no_error_and_lists_the_rest() {
    let (folder, file, images) = dataset();
    let mut options = ValidateOptions::default();
    options.images = Some(&images);
    let report = validate(&file, &options, &|_, _| {}).unwrap();
    let (out, dropped) = (
        folder.path().join("clean.json"),
        folder.path().join("dropped.jsonl"),
    );
    for also in [vec![], vec!["duplicate_id", "mislabelled_picture"]] {
        let also: BTreeSet<String> = also.into_iter().map(str::to_owned).collect();
        let fixed = write_fixed(&file, &report, &out, &dropped, &also, &|_, _| {}).unwrap();
        let kept: Vec<Value> = records()
            .into_iter()
            .filter(|(_, kinds)| {
                kinds
                    .iter()
                    .all(|kind| WARNINGS.contains(kind) && !also.contains(*kind))
            })
            .map(|(record, _)| record)
            .collect();
        let written: Vec<Value> = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
        assert_eq!(written, kept);
        assert_eq!(
            (fixed.kept, fixed.kept + fixed.dropped),
            (kept.len(), file.len())
        );
        assert_eq!(
            fs::read_to_string(&dropped).unwrap().lines().count(),
            fixed.dropped
        );
        // What is left has no error any more.
        let clean = RecordFile::open(&out).unwrap();
        assert_eq!(
            validate(&clean, &options, &|_, _| {})
                .unwrap()
                .records_with_errors,
            0
        );
    }
}

#[test]
fn captions_are_two_turns_with_a_picture() {
    let (_folder, file, _) = dataset();
    let mut options = ValidateOptions::default();
    options.stage = RecordStage::Pretrain;
    let report = validate(&file, &options, &|_, _| {}).unwrap();
    let wrong: BTreeSet<usize> = report
        .findings
        .iter()
        .filter(|finding| finding.problem.kind() == "not_a_caption")
        .map(|finding| finding.record)
        .collect();
    assert!(!wrong.contains(&0) && wrong.contains(&1) && wrong.contains(&13));
}

/// The kinds of problems of each record, and whether a fix keeps it.
fn looked_at(stage: RecordStage, records: &[Value]) -> Vec<(Vec<&'static str>, bool)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    fs::write(&path, serde_json::to_vec(records).unwrap()).unwrap();
    let file = RecordFile::open(&path).unwrap();
    let mut options = ValidateOptions::default();
    options.stage = stage;
    let report = validate(&file, &options, &|_, _| {}).unwrap();
    let (out, dropped) = (
        folder.path().join("out.json"),
        folder.path().join("dropped"),
    );
    write_fixed(&file, &report, &out, &dropped, &BTreeSet::new(), &|_, _| {}).unwrap();
    let kept: Vec<Value> = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let kinds = |index| {
        let findings = report.findings.iter();
        let here = findings.filter(|finding| finding.record == index);
        here.map(|finding| finding.problem.kind()).collect()
    };
    let record = |(index, record)| (kinds(index), kept.contains(record));
    records.iter().enumerate().map(record).collect()
}

#[test]
fn what_training_stops_on_is_an_error() {
    let record = |id: &str, image: Value, said: &[&str]| {
        let speakers = ["human", "gpt"].into_iter().cycle();
        let turns = said.iter().zip(speakers);
        let turns: Vec<Value> = turns
            .map(|(value, from)| json!({"from": from, "value": value}))
            .collect();
        json!({"id": id, "image": image, "conversations": turns})
    };
    let mut answer = record("a", Value::Null, &["", "Hello"]);
    answer["conversations"].as_array_mut().unwrap().remove(0);
    let mut both = record(
        "b",
        json!("a.jpg"),
        &["", "<image>\nHello", "<image>\nWhat?", "A cat."],
    );
    both["conversations"].as_array_mut().unwrap().remove(0);
    let two = json!(["a.jpg", "b.jpg"]);
    let records = [
        // One place a turn, whatever stands in it.
        record("one turn", two.clone(), &["<image><image> Same?", "Yes."]),
        record(
            "two turns",
            two,
            &["<image> This?", "A cat.", "<image> And this?", "A dog."],
        ),
        record("empty list", json!([]), &["<image>\nWhat?", "A cat."]),
        // A conversation starts with the person: an answer before that is left out.
        answer,
        both,
        record("no picture", Value::Null, &["What is <image>?", "A tag."]),
    ];
    assert_eq!(
        looked_at(RecordStage::Finetune, &records),
        [
            (vec!["placeholder_count"], false),
            (vec![], true),
            (vec!["placeholder_count"], false),
            (vec!["no_answer"], false),
            (vec!["starts_with_answer"], true),
            (vec!["placeholder_without_picture"], true),
        ]
    );
    let captions = [
        record(
            "caption",
            json!("a.jpg"),
            &["<image>\nDescribe it.", "A cat."],
        ),
        record(
            "no picture",
            Value::Null,
            &["<image>\nDescribe it.", "A cat."],
        ),
        record("no place", json!("a.jpg"), &["Describe it.", "A cat."]),
    ];
    assert_eq!(
        looked_at(RecordStage::Pretrain, &captions),
        [
            (vec![], true),
            (vec!["placeholder_without_picture", "not_a_caption"], false),
            (vec!["placeholder_count", "not_a_caption"], false),
        ]
    );
}

#[test]
fn statistics_count_what_was_put_in() {
    let (_folder, file, images) = dataset();
    let mut options = StatsOptions::default();
    options.images = Some(&images);
    options.tokens = Some(&words);
    let stats = stats(&file, &options, &|_, _| {}).unwrap();
    assert_eq!((stats.records, stats.unreadable), (23, 1));
    let modality = (
        stats.modality.text,
        stats.modality.one_picture,
        stats.modality.several_pictures,
    );
    assert_eq!(modality, (9, 11, 2));
    let prefixes: Vec<_> = stats
        .id_prefixes
        .iter()
        .map(|c| (c.name.as_str(), c.count))
        .collect();
    assert_eq!(prefixes, [("t", 8), ("p", 6), ("c", 5), ("g", 3)]);
    assert_eq!(stats.turns.max, 3);
    assert_eq!(stats.words, *stats.tokens.as_ref().unwrap());
    let pictures = stats.pictures.as_ref().unwrap();
    // good.jpg, gif.jpg and the cut one have a size; html.jpg, the missing and the one outside not.
    assert_eq!(
        (pictures.distinct, pictures.sampled, pictures.unreadable),
        (6, 6, 3)
    );
    assert_eq!(
        (pictures.width.max, pictures.height.max, pictures.aspect.max),
        (64, 48, 133)
    );
    let html = stats.to_html();
    assert!(
        html.contains("<svg") && !html.contains("http"),
        "the page needs nothing else"
    );
    assert!(stats.to_text().contains("23 records"));
}

#[test]
fn a_preview_holds_its_pictures_and_says_what_is_wrong() {
    let (_folder, file, images) = dataset();
    let mut options = PreviewOptions::default();
    options.images = Some(&images);
    options.thumbnail = 32;
    let page = preview(&file, &options).unwrap();
    assert_eq!(page.matches("<article>").count(), 23);
    assert_eq!(
        page.matches("src=\"data:image/jpeg;base64,").count(),
        page.matches("<img ").count()
    );
    assert!(page.contains("64 × 48") && page.contains("there is no picture `missing.jpg`"));
    assert!(page.contains("&lt;image&gt;") && !page.contains("http"));
    options.count = 5;
    assert_eq!(
        preview(&file, &options).unwrap(),
        preview(&file, &options).unwrap()
    );
    assert_eq!(
        preview(&file, &options)
            .unwrap()
            .matches("<article>")
            .count(),
        5
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_fix_that_cannot_be_written_leaves_nothing() {
    let (folder, file, _) = dataset();
    let report = validate(&file, &ValidateOptions::default(), &|_, _| {}).unwrap();
    let out = folder.path().join("clean.json");
    let error = write_fixed(
        &file,
        &report,
        &out,
        Path::new("/proc/dropped"),
        &BTreeSet::new(),
        &|_, _| {},
    );
    assert!(error.unwrap_err().to_string().starts_with("/proc/dropped"));
    assert!(!out.exists());
}

#[test]
fn a_copy_of_nothing_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    fs::write(&path, "{\"conversations\":[]}\n").unwrap();
    let file = RecordFile::open(&path).unwrap();
    let report = validate(&file, &ValidateOptions::default(), &|_, _| {}).unwrap();
    let (copy, list) = (folder.path().join("copy.json"), folder.path().join("list"));
    let error = write_fixed(&file, &report, &copy, &list, &BTreeSet::new(), &|_, _| {});
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the copy would be empty"), "{error}");
    assert!(!copy.exists() && !list.exists());
}

#[test]
fn what_records_say_reaches_a_terminal_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.json");
    let wild = "\u{1b}[2J\u{7}\r\u{9b}31m";
    let turn = |from: &str| json!({"from": from, "value": "<image>\nx"});
    let records = json!([
        {"id": wild, "image": format!("{wild}/a.jpg"), "conversations": [turn(wild), turn("gpt")]},
        {"id": "s", "conversations": [turn("human"), turn("gpt"), json!({"from": "system", "value": "Be brief."})]},
        {"id": "p", "conversations": [{"from": "human", "value": [{"type": wild}]}]},
    ]);
    fs::write(&path, records.to_string()).unwrap();
    let file = RecordFile::open(&path).unwrap();
    let images = ImageSource::open(folder.path()).unwrap();
    let mut options = ValidateOptions::default();
    options.images = Some(&images);
    let report = validate(&file, &options, &|_, _| {}).unwrap();
    let said: Vec<String> = report
        .findings
        .iter()
        .map(|finding| finding.problem.to_string())
        .collect();
    let said = said.join("\n")
        + &stats(&file, &StatsOptions::default(), &|_, _| {})
            .unwrap()
            .to_text();
    assert!(said.contains("\\u{1b}[2J"), "{said}");
    assert!(
        said.contains("the system speaks first or not at all"),
        "{said}"
    );
    let raw = |c: char| c.is_control() && c != '\n';
    assert!(!said.chars().any(raw), "{said:?}");
}
