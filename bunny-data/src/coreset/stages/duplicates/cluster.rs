//! Step 1 in one cluster: groups of duplicates, and the row of each group that stays.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::coreset::bucket::{Bucket, Tag};
use crate::coreset::files::Scratch;
use crate::coreset::histogram::Sizes;
use crate::coreset::kept::Kept;
use crate::coreset::numeric::{cosine, dot, ordered};
use crate::coreset::options::{DuplicateOptions, Group, Keep, Median, Similarity};
use crate::coreset::search::pairs::{Sink, for_each_similar};
use crate::coreset::search::union_find::UnionFind;
use crate::coreset::worker::Worker;
use crate::error::{DataError, OptionFault, Result};
use crate::hash::mix_all;

use super::units::{ClusterUnits, Unit, collapse};

/// Keeps the draws among duplicates apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"keep-one");

/// A cluster of a bucket: its rows are `rows[i]` of the bucket, in the order of the set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) rows: &'a [u64],
    pub(crate) number: u32,
    pub(crate) centroid: &'a [f32],
}

/// What is found in a cluster.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kept: Vec<Kept>,
    pub(crate) components: Sizes,
    pub(crate) identical: u64,
}

/// A row of the cluster, to be sorted into its group.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Member {
    group: u64,
    /// What `keep` sorts by.
    rank: u64,
    /// The place in the cluster.
    index: u64,
}

/// Bytes of state for each row of a cluster, at most.
const STATE: usize = 16 + 8 + size_of::<Unit>() + 4 + 8 + size_of::<Member>();

impl Cluster<'_> {
    /// Finds the groups of duplicates and the row of each that stays.
    pub(crate) fn reduce(
        &self,
        options: &DuplicateOptions,
        seed: u64,
        scratch: &Path,
        worker: &Worker<'_>,
    ) -> Result<Found> {
        if self.rows.len() > u32::MAX as usize {
            let fault = OptionFault::LargeCluster(self.number);
            return Err(DataError::option("--clusters", fault));
        }
        // Arrays beyond their share of an eighth of the memory go to disk, all of them.
        let share = worker.memory as usize / 8;
        let in_memory = if self.rows.len() * STATE <= share {
            share
        } else {
            0
        };
        let (units, unit_of) = collapse(self, scratch, in_memory)?;
        let rows = ClusterUnits::new(self, &units, options);
        let mut found = match options.group {
            Group::Components => {
                self.components(&rows, &unit_of, options, seed, scratch, in_memory, worker)?
            }
            Group::SemDeDup => {
                self.triangular(&rows, &unit_of, options, seed, scratch, in_memory, worker)?
            }
        };
        found.identical = (self.rows.len() - units.len()) as u64;
        Ok(found)
    }

    /// What `keep` sorts a row by: the row that stays is the first, or the median.
    fn rank(&self, keep: Keep, seed: u64, index: usize, unit: &Unit) -> u64 {
        match keep {
            Keep::Median | Keep::Near => ordered(unit.distance_squared),
            Keep::Far => !ordered(unit.distance_squared),
            Keep::Random => mix_all(&[seed, DRAW, self.tag(index).row]),
            Keep::MaxScore => !ordered(self.tag(index).score),
        }
    }

    fn tag(&self, index: usize) -> Tag {
        self.bucket.tag(self.rows[index] as usize)
    }

    /// One row of each connected component.
    #[allow(clippy::too_many_arguments)]
    fn components(
        &self,
        rows: &ClusterUnits<'_>,
        unit_of: &[u32],
        options: &DuplicateOptions,
        seed: u64,
        scratch: &Path,
        in_memory: usize,
        worker: &Worker<'_>,
    ) -> Result<Found> {
        let units = rows.units;
        let mut parents: Scratch<u32> = Scratch::zeros(units.len(), in_memory, scratch)?;
        let sets = UnionFind::new(&mut parents);
        let mut order: Scratch<u32> = Scratch::zeros(units.len(), in_memory, scratch)?;
        for (i, unit) in order.iter_mut().enumerate() {
            *unit = i as u32;
        }
        for_each_similar(rows, &sets, &mut order, worker);
        drop(order);

        // Copies of a row that is not even similar to itself stand alone, unless a neighbour joins
        // them: only inner products can do that.
        let mut joined: Scratch<u8> = Scratch::zeros(units.len(), in_memory, scratch)?;
        for unit in 0..units.len() as u32 {
            let set = sets.find(unit);
            if set != unit {
                joined[unit as usize] = 1;
                joined[set as usize] = 1;
            }
        }
        let keep = options.keep();
        let mut members: Scratch<Member> = Scratch::zeros(self.rows.len(), in_memory, scratch)?;
        members
            .par_iter_mut()
            .enumerate()
            .for_each(|(index, member)| {
                let unit = unit_of[index];
                let alone = joined[unit as usize] == 0 && !rows.copies_join(unit);
                *member = Member {
                    // Units and copies are numbered apart.
                    group: if alone {
                        (1 << 32) + index as u64
                    } else {
                        u64::from(sets.find(unit))
                    },
                    rank: self.rank(keep, seed, index, &units[unit as usize]),
                    index: index as u64,
                };
            });
        members.par_sort_unstable_by_key(|member| (member.group, member.rank, member.index));
        let mut found = Found::default();
        for group in members.chunk_by(|a, b| a.group == b.group) {
            let stays = match (keep, options.median) {
                (Keep::Median, Median::Upper) => group.len() / 2,
                (Keep::Median, Median::Lower) => (group.len() - 1) / 2,
                _ => 0,
            };
            let least = group.iter().map(|member| member.index).min().unwrap_or(0);
            let index = group[stays].index as usize;
            found.components.add(group.len() as u64);
            found.kept.push(self.describe(
                index,
                &units[unit_of[index] as usize],
                self.tag(least as usize).row,
                group.len() as u64,
                options,
            ));
        }
        Ok(found)
    }

    /// SemDeDup's rule: a row goes if it is similar to one before it.
    #[allow(clippy::too_many_arguments)]
    fn triangular(
        &self,
        rows: &ClusterUnits<'_>,
        unit_of: &[u32],
        options: &DuplicateOptions,
        seed: u64,
        scratch: &Path,
        in_memory: usize,
        worker: &Worker<'_>,
    ) -> Result<Found> {
        let units = rows.units;
        let keep = options.keep();
        // The place of every row in the order, and the first place of every unit.
        let mut members: Scratch<Member> = Scratch::zeros(self.rows.len(), in_memory, scratch)?;
        members
            .par_iter_mut()
            .enumerate()
            .for_each(|(index, member)| {
                let unit = unit_of[index];
                *member = Member {
                    group: u64::from(unit),
                    rank: self.rank(keep, seed, index, &units[unit as usize]),
                    index: index as u64,
                };
            });
        members.par_sort_unstable_by_key(|member| (member.rank, member.index));
        let mut first: Scratch<u64> = Scratch::zeros(units.len(), in_memory, scratch)?;
        first.fill(u64::MAX);
        for (place, member) in members.iter().enumerate() {
            let first = &mut first[member.group as usize];
            *first = (*first).min(place as u64);
        }
        let mut least: Scratch<u64> = Scratch::zeros(units.len(), in_memory, scratch)?;
        least.fill(u64::MAX);
        let cells: *const [u64] = &raw mut *least;
        let earliest = Earliest {
            first: &first,
            // SAFETY: AtomicU64 has the layout of u64, and `least` is not used while this lives.
            least: unsafe { &*(cells as *const [AtomicU64]) },
        };
        let mut order: Scratch<u32> = Scratch::zeros(units.len(), in_memory, scratch)?;
        for (i, unit) in order.iter_mut().enumerate() {
            *unit = i as u32;
        }
        for_each_similar(rows, &earliest, &mut order, worker);
        let mut found = Found::default();
        for (place, member) in members.iter().enumerate() {
            let unit = member.group as usize;
            let copy_before = first[unit] < place as u64 && rows.copies_join(unit as u32);
            if copy_before || earliest.least[unit].load(Relaxed) < place as u64 {
                continue;
            }
            let index = member.index as usize;
            found.components.add(1);
            found
                .kept
                .push(self.describe(index, &units[unit], self.tag(index).row, 1, options));
        }
        Ok(found)
    }

    fn describe(
        &self,
        index: usize,
        unit: &Unit,
        component: u64,
        size: u64,
        options: &DuplicateOptions,
    ) -> Kept {
        let tag = self.tag(index);
        let mut row = vec![0.0; self.bucket.dims()];
        self.bucket.load(self.rows[index] as usize, &mut row);
        let centroid = match options.similarity {
            Similarity::Cosine => cosine(&row, self.centroid),
            Similarity::Dot => {
                let norm = dot(self.centroid, self.centroid).sqrt();
                if norm > 0.0 {
                    dot(&row, self.centroid) / norm
                } else {
                    0.0
                }
            }
        };
        Kept::new(
            tag.row,
            component,
            size,
            tag.score,
            centroid,
            unit.distance_squared.sqrt(),
            self.number,
        )
    }
}

/// Keeps, for every unit, the first place of any unit similar to it.
struct Earliest<'a> {
    first: &'a [u64],
    least: &'a [AtomicU64],
}

impl Sink for Earliest<'_> {
    fn pair(&self, a: u32, b: u32) {
        let (a, b) = (a as usize, b as usize);
        self.least[a].fetch_min(self.first[b], Relaxed);
        self.least[b].fetch_min(self.first[a], Relaxed);
    }

    fn known(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        self.least[a].load(Relaxed) <= self.first[b] && self.least[b].load(Relaxed) <= self.first[a]
    }

    fn set(&self, _unit: u32) -> Option<u32> {
        None
    }
}
