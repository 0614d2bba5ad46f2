//! A cluster, and its different rows: those of the same bits count once.

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::coreset::arrays::Scratch;
use crate::coreset::bucket::{Bucket, Tag};
use crate::coreset::numeric::{distance_squared, dot, scale};
use crate::coreset::options::{DuplicateOptions, Similarity};
use crate::coreset::search::pairs::Units;
use crate::error::Result;
use crate::fast_hash::fast_hash;

/// A cluster of a bucket: its rows are `rows[i]` of the bucket, in the order of the set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) rows: &'a [u64],
    pub(crate) number: u32,
    pub(crate) centroid: &'a [f32],
}

impl Cluster<'_> {
    /// What is known of a row beside its numbers.
    pub(crate) fn tag(&self, index: usize) -> Tag {
        self.bucket.tag(self.rows[index] as usize)
    }
}

/// Rows of the same bits: they count as one in products, and each for itself in ranks.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Unit {
    /// The first of its rows, as an index of the bucket.
    pub(super) first: u64,
    pub(super) norm_squared: f64,
    /// The Euclidean distance to the centroid, squared.
    pub(super) distance_squared: f64,
}

/// Collapses the rows of a cluster that have the same bits; also the unit of every row.
pub(super) fn collapse(
    cluster: &Cluster<'_>,
    scratch: &Path,
    in_memory: usize,
) -> Result<(Scratch<Unit>, Scratch<u32>)> {
    let n = cluster.rows.len();
    let mut hashes: Scratch<[u64; 2]> = Scratch::zeros(n, in_memory, scratch)?;
    hashes.par_iter_mut().enumerate().for_each(|(i, hash)| {
        *hash = [
            fast_hash(cluster.bucket.bytes(cluster.rows[i] as usize)),
            i as u64,
        ];
    });
    hashes.par_sort_unstable();
    // The first row of the same bits, for every row; equal hashes of other bits are told apart.
    let mut first_of: Scratch<u32> = Scratch::zeros(n, in_memory, scratch)?;
    for run in hashes.chunk_by(|a, b| a[0] == b[0]) {
        let mut firsts: Vec<u64> = Vec::new();
        for [_, i] in run {
            let bytes = |i: u64| cluster.bucket.bytes(cluster.rows[i as usize] as usize);
            let first = firsts.iter().find(|first| bytes(**first) == bytes(*i));
            first_of[*i as usize] = match first {
                Some(first) => *first as u32,
                None => {
                    firsts.push(*i);
                    *i as u32
                }
            };
        }
    }
    drop(hashes);
    // Firsts precede their copies, so one pass numbers the units in the order of their rows.
    let count = (0..n).filter(|i| first_of[*i] as usize == *i).count();
    let mut units: Scratch<Unit> = Scratch::zeros(count, in_memory, scratch)?;
    let mut next = 0;
    for i in 0..n {
        let first = first_of[i] as usize;
        first_of[i] = if first == i {
            units[next].first = cluster.rows[i];
            next += 1;
            next as u32 - 1
        } else {
            first_of[first]
        };
    }
    let dims = cluster.bucket.dims();
    units.par_iter_mut().for_each_init(
        || vec![0.0; dims],
        |row, unit| {
            cluster.bucket.load(unit.first as usize, row);
            unit.norm_squared = dot(row, row);
            unit.distance_squared = distance_squared(row, cluster.centroid);
        },
    );
    Ok((units, first_of))
}

/// The units of a cluster, read from their bucket.
#[derive(Debug)]
pub(super) struct ClusterUnits<'a> {
    cluster: &'a Cluster<'a>,
    pub(super) units: &'a [Unit],
    options: &'a DuplicateOptions,
    longest: f64,
}

impl<'a> ClusterUnits<'a> {
    pub(super) fn new(
        cluster: &'a Cluster<'a>,
        units: &'a [Unit],
        options: &'a DuplicateOptions,
    ) -> Self {
        let longest = match options.similarity {
            Similarity::Cosine => 1.0 + 1e-6,
            Similarity::Dot => units
                .iter()
                .map(|unit| unit.norm_squared.sqrt())
                .fold(0.0, f64::max),
        };
        Self {
            cluster,
            units,
            options,
            longest,
        }
    }

    fn similarity(&self, a: &Unit, b: &Unit, product: f64) -> f64 {
        match self.options.similarity {
            Similarity::Cosine => product / (a.norm_squared.sqrt() * b.norm_squared.sqrt()),
            Similarity::Dot => product,
        }
    }

    /// Whether copies of one row are similar. Their cosine is 1, whatever its rounding.
    pub(super) fn copies_join(&self, unit: u32) -> bool {
        self.options.joins(match self.options.similarity {
            Similarity::Cosine => 1.0,
            Similarity::Dot => self.units[unit as usize].norm_squared,
        })
    }
}

impl Units for ClusterUnits<'_> {
    fn dims(&self) -> usize {
        self.cluster.bucket.dims()
    }

    fn load(&self, unit: u32, out: &mut [f32]) {
        let unit = &self.units[unit as usize];
        self.cluster.bucket.load(unit.first as usize, out);
        if self.options.similarity == Similarity::Cosine {
            scale(out, 1.0 / unit.norm_squared.sqrt());
        }
    }

    fn longest(&self) -> f64 {
        self.longest
    }

    fn similar(&self, a: u32, b: u32) -> bool {
        let bucket = self.cluster.bucket;
        let (a, b) = (&self.units[a as usize], &self.units[b as usize]);
        let mut rows = vec![0.0; 2 * bucket.dims()];
        let (row_a, row_b) = rows.split_at_mut(bucket.dims());
        bucket.load(a.first as usize, row_a);
        bucket.load(b.first as usize, row_b);
        self.options.joins(self.similarity(a, b, dot(row_a, row_b)))
    }

    fn threshold(&self) -> f64 {
        self.options.threshold
    }
}
