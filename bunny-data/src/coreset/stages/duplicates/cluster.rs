//! Step 1 in one cluster: groups of duplicates, and the row of each group that stays.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::coreset::arrays::Scratch;
use crate::coreset::histogram::Sizes;
use crate::coreset::numeric::{cosine, dot, ordered};
use crate::coreset::options::{DuplicateOptions, Group, Keep, Median, Similarity};
use crate::coreset::search::pairs::{Sink, for_each_similar};
use crate::coreset::search::union_find::UnionFind;
use crate::coreset::survivor::Survivor;
use crate::coreset::worker::Worker;
use crate::error::{DataError, OptionFault, Result};
use bunny_base::random::mix_all;

use super::units::{Cluster, ClusterUnits, Unit, collapse};
use super::{Joined, SHOWN, keep_shown};

/// Keeps the draws among duplicates apart from others of the same seed.
const DRAW: u64 = u64::from_le_bytes(*b"keep-one");

/// Keeps the lots of groups that are shown apart from them.
const SHOW: u64 = u64::from_le_bytes(*b"showgrps");

/// Rows of a group that are shown beside the one that stays, at most.
const OTHERS: usize = 4;

/// What is found in a cluster.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kept: Vec<Survivor>,
    pub(crate) components: Sizes,
    pub(crate) identical: u64,
    /// The groups of more than one row with the least lots.
    pub(crate) joined: Vec<Joined>,
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

/// Finds the groups of duplicates of a cluster and the row of each that stays.
pub(crate) fn deduplicate(
    cluster: &Cluster<'_>,
    options: &DuplicateOptions,
    seed: u64,
    scratch: &Path,
    worker: &Worker<'_>,
) -> Result<Found> {
    if cluster.rows.len() > u32::MAX as usize {
        let fault = OptionFault::LargeCluster(cluster.number);
        return Err(DataError::option("--clusters", fault));
    }
    // Arrays beyond their share of an eighth of the memory go to disk, all of them.
    let share = worker.memory as usize / 8;
    let in_memory = match cluster.rows.len() * STATE <= share {
        true => share,
        false => 0,
    };
    let (units, unit_of) = collapse(cluster, scratch, in_memory)?;
    let grouping = Grouping {
        cluster,
        rows: ClusterUnits::new(cluster, &units, options),
        unit_of: &unit_of,
        options,
        seed,
        scratch,
        in_memory,
        worker,
    };
    let mut found = match options.group {
        Group::Components => grouping.components()?,
        Group::SemDeDup => grouping.triangular()?,
    };
    found.identical = (cluster.rows.len() - units.len()) as u64;
    Ok(found)
}

/// A cluster whose rows are to be grouped by either rule.
struct Grouping<'a> {
    cluster: &'a Cluster<'a>,
    rows: ClusterUnits<'a>,
    /// The unit of every row.
    unit_of: &'a [u32],
    options: &'a DuplicateOptions,
    seed: u64,
    scratch: &'a Path,
    in_memory: usize,
    worker: &'a Worker<'a>,
}

impl Grouping<'_> {
    fn zeros<T: Pod>(&self, len: usize) -> Result<Scratch<T>> {
        Scratch::zeros(len, self.in_memory, self.scratch)
    }

    /// The rows of the cluster, each in its group, none in order yet.
    fn members(&self, group: impl Fn(u64, u32) -> u64 + Sync) -> Result<Scratch<Member>> {
        let mut members: Scratch<Member> = self.zeros(self.cluster.rows.len())?;
        let all = members.par_iter_mut().enumerate();
        all.for_each(|(index, member)| {
            let unit = self.unit_of[index];
            *member = Member {
                group: group(index as u64, unit),
                rank: self.rank(index, &self.rows.units[unit as usize]),
                index: index as u64,
            };
        });
        Ok(members)
    }

    /// What `keep` sorts a row by: the row that stays is the first, or the median.
    fn rank(&self, index: usize, unit: &Unit) -> u64 {
        match self.options.keep() {
            Keep::Median | Keep::Near => ordered(unit.distance_squared),
            Keep::Far => !ordered(unit.distance_squared),
            Keep::Random => mix_all(&[self.seed, DRAW, self.cluster.tag(index).row]),
            Keep::MaxScore => !ordered(self.cluster.tag(index).score),
        }
    }

    /// Tells a sink of all similar units.
    fn compare(&self, sink: &impl Sink) -> Result<()> {
        let mut order: Scratch<u32> = self.zeros(self.rows.units.len())?;
        for (i, unit) in order.iter_mut().enumerate() {
            *unit = i as u32;
        }
        for_each_similar(&self.rows, sink, &mut order, self.worker);
        Ok(())
    }

    /// One row of each connected component.
    fn components(&self) -> Result<Found> {
        let units = self.rows.units;
        let mut parents: Scratch<u32> = self.zeros(units.len())?;
        let sets = UnionFind::new(&mut parents);
        self.compare(&sets)?;

        // Copies of a row that is not even similar to itself stand alone, unless a neighbour joins
        // them: only inner products can do that.
        let mut joined: Scratch<u8> = self.zeros(units.len())?;
        for unit in 0..units.len() as u32 {
            let set = sets.find(unit);
            if set != unit {
                joined[unit as usize] = 1;
                joined[set as usize] = 1;
            }
        }
        let mut members = self.members(|index, unit| {
            let alone = joined[unit as usize] == 0 && !self.rows.copies_join(unit);
            // Units and copies are numbered apart.
            match alone {
                true => (1 << 32) + index,
                false => u64::from(sets.find(unit)),
            }
        })?;
        members.par_sort_unstable_by_key(|member| (member.group, member.rank, member.index));
        let mut found = Found::default();
        for group in members.chunk_by(|a, b| a.group == b.group) {
            let stays = match (self.options.keep(), self.options.median) {
                (Keep::Median, Median::Upper) => group.len() / 2,
                (Keep::Median, Median::Lower) => (group.len() - 1) / 2,
                _ => 0,
            };
            let least = group.iter().map(|member| member.index).min().unwrap_or(0);
            let component = self.cluster.tag(least as usize).row;
            let size = group.len() as u64;
            found.components.add(size);
            if size > 1 {
                self.show(&mut found.joined, group, stays, component);
            }
            found
                .kept
                .push(self.describe(&group[stays], component, size));
        }
        Ok(found)
    }

    /// Adds a group to those that are shown, if its lot is among the least.
    fn show(&self, joined: &mut Vec<Joined>, group: &[Member], stays: usize, component: u64) {
        let lot = mix_all(&[self.seed, SHOW, component]);
        if joined.len() == SHOWN && joined.last().is_some_and(|last| last.lot <= lot) {
            return;
        }
        let row = |member: &Member| self.cluster.tag(member.index as usize).row;
        let stays = row(&group[stays]);
        let mut others: Vec<u64> = Vec::with_capacity(OTHERS + 1);
        for other in group.iter().map(row).filter(|row| *row != stays) {
            let place = others.partition_point(|before| *before < other);
            others.insert(place, other);
            others.truncate(OTHERS);
        }
        joined.push(Joined {
            lot,
            size: group.len() as u64,
            stays,
            others,
        });
        keep_shown(joined);
    }

    /// SemDeDup's rule: a row goes if it is similar to one before it.
    fn triangular(&self) -> Result<Found> {
        let units = self.rows.units;
        // The place of every row in the order, and the first place of every unit.
        let mut members = self.members(|_, unit| u64::from(unit))?;
        members.par_sort_unstable_by_key(|member| (member.rank, member.index));
        let mut first: Scratch<u64> = self.zeros(units.len())?;
        first.fill(u64::MAX);
        for (place, member) in members.iter().enumerate() {
            let first = &mut first[member.group as usize];
            *first = (*first).min(place as u64);
        }
        let mut least: Scratch<u64> = self.zeros(units.len())?;
        least.fill(u64::MAX);
        let cells: *const [u64] = &raw mut *least;
        let earliest = Earliest {
            first: &first,
            // SAFETY: AtomicU64 has the layout of u64, and `least` is not used while this lives.
            least: unsafe { &*(cells as *const [AtomicU64]) },
        };
        self.compare(&earliest)?;
        let mut found = Found::default();
        for (place, member) in members.iter().enumerate() {
            let (place, unit) = (place as u64, member.group as usize);
            let copy_before = first[unit] < place && self.rows.copies_join(unit as u32);
            if copy_before || earliest.least[unit].load(Relaxed) < place {
                continue;
            }
            let row = self.cluster.tag(member.index as usize).row;
            found.components.add(1);
            found.kept.push(self.describe(member, row, 1));
        }
        Ok(found)
    }

    /// What is known of a row that stays for a component of so many.
    fn describe(&self, stays: &Member, component: u64, size: u64) -> Survivor {
        let (cluster, index) = (self.cluster, stays.index as usize);
        let tag = cluster.tag(index);
        let unit = &self.rows.units[self.unit_of[index] as usize];
        let mut row = vec![0.0; cluster.bucket.dims()];
        cluster.bucket.load(cluster.rows[index] as usize, &mut row);
        let centroid = match self.options.similarity {
            Similarity::Cosine => cosine(&row, cluster.centroid),
            Similarity::Dot => {
                let norm = dot(cluster.centroid, cluster.centroid).sqrt();
                if norm > 0.0 {
                    dot(&row, cluster.centroid) / norm
                } else {
                    0.0
                }
            }
        };
        Survivor::new(
            tag.row,
            component,
            size,
            tag.score,
            centroid,
            unit.distance_squared.sqrt(),
            cluster.number,
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
