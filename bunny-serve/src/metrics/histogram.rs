//! How often a figure lay within each of some buckets.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Upper ends of buckets of times, in seconds.
pub(super) const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// Upper ends of buckets of tokens.
pub(super) const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// Counts, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    ends: &'static [f64],
    counts: Vec<AtomicU64>,
    count: AtomicU64,
    millionths: AtomicU64,
}

impl Histogram {
    pub(super) fn new(ends: &'static [f64]) -> Self {
        Self {
            ends,
            counts: ends.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            millionths: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, figure: f64) {
        for (_, count) in self.within(figure) {
            count.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.millionths.fetch_add((figure * 1e6) as u64, Relaxed);
    }

    fn within(&self, figure: f64) -> impl Iterator<Item = (&f64, &AtomicU64)> {
        let buckets = self.ends.iter().zip(&self.counts);
        buckets.filter(move |(end, _)| figure <= **end)
    }

    /// Writes it under a name, with labels that all of its lines have.
    pub(super) fn write(&self, out: &mut String, name: &str, labels: &str) {
        let (count, sum) = (self.count.load(Relaxed), self.millionths.load(Relaxed));
        let sum = sum as f64 / 1e6;
        // Writing to a String cannot fail.
        for (end, count) in self.within(f64::NEG_INFINITY) {
            let count = count.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}
