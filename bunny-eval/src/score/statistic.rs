//! Figures as functions of sums over independent units, and how sure they are.
//!
//! Rows about one picture are not independent, nor are the rotations of one question. A
//! [`Statistic`] therefore holds one entry a picture (or question): the sums from which the figure
//! is computed. The same sums serve clustered errors, the bootstrap, and paired comparisons.

use std::collections::HashMap;

use serde::Serialize;

use crate::python::random::Random;

/// How a figure follows from sums.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// Sums `[score, rows]`: the mean score, times a scale (1, or 100 for percent).
    Mean {
        /// What the mean is multiplied by.
        scale: f64,
    },
    /// A stratum is a category, sums `[right, pictures with both right, questions, pictures]`:
    /// the sum of 100 · (accuracy + accuracy of pairs).
    Mme,
    /// Sums `[true positives, false positives, false negatives]` of every category, one after
    /// another: the mean of their F1.
    MeanF1,
}

/// What is drawn, compared and counted as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// The picture or question.
    pub id: String,
    /// Which part of the benchmark it belongs to; units are drawn within theirs.
    pub stratum: usize,
    /// What is summed.
    pub sums: Vec<f64>,
}

/// A figure and the units that it sums over.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// The score's name in a report.
    pub name: &'static str,
    /// How the figure follows from the sums.
    pub figure: Figure,
    /// The units, each once.
    pub units: Vec<Unit>,
    /// What a unit is: `picture` or `question`.
    pub unit: &'static str,
}

/// Where a figure lies with 95 % confidence, in the figure's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Draws of every bootstrap.
pub const DRAWS: usize = 10_000;
/// The seed of every bootstrap, unless another is asked for.
pub const SEED: u64 = 0;

/// The normal quantile at 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

impl Figure {
    /// The figure of the sums of each stratum. What is divided by nothing counts as 0.
    pub fn value(&self, strata: &[Vec<f64>]) -> f64 {
        match self {
            Self::Mean { scale } => {
                let sum = |at| strata.iter().filter_map(|sums| sums.get(at)).sum::<f64>();
                scale * ratio(sum(0), sum(1))
            }
            Self::Mme => strata
                .iter()
                .filter_map(|sums| sums.as_chunks::<4>().0.first())
                .map(|[right, both, questions, pictures]| {
                    100.0 * ratio(*right, *questions) + 100.0 * ratio(*both, *pictures)
                })
                .sum(),
            Self::MeanF1 => {
                let categories = strata.first().map_or(&[][..], |sums| sums.as_chunks::<3>().0);
                let sum: f64 = categories.iter().map(|[tp, fp, fn_]| f1(*tp, *fp, *fn_)).sum();
                ratio(sum, categories.len() as f64)
            }
        }
    }
}

/// F1 of counts, 0 where it is undefined.
pub(crate) fn f1(tp: f64, fp: f64, fn_: f64) -> f64 {
    let (precision, recall) = (ratio(tp, tp + fp), ratio(tp, tp + fn_));
    ratio(2.0 * precision * recall, precision + recall)
}

/// A quotient, 0 where it is undefined.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// Wilson's interval of a share of `successes` in `trials` (Wilson 1927), at 95 %.
pub fn wilson(successes: f64, trials: f64) -> Interval {
    if trials == 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let share = successes / trials;
    let (square, denominator) = (Z * Z, 1.0 + Z * Z / trials);
    let middle = (share + square / (2.0 * trials)) / denominator;
    let half = Z * (share * (1.0 - share) / trials + square / (4.0 * trials * trials)).sqrt() / denominator;
    Interval {
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    }
}

impl Interval {
    /// Both ends multiplied.
    pub fn times(self, scale: f64) -> Self {
        Self {
            low: scale * self.low,
            high: scale * self.high,
        }
    }
}

impl Statistic {
    /// A mean over rows, each of a cluster and with a score; rows of a cluster are one unit.
    pub fn mean(
        name: &'static str,
        scale: f64,
        rows: impl IntoIterator<Item = (String, f64)>,
    ) -> Self {
        let rows = rows.into_iter().map(|(cluster, score)| (cluster, 0, vec![score, 1.0]));
        Self::gathered(name, Figure::Mean { scale }, "picture", rows)
    }

    /// A statistic whose rows are summed by cluster within their stratum.
    pub fn gathered(
        name: &'static str,
        figure: Figure,
        unit: &'static str,
        rows: impl IntoIterator<Item = (String, usize, Vec<f64>)>,
    ) -> Self {
        let mut units: Vec<Unit> = Vec::new();
        let mut known: HashMap<(usize, String), usize> = HashMap::new();
        for (id, stratum, sums) in rows {
            let at = *known.entry((stratum, id)).or_insert_with_key(|(stratum, id)| {
                units.push(Unit {
                    id: id.clone(),
                    stratum: *stratum,
                    sums: vec![0.0; sums.len()],
                });
                units.len() - 1
            });
            for (sum, more) in units[at].sums.iter_mut().zip(sums) {
                *sum += more;
            }
        }
        Self {
            name,
            figure,
            units,
            unit,
        }
    }

    /// The figure itself.
    pub fn value(&self) -> f64 {
        self.figure.value(&self.sums(self.units.iter()))
    }

    fn sums<'a>(&self, units: impl Iterator<Item = &'a Unit>) -> Vec<Vec<f64>> {
        let mut strata: Vec<Vec<f64>> = Vec::new();
        for unit in units {
            if strata.len() <= unit.stratum {
                strata.resize(unit.stratum + 1, Vec::new());
            }
            let sums = &mut strata[unit.stratum];
            sums.resize(unit.sums.len(), 0.0);
            for (sum, more) in sums.iter_mut().zip(&unit.sums) {
                *sum += more;
            }
        }
        strata
    }

    /// Whether some unit holds several rows of a mean.
    pub fn has_clusters(&self) -> bool {
        matches!(self.figure, Figure::Mean { .. })
            && self.units.iter().any(|unit| unit.sums.get(1).is_some_and(|rows| *rows > 1.0))
    }

    /// The interval of a mean whose rows are alike within a unit: the standard error over units,
    /// SE² = Σ (sum of a unit's deviations)² / rows².
    ///
    /// `None` for a figure that is no mean, and with fewer than two units.
    pub fn clustered(&self) -> Option<Interval> {
        let Figure::Mean { scale } = self.figure else {
            return None;
        };
        let rows: f64 = self.units.iter().map(|unit| unit.sums[1]).sum();
        if self.units.len() < 2 {
            return None;
        }
        let mean = self.value() / scale;
        let squares: f64 = self
            .units
            .iter()
            .map(|unit| (unit.sums[0] - mean * unit.sums[1]).powi(2))
            .sum();
        let half = Z * squares.sqrt() / rows;
        let interval = Interval {
            low: (mean - half).max(0.0),
            high: (mean + half).min(1.0),
        };
        Some(interval.times(scale))
    }

    /// The percentile interval of `draws` samples of the units, drawn with replacement within
    /// their strata; the same seed gives the same interval.
    ///
    /// `None` without units.
    pub fn bootstrap(&self, draws: usize, seed: u64) -> Option<Interval> {
        let drawn = resampled(&[self], draws, seed);
        interval_of(drawn.into_iter().map(|values| values[0]).collect())
    }
}

/// The figures of several statistics over the same units, drawn together: `draws` times one value
/// a statistic. Units are drawn with replacement within their strata.
///
/// All statistics must have the same units in the same order.
pub(crate) fn resampled(statistics: &[&Statistic], draws: usize, seed: u64) -> Vec<Vec<f64>> {
    let Some(first) = statistics.first().filter(|first| !first.units.is_empty()) else {
        return Vec::new();
    };
    let strata = first.units.iter().map(|unit| unit.stratum).max().unwrap_or(0) + 1;
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); strata];
    for (at, unit) in first.units.iter().enumerate() {
        members[unit.stratum].push(at);
    }
    let width = first.units[0].sums.len();
    let mut random = Random::new(seed);
    let mut sums = vec![vec![vec![0.0; width]; strata]; statistics.len()];
    (0..draws)
        .map(|_| {
            for sums in sums.iter_mut().flatten() {
                sums.fill(0.0);
            }
            for (stratum, members) in members.iter().enumerate() {
                for _ in members {
                    let drawn = members[random.choice(members.len() as u32) as usize];
                    for (statistic, sums) in statistics.iter().zip(&mut sums) {
                        let unit = &statistic.units[drawn];
                        for (sum, more) in sums[stratum].iter_mut().zip(&unit.sums) {
                            *sum += more;
                        }
                    }
                }
            }
            let values = statistics.iter().zip(&sums);
            values.map(|(statistic, sums)| statistic.figure.value(sums)).collect()
        })
        .collect()
}

/// The middle 95 % of some values.
pub(crate) fn interval_of(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = values.len().checked_sub(1)?;
        values.get((share * last as f64).round() as usize).copied()
    };
    Some(Interval {
        low: at(0.025)?,
        high: at(0.975)?,
    })
}
