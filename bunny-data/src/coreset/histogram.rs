//! Histograms that add up: of values between −1 and 1, and of sizes by powers of two.

use serde::{Deserialize, Serialize};

/// Bins of a histogram of cosines.
const BINS: usize = 400;

/// Counts of values between −1 and 1, in bins of 0.005; what lies outside goes to the last bins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cosines {
    /// The counts, from −1 on.
    pub counts: Vec<u64>,
}

impl Default for Cosines {
    fn default() -> Self {
        Self {
            counts: vec![0; BINS],
        }
    }
}

impl Cosines {
    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        let bin = ((value + 1.0) / Self::width()) as usize;
        self.counts[bin.min(BINS - 1)] += 1;
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    /// The width of a bin.
    pub fn width() -> f64 {
        2.0 / BINS as f64
    }

    /// The least value of a bin.
    pub fn floor(bin: usize) -> f64 {
        bin as f64 * Self::width() - 1.0
    }
}

/// Counts of sizes: of 0, of 1, of 2 and 3, of 4 to 7, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The counts; bin `b > 0` holds sizes from `2^(b-1)` below `2^b`.
    pub counts: Vec<u64>,
    /// The greatest size.
    pub greatest: u64,
    /// The sum of the squares, which tells the work of comparing all pairs.
    pub squares: u64,
}

impl Sizes {
    /// Counts a size.
    pub fn add(&mut self, size: u64) {
        let bin = (u64::BITS - size.leading_zeros()) as usize;
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
        self.greatest = self.greatest.max(size);
        self.squares = self.squares.saturating_add(size.saturating_mul(size));
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        self.greatest = self.greatest.max(other.greatest);
        self.squares = self.squares.saturating_add(other.squares);
    }
}
