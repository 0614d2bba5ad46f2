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
#[non_exhaustive]
pub enum Figure {
    /// Sums `[score, rows, score²]`: the mean score, times a scale (1, or 100 for percent).
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
                let categories = strata
                    .first()
                    .map_or(&[][..], |sums| sums.as_chunks::<3>().0);
                let sum: f64 = categories
                    .iter()
                    .map(|[tp, fp, fn_]| f1(*tp, *fp, *fn_))
                    .sum();
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
        return Interval {
            low: 0.0,
            high: 1.0,
        };
    }
    let share = successes / trials;
    let (square, denominator) = (Z * Z, 1.0 + Z * Z / trials);
    let middle = (share + square / (2.0 * trials)) / denominator;
    let half = Z * (share * (1.0 - share) / trials + square / (4.0 * trials * trials)).sqrt()
        / denominator;
    // Where all is wrong, or all right, one end is the share itself: rounding is not to part them.
    Interval {
        low: if successes == 0.0 {
            0.0
        } else {
            (middle - half).max(0.0)
        },
        high: if successes == trials {
            1.0
        } else {
            (middle + half).min(1.0)
        },
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
        let rows = rows
            .into_iter()
            .map(|(cluster, score)| (cluster, 0, vec![score, 1.0, score * score]));
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
            let at = *known
                .entry((stratum, id))
                .or_insert_with_key(|(stratum, id)| {
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
            && self
                .units
                .iter()
                .any(|unit| unit.sums.get(1).is_some_and(|rows| *rows > 1.0))
    }

    /// The standard error of a mean whose rows are alike within a unit: that of independent rows,
    /// and the products of the deviations of different rows of a unit (Miller, "Adding Error Bars
    /// to Evals", 2024, equation 4). In the figure's own unit.
    ///
    /// `None` for a figure that is no mean, and with fewer than two rows.
    pub fn clustered_error(&self) -> Option<f64> {
        let Figure::Mean { scale } = self.figure else {
            return None;
        };
        let sum = |at: usize| self.units.iter().map(|unit| unit.sums[at]).sum::<f64>();
        let (rows, squares) = (sum(1), sum(2));
        if rows < 2.0 {
            return None;
        }
        let mean = sum(0) / rows;
        let deviations = squares - rows * mean * mean;
        let of_units: f64 = self
            .units
            .iter()
            .map(|unit| (unit.sums[0] - mean * unit.sums[1]).powi(2))
            .sum();
        let square = deviations / (rows * (rows - 1.0)) + (of_units - deviations) / (rows * rows);
        Some(scale * square.max(0.0).sqrt())
    }

    /// The interval of a mean by its [clustered error](Self::clustered_error).
    ///
    /// `None` as for the error.
    pub fn clustered(&self) -> Option<Interval> {
        let Figure::Mean { scale } = self.figure else {
            return None;
        };
        let (mean, half) = (self.value() / scale, Z * self.clustered_error()? / scale);
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
    let strata = first
        .units
        .iter()
        .map(|unit| unit.stratum)
        .max()
        .unwrap_or(0)
        + 1;
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
            values
                .map(|(statistic, sums)| statistic.figure.value(sums))
                .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn near(interval: Interval, low: f64, high: f64) -> bool {
        (interval.low - low).abs() < 1e-9 && (interval.high - high).abs() < 1e-9
    }

    /// `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")`, scipy 1.17.1.
    #[test]
    fn wilsons_interval_is_scipys() {
        for (k, n, low, high) in [
            (0.0, 10.0, 0.0, 0.277_532_799_862_889_26),
            (8.0, 10.0, 0.490_162_471_536_641_8, 0.943_317_848_545_624_8),
            (
                342.0,
                900.0,
                0.348_862_036_825_875_4,
                0.412_157_998_389_337_6,
            ),
            (10.0, 10.0, 0.722_467_200_137_111, 1.0),
        ] {
            let interval = wilson(k, n);
            assert!(near(interval, low, high), "{k} of {n}: {interval:?}");
        }
        // The ends of what is all wrong or all right are exact, as scipy's are.
        for n in 1..200 {
            let n = f64::from(n);
            assert_eq!((wilson(0.0, n).low, wilson(n, n).high), (0.0, 1.0), "{n}");
        }
        assert_eq!(
            wilson(0.0, 0.0),
            Interval {
                low: 0.0,
                high: 1.0
            }
        );
    }

    #[test]
    fn rows_of_a_cluster_are_one_unit_and_strata_keep_them_apart() {
        let rows = [("x", 0, 1.0), ("y", 0, 2.0), ("x", 0, 4.0), ("x", 1, 8.0)];
        let rows = rows.map(|(id, stratum, sum)| (id.to_owned(), stratum, vec![sum]));
        let statistic = Statistic::gathered("s", Figure::MeanF1, "picture", rows);
        let sums: Vec<f64> = statistic.units.iter().map(|unit| unit.sums[0]).collect();
        assert_eq!(sums, [5.0, 2.0, 8.0]);
    }

    #[test]
    fn a_bootstrap_repeats_itself_and_comes_near_the_normal_interval() {
        let rows = (0..400).map(|row| (row.to_string(), f64::from(u8::from(row % 4 != 0))));
        let statistic = Statistic::mean("s", 100.0, rows);
        let drawn = statistic.bootstrap(2000, 3).unwrap();
        assert_eq!(Some(drawn), statistic.bootstrap(2000, 3));
        assert_ne!(Some(drawn), statistic.bootstrap(2000, 4));
        // 75 ± 1.96 · sqrt(0.75 · 0.25 / 400) · 100
        assert!(
            (drawn.low - 70.76).abs() < 0.7 && (drawn.high - 79.24).abs() < 0.7,
            "{drawn:?}"
        );
        assert!(Statistic::mean("s", 1.0, []).bootstrap(10, 0).is_none());
    }

    #[test]
    fn models_are_drawn_together() {
        let of = |right: fn(u32) -> bool| {
            let rows = (0..50).map(|row| (row.to_string(), f64::from(u8::from(right(row)))));
            Statistic::mean("s", 1.0, rows)
        };
        // One is right where the other is wrong: their sum is 1 in every draw.
        let (a, b) = (of(|row| row % 3 == 0), of(|row| row % 3 != 0));
        for values in resampled(&[&a, &b], 100, 0) {
            assert!((values[0] + values[1] - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_divided_by_nothing_is_zero() {
        assert_eq!(f1(0.0, 0.0, 0.0), 0.0);
        assert_eq!(Figure::Mme.value(&[vec![0.0; 4], Vec::new()]), 0.0);
        assert_eq!(Figure::Mean { scale: 100.0 }.value(&[]), 0.0);
        assert_eq!(
            Figure::MeanF1.value(&[vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
            0.5
        );
    }
}
