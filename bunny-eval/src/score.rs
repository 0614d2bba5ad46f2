//! What a file of answers is worth: one scorer a benchmark, under three conventions.

use std::path::Path;

use crate::answer::{Answer, Answers, BrokenLines, Matched, matched};
use crate::benchmark::Benchmark;
use crate::convention::Convention;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::Question;
use crate::suites;

pub(crate) mod gqa;
pub(crate) mod letter;
pub(crate) mod letter_lmms;
mod mmbench;
pub(crate) mod mme;
pub(crate) mod mmmu;
pub(crate) mod mmmu_choice;
pub(crate) mod mmmu_open;
mod pope;
mod report;
mod scienceqa;
mod seed_bench;
pub mod statistic;
pub(crate) mod vqa_answer;
mod vqav2;
pub(crate) mod yes_no;

pub use report::{Judged, Report, State};
pub(crate) use report::{Scored, intervals};
pub use vqa_answer::normalise as normalise_vqa_answer;

/// What a scorer is given.
pub(crate) struct Given<'a> {
    /// The benchmark's folder, for messages.
    pub data: &'a Path,
    pub convention: Convention,
    pub questions: &'a [Question],
    pub matched: &'a Matched<'a>,
    /// The last answer to each question.
    pub last: Vec<Option<&'a Answer>>,
}

/// The questions of a benchmark, its right answers, and the answers of a file.
///
/// The questions are read once and may be scored under several conventions.
#[derive(Debug)]
pub struct Suite {
    benchmark: Benchmark,
    folder: Folder,
    questions: Vec<Question>,
    gold: Gold,
    /// Whether only the first questions count.
    partial: bool,
}

/// The right answers.
#[derive(Debug)]
pub(crate) enum Gold {
    Mme(suites::mme::Gold),
    Pope(Vec<bool>),
    Mmmu(Vec<suites::mmmu::Row>, Option<Vec<suites::mmmu::Gold>>),
    Mmbench(suites::mmbench::Table),
    SeedBench(suites::seed_bench::Gold),
    Vqav2(Option<Vec<Option<suites::vqav2::Gold>>>),
    Gqa(Vec<suites::gqa::Gold>),
    ScienceQa(Vec<suites::scienceqa::Gold>),
}

impl Suite {
    /// Reads the questions and right answers of a benchmark.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be.
    pub fn read(benchmark: Benchmark, folder: Folder) -> Result<Self> {
        let (questions, gold) = match benchmark {
            Benchmark::Mme => {
                let questions = suites::mme::questions(&folder)?;
                let gold = suites::mme::Gold::read(&folder, &questions)?;
                (questions, Gold::Mme(gold))
            }
            Benchmark::Pope => {
                let questions = suites::pope::questions(&folder)?;
                let gold = suites::pope::is_no(&folder, &questions)?;
                (questions, Gold::Pope(gold))
            }
            Benchmark::MmmuVal => {
                let rows = suites::mmmu::rows(&folder, "validation")?;
                let gold = suites::mmmu::gold(&folder, &rows)?;
                let questions = rows.iter().map(|row| row.question.clone()).collect();
                (questions, Gold::Mmmu(rows, Some(gold)))
            }
            Benchmark::MmmuTest => {
                let rows = suites::mmmu::rows(&folder, "test")?;
                let questions = rows.iter().map(|row| row.question.clone()).collect();
                (questions, Gold::Mmmu(rows, None))
            }
            Benchmark::MmbenchDev | Benchmark::MmbenchTest => {
                let table = suites::mmbench::Table::read(&folder, benchmark)?;
                (table.questions(), Gold::Mmbench(table))
            }
            Benchmark::SeedBench => {
                let questions = suites::seed_bench::questions(&folder)?;
                let gold = suites::seed_bench::gold(&folder, &questions)?;
                (questions, Gold::SeedBench(gold))
            }
            Benchmark::Vqav2 => {
                let questions = suites::vqav2::questions(&folder)?;
                let is_val = suites::vqav2::is_val(&folder)?;
                let gold = is_val
                    .then(|| suites::vqav2::gold(&folder, &questions))
                    .transpose()?;
                (questions, Gold::Vqav2(gold))
            }
            Benchmark::Gqa => {
                let questions = suites::gqa::questions(&folder)?;
                let gold = suites::gqa::gold(&folder, &questions)?;
                (questions, Gold::Gqa(gold))
            }
            Benchmark::ScienceQa => {
                let questions = suites::scienceqa::questions(&folder)?;
                let gold = suites::scienceqa::gold(&folder, &questions)?;
                (questions, Gold::ScienceQa(gold))
            }
        };
        Ok(Self {
            benchmark,
            folder,
            questions,
            gold,
            partial: false,
        })
    }

    /// What is asked.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Reads a file of answers as this benchmark's script does.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn answers(&self, path: impl AsRef<Path>) -> Result<Answers> {
        let broken = match self.benchmark {
            Benchmark::Vqav2 => BrokenLines::Count,
            _ => BrokenLines::Refuse,
        };
        Answers::read(path, broken)
    }

    /// Judges a file of answers.
    ///
    /// # Errors
    /// When an answer is to no question, or the convention has no scorer for the benchmark.
    pub fn score(&self, answers: &Answers, convention: Convention) -> Result<Report> {
        let matched = self.matched(answers)?;
        let given = self.given(&matched, convention);
        let scored = self.judged(&given)?;
        Ok(self.report(scored, answers, &given))
    }

    /// The share of right answers among those that are there, without any convention's ways with
    /// those that are not: how a run is doing. `None` where the right answers are not known.
    ///
    /// # Errors
    /// As for [`score`](Self::score).
    pub fn share_right(&self, answers: &Answers) -> Result<Option<f64>> {
        let matched = self.matched(answers)?;
        let scored = self.judged(&self.given(&matched, Convention::Reference))?;
        let there = scored
            .judged
            .iter()
            .filter(|judged| judged.state != State::Missing && judged.gold.is_some());
        let (sum, count) = there.fold((0.0, 0), |(sum, count), judged| {
            (sum + judged.score, count + 1)
        });
        Ok((count > 0).then(|| sum / f64::from(count)))
    }

    /// Whether a convention scores this benchmark.
    ///
    /// # Errors
    /// [`EvalError::NoScorer`] when it does not.
    pub fn require_scorer(&self, convention: Convention) -> Result<()> {
        match (self.benchmark, convention) {
            (benchmark @ Benchmark::Vqav2, Convention::VlmEvalKit) => Err(EvalError::NoScorer {
                benchmark,
                convention,
            }),
            _ => Ok(()),
        }
    }

    fn judged(&self, given: &Given<'_>) -> Result<Scored> {
        self.require_scorer(given.convention)?;
        Ok(match &self.gold {
            Gold::Mme(gold) => mme::score(given, gold)?,
            Gold::Pope(is_no) => pope::score(given, is_no),
            Gold::Mmmu(rows, gold) => mmmu::score(given, rows, gold.as_deref()),
            Gold::Mmbench(table) => mmbench::score(given, table),
            Gold::SeedBench(gold) => seed_bench::score(given, gold),
            Gold::Vqav2(gold) => vqav2::score(given, gold.as_deref()),
            Gold::Gqa(gold) => gqa::score(given, gold),
            Gold::ScienceQa(gold) => scienceqa::score(given, gold),
        })
    }

    /// The benchmark.
    pub fn benchmark(&self) -> Benchmark {
        self.benchmark
    }

    /// Where its files are.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Whether only the first questions count.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    pub(crate) fn gold(&self) -> &Gold {
        &self.gold
    }

    /// Leaves only the first `limit` questions: what follows is a part, and is marked as such.
    pub fn limit(&mut self, limit: usize) {
        if limit >= self.questions.len() {
            return;
        }
        self.partial = true;
        self.questions.truncate(limit);
        match &mut self.gold {
            Gold::Mme(_) => {}
            Gold::Pope(is_no) => is_no.truncate(limit),
            Gold::Mmmu(rows, gold) => {
                rows.truncate(limit);
                gold.iter_mut().for_each(|gold| gold.truncate(limit));
            }
            Gold::Mmbench(table) => table.rows.truncate(limit),
            Gold::SeedBench(gold) => {
                gold.rows
                    .retain(|row| row.question.is_some_and(|question| question < limit));
            }
            Gold::Vqav2(gold) => gold.iter_mut().for_each(|gold| gold.truncate(limit)),
            Gold::Gqa(gold) => gold.truncate(limit),
            Gold::ScienceQa(gold) => gold.retain(|row| row.question < limit),
        }
    }

    /// The last answer to each question.
    ///
    /// # Errors
    /// When an answer is to no question.
    pub fn last<'a>(&self, answers: &'a Answers) -> Result<Vec<Option<&'a Answer>>> {
        Ok(self.matched(answers)?.last(self.questions.len()))
    }

    /// Whether a question is the one that was asked by some prompt, where several share an id.
    pub fn is_asked(&self, question: &Question, prompt: &str) -> bool {
        match &self.gold {
            Gold::Mme(gold) => {
                let asked = |prompt| gold.asked(&question.id, prompt);
                asked(prompt).is_some_and(|found| asked(&question.text) == Some(found))
            }
            _ => question.recorded.as_deref() == Some(prompt),
        }
    }

    pub(crate) fn matched<'a>(&self, answers: &'a Answers) -> Result<Matched<'a>> {
        let same = |question: &Question, prompt: &str| self.is_asked(question, prompt);
        matched(self.benchmark, &self.questions, answers, same)
    }

    pub(crate) fn given<'a>(
        &'a self,
        matched: &'a Matched<'a>,
        convention: Convention,
    ) -> Given<'a> {
        Given {
            data: self.folder.path(),
            convention,
            questions: &self.questions,
            last: matched.last(self.questions.len()),
            matched,
        }
    }

    fn report(&self, scored: Scored, answers: &Answers, given: &Given<'_>) -> Report {
        let count = |state| {
            scored
                .judged
                .iter()
                .filter(|judged| judged.state == state)
                .count()
        };
        let lengths = given
            .last
            .iter()
            .flatten()
            .map(|answer| answer.text.chars().count());
        let answered = given.last.iter().flatten().count();
        let characters: usize = lengths.sum();
        Report {
            format_version: 1,
            benchmark: self.benchmark,
            convention: given.convention,
            questions: self.questions.len(),
            answered,
            missing: given.matched.missing.len(),
            repeated: given.matched.repeated,
            broken_lines: answers.broken(),
            unparsed: count(State::Unparsed),
            fallback: count(State::Fallback),
            mean_answer_characters: statistic::ratio(characters as f64, answered as f64),
            partial: self.partial,
            scores: scored.scores,
            categories: scored.categories,
            intervals: intervals(&scored.statistics),
            details: scored.details,
            server: self.benchmark.server(),
            notes: scored.notes,
            judged: scored.judged,
            statistics: scored.statistics,
        }
    }
}
