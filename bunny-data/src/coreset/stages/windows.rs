//! Steps 2 and 3: the rows within ranges of ranks.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Stage, Task};
use crate::coreset::arrays::Records;
use crate::coreset::histogram::Cosines;
use crate::coreset::numeric::ordered;
use crate::coreset::options::{Order, Window};
use crate::coreset::search::ranks::{Key, Seen, Select};
use crate::coreset::survivor::{Survivor, kept_key};
use crate::coreset::worker::Worker;
use crate::error::Result;
use crate::store::Store;

/// What a window ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum By {
    Score,
    Centroid,
}

impl By {
    fn of(self, kept: &Survivor) -> f64 {
        match self {
            Self::Score => kept.score,
            Self::Centroid => kept.centroid,
        }
    }

    /// The key of a row: ascending keys are ascending ranks.
    fn key(self, order: Order, kept: &Survivor) -> Key {
        let value = ordered(self.of(kept));
        match order {
            Order::Descending => (!value, kept.row),
            Order::Ascending => (value, kept.row),
        }
    }
}

/// A window, as soon as it is known which rows it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Cut {
    /// The rows from one key up to but not with the other.
    Between {
        by: By,
        order: Order,
        /// `None`: from the first.
        from: Option<Key>,
        /// `None`: up to the last.
        to: Option<Key>,
    },
    /// Ranks within each cluster.
    PerCluster { by: By, window: Window },
    /// No row: a window too narrow for so few.
    Nothing,
}

/// The survivors of buckets after some cuts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Survivors {
    /// The folder of what the first step left.
    pub(crate) folder: String,
    pub(crate) buckets: usize,
    pub(crate) cuts: Vec<Cut>,
}

/// Parts of the work on survivors, at most: they are small beside the rows, and what is handed back of
/// each may be a megabyte.
const PARTS: usize = 256;

impl Survivors {
    /// How many parts the buckets are worked on in.
    pub(crate) fn parts(&self) -> usize {
        self.buckets.min(PARTS)
    }

    /// The buckets of a part.
    pub(crate) fn of_part(&self, part: usize) -> Range<usize> {
        let first = |part: usize| part * self.buckets / self.parts();
        first(part)..first(part + 1)
    }

    /// Calls `each` with the survivors of a part, in the order of buckets and, in each, of rows.
    fn for_each_of_part(
        &self,
        store: &dyn Store,
        part: usize,
        mut each: impl FnMut(&Survivor),
    ) -> Result<()> {
        self.of_part(part)
            .try_for_each(|bucket| self.for_each(store, bucket, &mut each))
    }

    /// Calls `each` with the survivors of one bucket, in the order of their rows.
    pub(crate) fn for_each(
        &self,
        store: &dyn Store,
        bucket: usize,
        mut each: impl FnMut(&Survivor),
    ) -> Result<()> {
        let records: Records<Survivor> = Records::open(store, &kept_key(&self.folder, bucket))?;
        // Cuts by key alone are made while reading; one within clusters needs the bucket's rows.
        let direct = self
            .cuts
            .iter()
            .position(|cut| matches!(cut, Cut::PerCluster { .. }))
            .unwrap_or(self.cuts.len());
        let (direct, later) = self.cuts.split_at(direct);
        let mut rows = Vec::new();
        records.for_each_run(|run| {
            for kept in run
                .iter()
                .filter(|kept| direct.iter().all(|cut| cut.keeps(kept)))
            {
                if later.is_empty() {
                    each(kept);
                } else {
                    rows.push(*kept);
                }
            }
        });
        for cut in later {
            match cut {
                Cut::PerCluster { by, window } => rows = per_cluster(rows, *by, window),
                _ => rows.retain(|kept| cut.keeps(kept)),
            }
        }
        rows.iter().for_each(each);
        Ok(())
    }
}

impl Cut {
    fn keeps(&self, kept: &Survivor) -> bool {
        match self {
            Self::Between {
                by,
                order,
                from,
                to,
            } => {
                let key = by.key(*order, kept);
                from.is_none_or(|from| key >= from) && to.is_none_or(|to| key < to)
            }
            Self::PerCluster { .. } => true,
            Self::Nothing => false,
        }
    }
}

/// The rows of each cluster within a window, in the order of their rows.
fn per_cluster(mut rows: Vec<Survivor>, by: By, window: &Window) -> Vec<Survivor> {
    rows.par_sort_unstable_by_key(|kept| (kept.cluster, by.key(window.order, kept)));
    let mut inside: Vec<Survivor> = rows
        .chunk_by(|a, b| a.cluster == b.cluster)
        .flat_map(|cluster| {
            let ranks = window.ranks(cluster.len() as u64);
            &cluster[ranks.start as usize..ranks.end as usize]
        })
        .copied()
        .collect();
    inside.par_sort_unstable_by_key(|kept| kept.row);
    inside
}

/// Looks at the keys of survivors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rank {
    pub(crate) survivors: Survivors,
    pub(crate) by: By,
    pub(crate) order: Order,
    pub(crate) select: Select,
    pub(crate) stage: Stage,
}

impl Task for Rank {
    const NAME: &'static str = "rank";
    type Output = Seen;

    fn parts(&self) -> usize {
        self.survivors.parts()
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, _worker: &Worker<'_>, store: &dyn Store) -> Result<Seen> {
        let mut looking = self.select.looking();
        self.survivors.for_each_of_part(store, part, |kept| {
            looking.see(self.by.key(self.order, kept));
        })?;
        Ok(looking.seen())
    }
}

/// Counts survivors and the values that will be ranked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Count {
    pub(crate) survivors: Survivors,
    pub(crate) by: By,
    pub(crate) stage: Stage,
}

impl Task for Count {
    const NAME: &'static str = "count";
    type Output = (u64, Cosines);

    fn parts(&self) -> usize {
        self.survivors.parts()
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, _worker: &Worker<'_>, store: &dyn Store) -> Result<Self::Output> {
        let (mut rows, mut values) = (0, Cosines::default());
        self.survivors.for_each_of_part(store, part, |kept| {
            rows += 1;
            values.add(self.by.of(kept));
        })?;
        Ok((rows, values))
    }
}

/// What a window saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Rows before the window.
    pub rows: u64,
    /// Rows within it.
    pub kept: u64,
    /// The values of all rows before it.
    pub values: Cosines,
    /// The value at the window's first rank, and at the first rank after it, where the ranks are
    /// global and there is such a rank.
    pub bounds: [Option<f64>; 2],
    /// The rows at some ranks about both ends, where the ranks are global.
    #[serde(default)]
    pub seats: Vec<Seat>,
}

/// Who is at a rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// The rank, from 0.
    pub rank: u64,
    /// What is ranked, to six decimals.
    pub value: f64,
    /// The row of the set.
    pub row: u64,
    /// Whether it is within the window.
    pub inside: bool,
}

/// The value of an ordered integer.
pub(crate) fn unordered(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 {
        key & !(1 << 63)
    } else {
        !key
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_integers_turn_back() {
        for value in [-1.0, -0.25, 0.0, 1e-9, 0.3] {
            assert_eq!(unordered(ordered(value)), value);
        }
    }
}
