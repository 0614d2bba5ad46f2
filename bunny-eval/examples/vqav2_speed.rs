//! How long VQAv2 takes: as many made-up answers as test-dev has questions, read, judged, and made
//! into a submission over the whole test set; and once more by ten people's answers each.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo run -p bunny-eval --example vqav2_speed`

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use bunny_eval::score::Suite;
use bunny_eval::{Benchmark, Convention, Folder, submission};

const ASKED: usize = 107_394;
const WHOLE: usize = 447_793;
const SAID: [&str; 8] = [
    "yes",
    "No.",
    "2",
    "The red one",
    "a man's hat",
    "wi-fi - on",
    "It's 9:30 a.m.",
    "three, or four?",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let row = |id: usize, said: &str| {
        format!(
            "{{\"question_id\": {id}, \"prompt\": \"What is it?\", \"text\": \"{said}\", \"answer_id\": \"x\", \"model_id\": \"x\", \"metadata\": {{}}}}\n"
        )
    };
    let question = |id: usize| {
        format!(
            "{{\"question_id\": {id}, \"image\": \"COCO_test2015_{:012}.jpg\", \"text\": \"What is it?\\nAnswer the question using a single word or phrase.\", \"category\": \"default\"}}\n",
            id / 3
        )
    };
    let answers: String = (0..ASKED)
        .map(|id| row(id, SAID[id % SAID.len()]))
        .collect();
    let asked: String = (0..ASKED).map(question).collect();
    let whole: String = (0..WHOLE).map(question).collect();
    let test = root.path().join("test");
    put(&test, "bunny_vqav2_mscoco_test-dev2015.jsonl", &asked)?;
    put(&test, "bunny_vqav2_mscoco_test2015.jsonl", &whole)?;
    put(root.path(), "answers.jsonl", &answers)?;

    let started = Instant::now();
    let suite = Suite::read(Benchmark::Vqav2, Folder::open(&test)?)?;
    let read = started.elapsed();
    let given = suite.answers(root.path().join("answers.jsonl"))?;
    let report = suite.score(&given, Convention::Reference)?;
    let judged = started.elapsed();
    let made = submission(&suite, &given)?;
    println!(
        "{} answers: questions read after {:.2} s, answers judged after {:.2} s, {} rows of a submission after {:.2} s",
        report.answered,
        read.as_secs_f64(),
        judged.as_secs_f64(),
        report.answered + made.padded,
        started.elapsed().as_secs_f64()
    );

    let val = root.path().join("val");
    let (mut questions, mut people) = (
        String::from("{\"questions\": ["),
        String::from("{\"annotations\": ["),
    );
    for id in 0..ASKED {
        let comma = if id == 0 { "" } else { ", " };
        write!(
            questions,
            "{comma}{{\"image_id\": {}, \"question\": \"What is it?\", \"question_id\": {id}}}",
            id / 3
        )?;
        write!(
            people,
            "{comma}{{\"question_id\": {id}, \"answer_type\": \"other\", \"answers\": ["
        )?;
        for one in 0..10 {
            let comma = if one == 0 { "" } else { ", " };
            write!(
                people,
                "{comma}{{\"answer\": \"{}\", \"answer_id\": {one}}}",
                SAID[(id + one % 3) % SAID.len()]
            )?;
        }
        people.push_str("]}");
    }
    put(
        &val,
        "v2_OpenEnded_mscoco_val2014_questions.json",
        &(questions + "]}"),
    )?;
    put(&val, "v2_mscoco_val2014_annotations.json", &(people + "]}"))?;
    let started = Instant::now();
    let suite = Suite::read(Benchmark::Vqav2, Folder::open(&val)?)?;
    let report = suite.score(
        &suite.answers(root.path().join("answers.jsonl"))?,
        Convention::Reference,
    )?;
    println!(
        "{} answers by ten people's each, {}: {:.2} s",
        report.answered,
        report.scores["accuracy"],
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn put(folder: &Path, name: &str, content: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), content)
}
