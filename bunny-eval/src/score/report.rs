//! What a file of answers is worth, in one value.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::statistic::{DRAWS, Figure, SEED, Statistic, wilson};
use crate::benchmark::{Benchmark, Server};
use crate::convention::Convention;

/// How an answer was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Something was found in it.
    Parsed,
    /// Nothing was found in it, and it counts as wrong.
    Unparsed,
    /// Nothing was found in it, and an option was drawn at random.
    Fallback,
    /// There is none.
    Missing,
}

/// One question and its answer, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Which question, from 0.
    pub question: usize,
    /// What was found in the answer.
    pub parsed: Option<String>,
    /// The right answer, where there is one to compare with.
    pub gold: Option<String>,
    /// 1 for right, 0 for wrong, a share of 1 where an answer can be right in part.
    pub score: f64,
    /// How the answer was taken.
    pub state: State,
}

/// What a scorer found.
#[derive(Debug, Default)]
pub(crate) struct Scored {
    /// Figures by name, as the convention's own script prints them.
    pub scores: Map<String, Value>,
    /// Figures by category.
    pub categories: Map<String, Value>,
    /// Counts that only this benchmark has.
    pub details: Map<String, Value>,
    /// Every question, judged.
    pub judged: Vec<Judged>,
    /// What intervals and comparisons are computed from.
    pub statistics: Vec<Statistic>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Scored {
    /// Adds a figure, if it is a number.
    pub fn score(&mut self, name: &str, value: f64) {
        self.scores.insert(name.to_owned(), json!(value));
    }

    /// Tells of a figure that is 0 here, and at which the reference's script stops.
    pub fn divides_by_nothing(&mut self, figure: impl std::fmt::Display) {
        self.notes.push(format!(
            "{figure}: there is nothing to divide by, which stops the reference's script; it \
             counts as 0 here"
        ));
    }
}

/// What a file of answers is worth.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The layout of this report.
    pub format_version: u32,
    /// The benchmark's name.
    pub benchmark: Benchmark,
    /// Whose rules the answers were judged by.
    pub convention: Convention,
    /// How many questions the benchmark asks, or, in part, was asked.
    pub questions: usize,
    /// How many of them have an answer.
    pub answered: usize,
    /// How many have none.
    pub missing: usize,
    /// Answers to a question that has one already.
    pub repeated: usize,
    /// Lines that are no answer and were passed over.
    pub broken_lines: usize,
    /// Answers in which nothing was found, counted as wrong.
    pub unparsed: usize,
    /// Answers in which nothing was found, replaced by a random option.
    pub fallback: usize,
    /// The mean length of an answer, in characters.
    pub mean_answer_characters: f64,
    /// Whether only the first questions were asked: the figures are no result then.
    pub partial: bool,
    /// Figures by name, as the convention's own script prints them.
    pub scores: Map<String, Value>,
    /// Figures by category.
    pub categories: Map<String, Value>,
    /// 95 % intervals by score and method.
    pub intervals: Map<String, Value>,
    /// Counts that only this benchmark has.
    pub details: Map<String, Value>,
    /// Where the figure comes from that is not computed here.
    pub server: Option<Server>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Every question, judged.
    #[serde(skip)]
    pub judged: Vec<Judged>,
    /// What intervals and comparisons are computed from.
    #[serde(skip)]
    pub statistics: Vec<Statistic>,
}

/// The intervals of every statistic, by method.
pub(crate) fn intervals(statistics: &[Statistic]) -> Map<String, Value> {
    let of = |statistic: &Statistic| {
        let mut methods = Map::new();
        if let Figure::Mean { scale } = statistic.figure {
            let sum = |at: usize| {
                statistic
                    .units
                    .iter()
                    .map(|unit| unit.sums[at])
                    .sum::<f64>()
            };
            if statistic.unit == "picture" {
                let wilson = wilson(sum(0), sum(1)).times(scale);
                methods.insert("wilson".to_owned(), json!(wilson));
            }
            if let Some(clustered) = statistic.clustered().filter(|_| statistic.has_clusters()) {
                let mut value = json!(clustered);
                value["unit"] = json!(statistic.unit);
                methods.insert("clustered".to_owned(), value);
            }
        }
        let by_drawing =
            !matches!(statistic.figure, Figure::Mean { .. }) || statistic.unit == "question";
        let drawn = by_drawing
            .then(|| statistic.bootstrap(DRAWS, SEED))
            .flatten();
        if let Some(drawn) = drawn {
            let mut value = json!(drawn);
            value["unit"] = json!(statistic.unit);
            value["draws"] = json!(DRAWS);
            value["seed"] = json!(SEED);
            methods.insert("bootstrap".to_owned(), value);
        }
        methods
    };
    let all = statistics
        .iter()
        .map(|statistic| (statistic.name.to_owned(), Value::Object(of(statistic))));
    all.collect()
}
