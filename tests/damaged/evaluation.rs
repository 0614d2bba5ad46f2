//! What is asked and what was answered: files of answers, of questions, and those of the benchmarks.

use std::{fs, path::PathBuf};

use bunny_eval::{
    Answers, Benchmark, Convention,
    answer::BrokenLines,
    folder,
    qa::{self, Form},
    score::Suite,
};

use crate::{
    damage::Seed,
    driver::{Allowed, copy_folder, files_below, folder as work_folder, fuzz, root, write_anew},
};

const ALLOWED: Allowed = Allowed {
    fixed: 32 << 20,
    per_byte: 400,
};

fn fixtures() -> PathBuf {
    root().join("bunny-eval/tests/fixtures")
}

#[test]
fn answers() {
    let files = files_below(&fixtures().join("answers")).into_iter();
    let seeds: Vec<Seed> = files.map(|file| fs::read(file).unwrap().into()).collect();
    fuzz("answers", ALLOWED, &seeds, |random, damaged| {
        let broken = match random.once_in(2) {
            true => BrokenLines::Count,
            false => BrokenLines::Refuse,
        };
        let read = Answers::parse("answers.jsonl".as_ref(), damaged, broken);
        read.map(drop).map_err(|error| error.to_string())
    });
}

#[test]
fn questions() {
    let seeds = [
        "question\tanswer\timage\tquestion_id\nWhat?\tcat\ta.jpg\t1\n\"Why,\nso?\"\tdog\t\t2\n",
        "question,answer,image\nWhat?,\"cat, or dog\",a.jpg\nWhy?,so,\n",
        "{\"question\":\"What?\",\"answer\":[\"a\",\"b\"],\"image\":\"a.jpg\"}\n{\"question\":\"Why?\",\"answer\":\"so\"}\n",
        "[{\"id\":\"1\",\"image\":\"a.jpg\",\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nWhat?\"},{\"from\":\"gpt\",\"value\":\"A cat.\"}]}]",
    ];
    let seeds = seeds.map(|text| Seed::from(text.as_bytes().to_vec()));
    let folder = work_folder();
    let file = folder.path().join("questions");
    fuzz("questions", ALLOWED, &seeds, |random, damaged| {
        write_anew(&file, damaged);
        let form = *random.pick(&[Form::Tsv, Form::Csv, Form::Lines, Form::Llava]);
        let items = qa::read_questions(&file, form).map_err(|error| error.to_string())?;
        qa::questions(&items);
        Ok(())
    });
}

#[test]
fn benchmarks() {
    let work = work_folder();
    copy_folder(&fixtures(), work.path());
    let files: Vec<PathBuf> = files_below(work.path())
        .into_iter()
        .filter(|file| {
            let below = file.strip_prefix(work.path()).unwrap();
            let is_picture = file.extension().is_some_and(|ending| ending == "jpg");
            let is_ours = ["expected", "answers", "functions.json"]
                .iter()
                .any(|own| below.starts_with(own));
            !is_picture && !is_ours
        })
        .collect();
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    fuzz("benchmarks", ALLOWED, &seeds, |random, damaged| {
        let alike = |at: &usize| {
            let same = whole[*at].iter().zip(damaged).take_while(|(a, b)| a == b);
            same.count()
        };
        let at = (0..files.len()).max_by_key(alike).unwrap();
        write_anew(&files[at], damaged);
        let below = files[at].strip_prefix(work.path()).unwrap();
        let own = |benchmark: &&Benchmark| below.starts_with(benchmark.folder_name());
        let all = Benchmark::ALL.iter().filter(own).collect::<Vec<_>>();
        let read = || {
            for benchmark in all {
                let suite = Suite::read(*benchmark, folder(*benchmark, work.path())?)?;
                let answers = fixtures()
                    .join("answers")
                    .join(format!("{}.jsonl", benchmark.name()));
                if answers.exists() && random.once_in(2) {
                    let answers = suite.answers(answers)?;
                    for convention in Convention::ALL {
                        // Not every scorer is there for every benchmark.
                        let _ = suite.score(&answers, convention);
                    }
                }
            }
            Ok(())
        };
        let read: Result<(), bunny_eval::EvalError> = read();
        write_anew(&files[at], &whole[at]);
        read.map_err(|error| error.to_string())
    });
}
