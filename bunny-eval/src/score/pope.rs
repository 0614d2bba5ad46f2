//! POPE: F1 of "yes" in three categories, and their mean.

use serde_json::{Value, json};

use super::report::{Judged, Scored, State};
use super::statistic::{Figure, Statistic, f1, ratio};
use super::{Given, yes_no};
use crate::convention::Convention;
use crate::suites::pope::CATEGORIES;

/// Counts of a category. What is neither yes nor no counts as its harness has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    tp: usize,
    fp: usize,
    tn: usize,
    fn_: usize,
    /// Answers that are right.
    right: usize,
    rows: usize,
    /// Answers that say yes.
    yes: usize,
    /// Answers without a label, by their place.
    beyond: usize,
}

impl Counts {
    /// `counted` is what an answer counts as among true and false ones: VLMEvalKit takes what is
    /// neither for no there, though it is never right.
    fn add(&mut self, gold_is_yes: bool, said: Option<bool>, counted: Option<bool>) {
        self.rows += 1;
        self.right += usize::from(said == Some(gold_is_yes));
        self.yes += usize::from(said == Some(true));
        match (gold_is_yes, counted) {
            (true, Some(true)) => self.tp += 1,
            (false, Some(true)) => self.fp += 1,
            (false, Some(false)) => self.tn += 1,
            (true, Some(false)) => self.fn_ += 1,
            (_, None) => {}
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            tp: self.tp + other.tp,
            fp: self.fp + other.fp,
            tn: self.tn + other.tn,
            fn_: self.fn_ + other.fn_,
            right: self.right + other.right,
            rows: self.rows + other.rows,
            yes: self.yes + other.yes,
            beyond: self.beyond + other.beyond,
        }
    }

    fn precision(&self) -> f64 {
        ratio(self.tp as f64, (self.tp + self.fp) as f64)
    }

    fn recall(&self) -> f64 {
        ratio(self.tp as f64, (self.tp + self.fn_) as f64)
    }

    fn f1(&self) -> f64 {
        f1(self.tp as f64, self.fp as f64, self.fn_ as f64)
    }

    fn accuracy(&self) -> f64 {
        ratio(self.right as f64, self.rows as f64)
    }

    fn told(&self) -> Value {
        json!({
            "f1": self.f1(),
            "accuracy": self.accuracy(),
            "precision": self.precision(),
            "recall": self.recall(),
            "yes_ratio": ratio(self.yes as f64, (self.rows + self.beyond) as f64),
            "tp": self.tp, "fp": self.fp, "tn": self.tn, "fn": self.fn_,
            "questions": self.rows,
        })
    }
}

/// The categories in alphabetical order: the script adds their F1 in the order of a folder.
const ORDER: [usize; 3] = [0, 2, 1];

pub(crate) fn score(given: &Given<'_>, is_no: &[bool]) -> Scored {
    let mut scored = Scored::default();
    let mut joined = [Counts::default(); 3];
    let mut pictures = Vec::new();
    for (at, question) in given.questions.iter().enumerate() {
        let gold_is_yes = !is_no[at];
        let answer = given.last[at];
        let said = answer.and_then(|answer| said(given.convention, &answer.text));
        let counted = match (answer, given.convention) {
            // What was not answered counts as answered wrongly.
            (None, _) => Some(!gold_is_yes),
            (Some(_), Convention::VlmEvalKit) => Some(said == Some(true)),
            (Some(_), _) => said,
        };
        if let Some(category) = CATEGORIES
            .iter()
            .position(|name| *name == question.category)
        {
            joined[category].add(gold_is_yes, said, counted);
            let mut counts = Counts::default();
            counts.add(gold_is_yes, said, counted);
            pictures.push((question.cluster(), category, counts));
        }
        scored.judged.push(Judged {
            question: at,
            parsed: said.map(|yes| yes_no::word(yes).to_owned()),
            gold: Some(yes_no::word(gold_is_yes).to_owned()),
            score: f64::from(u8::from(said == Some(gold_is_yes))),
            state: match (answer, said) {
                (None, _) => State::Missing,
                (Some(_), None) => State::Unparsed,
                (Some(_), Some(_)) => State::Parsed,
            },
        });
    }
    let mut figure = "f1";
    let mean = |counts: &[Counts; 3], of: fn(&Counts) -> f64| {
        ORDER.iter().map(|at| of(&counts[*at])).sum::<f64>() / 3.0
    };
    let told = match given.convention {
        Convention::Reference => {
            let placed = by_place(given, is_no);
            scored.score("f1", mean(&placed, Counts::f1));
            scored.score("accuracy", mean(&placed, Counts::accuracy));
            // Without a true yes precision, recall or their sum is a divisor of 0.
            for at in ORDER.into_iter().filter(|at| placed[*at].tp == 0) {
                scored.divides_by_nothing(format_args!("F1 of {}", CATEGORIES[at]));
            }
            if placed != joined {
                scored.score("f1_strict", mean(&joined, Counts::f1));
                // What is drawn are pictures with all their questions, which the script takes apart.
                figure = "f1_strict";
                scored.notes.push(
                    "the reference's script pairs answers with labels by their place in the file: \
                     where one lacks, those behind it meet another question's label"
                        .to_owned(),
                );
            }
            placed
        }
        Convention::LmmsEval | Convention::VlmEvalKit => {
            let all = joined.into_iter().fold(Counts::default(), Counts::plus);
            scored.score("f1", all.f1());
            scored.score("accuracy", all.accuracy());
            scored.score("precision", all.precision());
            scored.score("recall", all.recall());
            if given.convention == Convention::LmmsEval {
                // Of the right answers, whatever was said.
                let yes = is_no.iter().filter(|is_no| !**is_no).count();
                scored.score("yes_ratio", ratio(yes as f64, is_no.len() as f64));
            }
            joined
        }
    };
    for at in ORDER {
        scored
            .categories
            .insert(CATEGORIES[at].to_owned(), told[at].told());
    }
    let pooled = given.convention != Convention::Reference;
    let rows = pictures.into_iter().map(|(picture, category, counts)| {
        let mut sums = vec![0.0; if pooled { 3 } else { 9 }];
        let from = if pooled { 0 } else { 3 * category };
        sums[from..from + 3]
            .copy_from_slice(&[counts.tp, counts.fp, counts.fn_].map(|count| count as f64));
        (picture, 0, sums)
    });
    let statistic = Statistic::gathered(figure, Figure::MeanF1, "picture", rows);
    scored.statistics.push(statistic);
    scored
}

fn said(convention: Convention, answer: &str) -> Option<bool> {
    match convention {
        Convention::Reference => Some(yes_no::pope_reference(answer)),
        Convention::LmmsEval => yes_no::pope_lmms(answer),
        Convention::VlmEvalKit => yes_no::vlmevalkit(answer),
    }
}

/// The script's own counts: the answers of a category, in the file's order, beside its labels.
fn by_place(given: &Given<'_>, is_no: &[bool]) -> [Counts; 3] {
    CATEGORIES.map(|category| {
        let is_of = |at: usize| given.questions[at].category == category;
        let mut labels = (0..is_no.len()).filter(|at| is_of(*at)).map(|at| is_no[at]);
        let mut counts = Counts::default();
        for (_, answer) in given.matched.rows.iter().filter(|(at, _)| is_of(*at)) {
            let said = yes_no::pope_reference(&answer.text);
            match labels.next() {
                Some(is_no) => counts.add(!is_no, Some(said), Some(said)),
                // Answers beyond the labels are only in the share of yes.
                None => {
                    counts.yes += usize::from(said);
                    counts.beyond += 1;
                }
            }
        }
        counts
    })
}
