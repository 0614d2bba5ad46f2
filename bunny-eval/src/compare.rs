//! Two models on the same questions: paired tests, and the questions that changed sides.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::answer::{Answer, Answers};
use crate::convention::Convention;
use crate::error::Result;
use crate::folder::Folder;
use crate::html::{escape, page};
use crate::picture::{Pictures, data_url};
use crate::qa::{self, Item, Metric};
use crate::question::{Question, QuestionId};
use crate::score::statistic::{DRAWS, Interval, SEED, Statistic, interval_of, resampled};
use crate::score::{Judged, Suite};

/// Two models on the same questions. The first is `a`, differences are `b` less `a`.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The layout of this comparison.
    pub format_version: u32,
    /// The benchmark's name, or that of the file of questions.
    pub benchmark: String,
    /// Whose rules the answers were judged by, or by what metric.
    pub convention: String,
    /// How many questions are paired; in MMBench all rotations of one are one.
    pub paired: usize,
    /// Right with both.
    pub both_right: usize,
    /// Right with `a` alone.
    pub only_a: usize,
    /// Right with `b` alone.
    pub only_b: usize,
    /// Right with neither.
    pub both_wrong: usize,
    /// McNemar's exact test, two-sided: how likely so uneven a change of sides is by chance.
    pub mcnemar_p: f64,
    /// The figures of both, and their difference.
    pub figures: Vec<FigureDifference>,
    /// The questions that changed sides, in the questions' order.
    pub changed: Vec<Changed>,
}

/// A figure of two models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FigureDifference {
    /// The score's name.
    pub name: &'static str,
    /// The first model's.
    pub a: f64,
    /// The second model's.
    pub b: f64,
    /// How much higher the second is.
    pub difference: f64,
    /// Where the difference lies with 95 % confidence, by the paired bootstrap.
    pub interval: Option<Interval>,
    /// What was drawn.
    pub unit: &'static str,
    /// How often.
    pub draws: usize,
    /// With which seed.
    pub seed: u64,
}

/// A question that one model answers rightly and the other does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub question_id: QuestionId,
    /// Which model is right: `a` or `b`.
    pub right: char,
    /// What was asked.
    pub text: String,
    /// The right answer.
    pub gold: Option<String>,
    /// What the first model answered.
    pub a: Option<String>,
    /// What the second model answered.
    pub b: Option<String>,
    /// Its picture's name.
    pub picture: Option<String>,
    #[serde(skip)]
    question: usize,
}

/// Compares two files of answers.
///
/// # Errors
/// As for scoring either.
pub fn compare(
    suite: &Suite,
    a: &Answers,
    b: &Answers,
    convention: Convention,
) -> Result<Comparison> {
    let (of_a, of_b) = (suite.score(a, convention)?, suite.score(b, convention)?);
    Ok(compared(
        [suite.benchmark().name(), convention.name()],
        suite.questions(),
        [
            (&of_a.judged, &of_a.statistics, &suite.last(a)?),
            (&of_b.judged, &of_b.statistics, &suite.last(b)?),
        ],
    ))
}

/// Compares two files of answers to questions of one's own.
///
/// # Errors
/// As for scoring either.
pub fn compare_own(
    name: &str,
    items: &[Item],
    a: &Answers,
    b: &Answers,
    metric: Metric,
) -> Result<Comparison> {
    let (of_a, of_b) = (qa::score(items, a, metric)?, qa::score(items, b, metric)?);
    let questions = qa::questions(items);
    let of = |report: qa::QaReport| (report.judged, vec![report.statistic]);
    let ((judged_a, statistics_a), (judged_b, statistics_b)) = (of(of_a), of(of_b));
    Ok(compared(
        [name, metric.name()],
        &questions,
        [
            (&judged_a, &statistics_a, &qa::last(&questions, a)?),
            (&judged_b, &statistics_b, &qa::last(&questions, b)?),
        ],
    ))
}

/// What one model's answers came to, and what it said to every question.
type Side<'a> = (&'a [Judged], &'a [Statistic], &'a [Option<&'a Answer>]);

fn compared(names: [&str; 2], questions: &[Question], sides_of: [Side<'_>; 2]) -> Comparison {
    let [(judged_a, of_a, said_a), (judged_b, of_b, said_b)] = sides_of;
    let is_right = |judged: &Judged| judged.score >= 0.5;
    let mut changed = Vec::new();
    for (one, other) in judged_a.iter().zip(judged_b) {
        if is_right(one) == is_right(other) {
            continue;
        }
        let question = &questions[one.question];
        changed.push(Changed {
            question_id: question.id.clone(),
            right: if is_right(one) { 'a' } else { 'b' },
            text: question.text.clone(),
            gold: one.gold.clone(),
            a: said_a[one.question].map(|answer| answer.text.sound()),
            b: said_b[one.question].map(|answer| answer.text.sound()),
            picture: question
                .pictures
                .first()
                .map(|picture| picture.name.clone()),
            question: one.question,
        });
    }
    let sides = sides(judged_a, judged_b, of_a, of_b);
    let count = |which: (bool, bool)| sides.iter().filter(|side| **side == which).count();
    let (only_a, only_b) = (count((true, false)), count((false, true)));
    let [benchmark, convention] = names.map(str::to_owned);
    Comparison {
        format_version: 1,
        benchmark,
        convention,
        paired: sides.len(),
        both_right: count((true, true)),
        only_a,
        only_b,
        both_wrong: count((false, false)),
        mcnemar_p: mcnemar(only_a, only_b),
        figures: of_a
            .iter()
            .zip(of_b)
            .map(|(a, b)| difference(a, b))
            .collect(),
        changed,
    }
}

/// Whether each pair is right with either model.
fn sides(a: &[Judged], b: &[Judged], of_a: &[Statistic], of_b: &[Statistic]) -> Vec<(bool, bool)> {
    let circles = of_a
        .iter()
        .zip(of_b)
        .find(|(one, _)| one.unit == "question");
    match circles {
        Some((one, other)) => {
            let right = |unit: &crate::score::statistic::Unit| unit.sums.first() == Some(&1.0);
            one.units
                .iter()
                .zip(&other.units)
                .map(|(one, other)| (right(one), right(other)))
                .collect()
        }
        None => a
            .iter()
            .zip(b)
            .map(|(one, other)| (one.score >= 0.5, other.score >= 0.5))
            .collect(),
    }
}

fn difference(a: &Statistic, b: &Statistic) -> FigureDifference {
    let drawn = resampled(&[a, b], DRAWS, SEED);
    FigureDifference {
        name: a.name,
        a: a.value(),
        b: b.value(),
        difference: b.value() - a.value(),
        interval: interval_of(
            drawn
                .into_iter()
                .map(|values| values[1] - values[0])
                .collect(),
        ),
        unit: a.unit,
        draws: DRAWS,
        seed: SEED,
    }
}

/// McNemar's exact test of `b` and `c` discordant pairs, two-sided: twice the smaller tail of a
/// binomial of a half.
pub fn mcnemar(b: usize, c: usize) -> f64 {
    let (fewer, all) = (b.min(c), b + c);
    // Terms by their logarithms: those of thousands of pairs are too small for their own.
    let mut log_term = -(all as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += log_term.exp();
        log_term += ((all - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

impl Comparison {
    /// A page of the questions that changed sides, their pictures in it; the first `limit` of them.
    ///
    /// # Errors
    /// When a picture cannot be read.
    pub fn page(
        &self,
        questions: &[Question],
        folder: &Folder,
        names: [&str; 2],
        limit: usize,
    ) -> Result<String> {
        let pictures = Pictures::new(folder);
        let mut body = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            body,
            "<p>{} questions: {} right with both, {} with {} alone, {} with {} alone, {} with neither; \
             McNemar's exact test p = {:.4}</p>",
            self.paired,
            self.both_right,
            self.only_a,
            escape(names[0]),
            self.only_b,
            escape(names[1]),
            self.both_wrong,
            self.mcnemar_p
        );
        for figure in &self.figures {
            let interval = figure.interval.map_or_else(String::new, |interval| {
                format!(" [{:+.2}, {:+.2}]", interval.low, interval.high)
            });
            let _ = writeln!(
                body,
                "<p>{}: {:.2} and {:.2}, difference {:+.2}{interval}</p>",
                figure.name, figure.a, figure.b, figure.difference
            );
        }
        for changed in self.changed.iter().take(limit) {
            let question = &questions[changed.question];
            body.push_str(&article(changed, question, &pictures, names)?);
        }
        if let Some(more) = self
            .changed
            .len()
            .checked_sub(limit)
            .filter(|more| *more > 0)
        {
            let _ = writeln!(body, "<p>… and {more} more</p>");
        }
        Ok(page(
            &format!("{} ({})", self.benchmark, self.convention),
            &body,
        ))
    }
}

fn article(
    changed: &Changed,
    question: &Question,
    pictures: &Pictures<'_>,
    names: [&str; 2],
) -> Result<String> {
    let picture = match question.pictures.first() {
        Some(picture) => image(&pictures.read(picture)?, &picture.name),
        None => String::new(),
    };
    let mut article = format!(
        "<article>{picture}<p><b>{}</b></p><p>{}</p>",
        escape(&changed.question_id.to_string()),
        escape(&changed.text)
    );
    if let Some(gold) = &changed.gold {
        let _ = write!(article, "<p>right: {}</p>", escape(gold));
    }
    for (side, name, said) in [('a', names[0], &changed.a), ('b', names[1], &changed.b)] {
        let class = if side == changed.right {
            "right"
        } else {
            "wrong"
        };
        let said = said.as_deref().unwrap_or("(no answer)");
        let _ = write!(
            article,
            "<p class=\"{class}\">{}: {}</p>",
            escape(name),
            escape(said)
        );
    }
    article.push_str("</article>\n");
    Ok(article)
}

/// A picture inside of a page.
fn image(bytes: &Arc<[u8]>, name: &str) -> String {
    format!("<img alt=\"{}\" src=\"{}\">", escape(name), data_url(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.binomtest(min(b, c), b + c).pvalue`, scipy 1.17.1.
    #[test]
    fn mcnemars_exact_test_is_scipys() {
        for (b, c, p) in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 9, 0.021484375),
            (3, 12, 0.03515625),
            (40, 62, 0.037_066_767_438_560_584),
            (900, 1000, 0.023_108_845_108_901_193),
        ] {
            let ours = mcnemar(b, c);
            assert!(
                (ours - p).abs() < 1e-9 * p.max(1e-3) + 1e-9,
                "{b}, {c}: {ours}"
            );
            assert_eq!(ours, mcnemar(c, b));
        }
    }
}
