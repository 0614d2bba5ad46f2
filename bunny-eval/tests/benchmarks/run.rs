//! Runs that are killed and begun again, and rows that were asked otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bunny_eval::picture::Pictures;
use bunny_eval::run::{Answerer, Asked, Job, Model, Options, Reply, Shard, WINDOW, merge, run};
use bunny_eval::score::Suite;
use bunny_eval::{Benchmark, Convention, EvalError, Failure, Folder, Question, Template, folder};

use crate::fixtures;

/// Answers from what it is asked alone, the last first; it may be slow, and may fail.
struct Fake {
    name: &'static str,
    pause: Duration,
    fails_after: Option<usize>,
    windows: Vec<usize>,
}

impl Fake {
    fn new() -> Self {
        Self {
            name: "fake",
            pause: Duration::ZERO,
            fails_after: None,
            windows: Vec::new(),
        }
    }
}

impl Answerer for Fake {
    fn model(&self) -> Model {
        Model {
            name: self.name.to_owned(),
            fingerprint: format!("weights of {}", self.name),
        }
    }

    fn answer(
        &mut self,
        asked: Vec<Asked>,
        options: &Options,
        done: &mut dyn FnMut(usize, Reply) -> bunny_eval::Result<()>,
    ) -> Result<(), Failure> {
        let lengths: Vec<usize> = asked.iter().map(|one| one.prompt.len()).collect();
        assert!(lengths.is_sorted(), "asked by length: {lengths:?}");
        self.windows.push(asked.len());
        for one in asked.into_iter().rev() {
            if self.fails_after == Some(0) {
                return Err("out of memory".into());
            }
            self.fails_after = self.fails_after.map(|more| more - 1);
            std::thread::sleep(self.pause);
            let seen: usize = one.pictures.iter().map(|picture| picture.len()).sum();
            let sum = one.prompt.bytes().map(usize::from).sum::<usize>() + seen;
            let said = [" Yes\n", "no é", "B", "(A) \u{1f407}", "\"quoted\"\t"][sum % 5];
            done(
                one.place,
                Reply {
                    text: said.to_owned(),
                    tokens: sum % 7,
                    is_cut: sum % 7 == options.max_new_tokens,
                },
            )?;
        }
        Ok(())
    }
}

fn options() -> Options {
    Options {
        max_new_tokens: 6,
        more: [("temperature".to_owned(), "0".to_owned())].into(),
    }
}

struct Given {
    benchmark: Benchmark,
    folder: Folder,
    questions: Vec<Question>,
}

impl Given {
    fn new(benchmark: Benchmark) -> Self {
        let folder = folder(benchmark, fixtures()).unwrap();
        let questions = bunny_eval::questions(benchmark, &folder).unwrap();
        Self {
            benchmark,
            folder,
            questions,
        }
    }

    fn run(
        &self,
        path: &Path,
        answerer: &mut Fake,
        options: Options,
        shard: Shard,
    ) -> bunny_eval::Result<Vec<usize>> {
        self.run_in_windows(path, answerer, options, shard, 5)
    }

    fn run_in_windows(
        &self,
        path: &Path,
        answerer: &mut Fake,
        options: Options,
        shard: Shard,
        window: usize,
    ) -> bunny_eval::Result<Vec<usize>> {
        let pictures = Pictures::new(&self.folder);
        let template = Template::default();
        let job = Job {
            questions: &self.questions[shard.range(self.questions.len())],
            prompt: &|question| template.prompt(question),
            picture: &|picture| pictures.read(picture),
            clean: &|answer| self.benchmark.clean(template, answer),
            options,
            window,
        };
        let mut told = Vec::new();
        run(path, &job, answerer, &mut |progress| {
            told.push(progress.done)
        })?;
        Ok(told)
    }
}

fn whole(given: &Given, folder: &Path) -> Vec<u8> {
    let path = folder.join("whole.jsonl");
    given
        .run(&path, &mut Fake::new(), options(), Shard::WHOLE)
        .unwrap();
    std::fs::read(path).unwrap()
}

/// The process that [`a_killed_run_ends_with_the_same_bytes`] kills.
#[test]
fn a_run_that_another_test_kills() {
    let Some(path) = std::env::var_os("BUNNY_EVAL_KILLED_RUN") else {
        return;
    };
    let mut slow = Fake::new();
    slow.pause = Duration::from_millis(8);
    let given = Given::new(Benchmark::Pope);
    given
        .run(Path::new(&path), &mut slow, options(), Shard::WHOLE)
        .unwrap();
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Pope);
    let expected = whole(&given, root.path());
    let path = root.path().join("killed.jsonl");
    let lines = || {
        std::fs::read(&path)
            .unwrap_or_default()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let (mut kills, mut before) = (0, 0);
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run::a_run_that_another_test_kills"])
            .env("BUNNY_EVAL_KILLED_RUN", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It dies once it has written something more, or it comes to its end.
        let ended = loop {
            if child.try_wait().unwrap().is_some() {
                break true;
            }
            if lines() > before && kills < 3 {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if ended {
            break;
        }
        kills += 1;
        before = lines();
        // As a kill in the midst of a write.
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"question_id\": 3, \"pro");
        std::fs::write(&path, torn).unwrap();
    }
    assert!(kills >= 2, "{kills} kills");
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn rows_stand_in_the_questions_order_whatever_the_windows() {
    let root = tempfile::tempdir().unwrap();
    for benchmark in Benchmark::ALL {
        let given = Given::new(benchmark);
        let expected = whole(&given, root.path());
        std::fs::remove_file(root.path().join("whole.jsonl")).unwrap();
        let path = root.path().join(format!("{benchmark}.jsonl"));
        let mut fake = Fake::new();
        let told = given
            .run_in_windows(&path, &mut fake, options(), Shard::WHOLE, WINDOW)
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected, "{benchmark}");
        assert_eq!(fake.windows, [given.questions.len()]);
        assert_eq!(told, (0..=given.questions.len()).collect::<Vec<_>>());
        // Nothing is left to ask, and the scorer takes the rows.
        let mut idle = Fake::new();
        given
            .run(&path, &mut idle, options(), Shard::WHOLE)
            .unwrap();
        assert!(idle.windows.is_empty());
        let suite = Suite::read(benchmark, folder(benchmark, fixtures()).unwrap()).unwrap();
        let report = suite
            .score(&suite.answers(&path).unwrap(), Convention::Reference)
            .unwrap();
        assert_eq!(
            (report.answered, report.missing),
            (given.questions.len(), 0),
            "{benchmark}"
        );
    }
}

#[test]
fn answers_are_kept_as_the_reference_keeps_them() {
    let root = tempfile::tempdir().unwrap();
    let kept = |benchmark| {
        let bytes = whole(&Given::new(benchmark), root.path());
        std::fs::remove_file(root.path().join("whole.jsonl")).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let pope = kept(Benchmark::Pope);
    assert!(
        pope.contains("\"text\": \"Yes\"") && pope.contains("no \\u00e9"),
        "{pope}"
    );
    assert!(
        pope.is_ascii()
            && pope.contains("\"answer_id\": \"")
            && pope.contains("\"model_id\": \"fake\"")
    );
    assert!(kept(Benchmark::MmmuVal).contains("\"text\": \" Yes\\n\""));
}

#[test]
fn a_model_that_fails_half_way_leaves_what_it_answered() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Gqa);
    let expected = whole(&given, root.path());
    let path = root.path().join("failed.jsonl");
    let ahead = root.path().join("failed.jsonl.ahead");
    // The first three come before their turn; the first seven are in the file.
    for (answered, asked_again) in [(3, vec![2, 5]), (7, vec![3])] {
        let mut failing = Fake::new();
        failing.fails_after = Some(answered);
        let error = given
            .run(&path, &mut failing, options(), Shard::WHOLE)
            .unwrap_err();
        assert_eq!(error.to_string(), "the model cannot answer: out of memory");
        assert!(std::fs::read(&path).unwrap().len() < expected.len());
        // As a kill in the midst of a write.
        let mut torn = std::fs::read(&ahead).unwrap();
        torn.extend_from_slice(b"9\t{\"question_id\": \"20");
        std::fs::write(&ahead, torn).unwrap();
        let mut again = Fake::new();
        let told = given
            .run(&path, &mut again, options(), Shard::WHOLE)
            .unwrap();
        assert_eq!(told, (answered..=10).collect::<Vec<_>>());
        assert_eq!(again.windows, asked_again);
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert!(!ahead.exists());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn answers_that_wait_for_their_turn_must_have_been_asked_as_now() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Gqa);
    let expected = whole(&given, root.path());
    let path = root.path().join("answers.jsonl");
    let mut failing = Fake::new();
    failing.fails_after = Some(4);
    let longer = Options {
        max_new_tokens: 7,
        ..options()
    };
    given
        .run(&path, &mut failing, longer, Shard::WHOLE)
        .unwrap_err();
    assert!(root.path().join("answers.jsonl.ahead").exists());
    std::fs::remove_file(&path).unwrap();
    let mut again = Fake::new();
    given
        .run(&path, &mut again, options(), Shard::WHOLE)
        .unwrap();
    assert_eq!(again.windows, [5, 5]);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn stored_rows_must_have_been_asked_as_now() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Mme);
    whole(&given, root.path());
    let path = root.path().join("whole.jsonl");
    let refused = |given: &Given, fake: &mut Fake, options: Options| match given
        .run(&path, fake, options, Shard::WHOLE)
        .unwrap_err()
    {
        EvalError::Stored { line, what, .. } => (line, what),
        other => panic!("{other}"),
    };
    let mut other = Fake::new();
    other.name = "another";
    assert_eq!(refused(&given, &mut other, options()), (1, "models"));
    let longer = Options {
        max_new_tokens: 7,
        ..options()
    };
    assert_eq!(refused(&given, &mut Fake::new(), longer), (1, "options"));
    let mut changed = Given::new(Benchmark::Mme);
    changed.questions[2].text.push('?');
    assert_eq!(
        refused(&changed, &mut Fake::new(), options()),
        (3, "prompts")
    );
    let mut changed = Given::new(Benchmark::Mme);
    changed.questions[4].pictures = given.questions[0].pictures.clone();
    assert_eq!(
        refused(&changed, &mut Fake::new(), options()),
        (5, "pictures")
    );
    let mut changed = Given::new(Benchmark::Mme);
    changed.questions.remove(0);
    assert_eq!(
        refused(&changed, &mut Fake::new(), options()),
        (1, "prompts")
    );
    let mut changed = Given::new(Benchmark::Mme);
    changed.questions.pop();
    let rows = changed.questions.len() + 1;
    assert_eq!(
        refused(&changed, &mut Fake::new(), options()),
        (rows, "questions")
    );
    // A file that another program wrote says nothing of how it was asked.
    let foreign = root.path().join("foreign.jsonl");
    std::fs::copy(fixtures().join("answers/mme.jsonl"), &foreign).unwrap();
    let error = given
        .run(&foreign, &mut Fake::new(), options(), Shard::WHOLE)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 1: not a row that such a run wrote"),
        "{error}"
    );
}

#[test]
fn parts_come_together_in_the_questions_order() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Mme);
    let expected = String::from_utf8(whole(&given, root.path())).unwrap();
    let suite = Suite::read(Benchmark::Mme, folder(Benchmark::Mme, fixtures()).unwrap()).unwrap();
    let parts: Vec<PathBuf> = (1..=4)
        .map(|number| {
            let path = root.path().join(format!("part{number}.jsonl"));
            let shard = format!("{number}/4").parse().unwrap();
            given
                .run(&path, &mut Fake::new(), options(), shard)
                .unwrap();
            path
        })
        .collect();
    let merged = |files: &[PathBuf]| {
        merge(
            Benchmark::Mme,
            suite.questions(),
            files,
            |question, prompt| suite.is_asked(question, prompt),
        )
    };
    let turned: Vec<PathBuf> = parts.iter().rev().cloned().collect();
    assert_eq!(merged(&turned).unwrap().text, expected);

    let gap = merged(&parts[..3]).unwrap_err().to_string();
    assert!(
        gap.starts_with("9 of 36 questions are answered nowhere, the first is question_id"),
        "{gap}"
    );
    assert!(gap.ends_with("(row 28)"), "{gap}");
    let twice = [parts[0].clone(), parts[1].clone(), parts[1].clone()];
    let overlap = merged(&twice).unwrap_err().to_string();
    assert!(
        overlap.contains("is answered in") && overlap.contains("part2.jsonl"),
        "{overlap}"
    );
}

#[test]
fn two_runs_do_not_write_one_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("answers.jsonl");
    let held = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    held.lock().unwrap();
    let error = Given::new(Benchmark::Gqa)
        .run(&path, &mut Fake::new(), options(), Shard::WHOLE)
        .unwrap_err();
    assert!(matches!(error, EvalError::Busy { .. }), "{error}");
}

#[test]
fn a_reply_to_nothing_and_a_question_without_reply_are_errors() {
    struct Wrong(usize);
    impl Answerer for Wrong {
        fn model(&self) -> Model {
            Fake::new().model()
        }

        fn answer(
            &mut self,
            asked: Vec<Asked>,
            _: &Options,
            done: &mut dyn FnMut(usize, Reply) -> bunny_eval::Result<()>,
        ) -> Result<(), Failure> {
            let reply = Reply {
                text: "no".to_owned(),
                tokens: 1,
                is_cut: false,
            };
            Ok(done(self.0 * asked.len(), reply)?)
        }
    }
    let root = tempfile::tempdir().unwrap();
    let given = Given::new(Benchmark::Gqa);
    let pictures = Pictures::new(&given.folder);
    let job = Job {
        questions: &given.questions,
        prompt: &|question| question.text.clone(),
        picture: &|picture| -> bunny_eval::Result<Arc<[u8]>> { pictures.read(picture) },
        clean: &str::to_owned,
        options: options(),
        window: WINDOW,
    };
    let asked = |wrong: usize, name: &str| {
        run(
            &root.path().join(name),
            &job,
            &mut Wrong(wrong),
            &mut |_| {},
        )
        .unwrap_err()
    };
    assert!(matches!(asked(1, "a"), EvalError::Unasked { .. }));
    assert!(matches!(asked(0, "b"), EvalError::Unanswered { .. }));
}
