//! What a coreset is made by: every choice the paper leaves open is an option here, with the
//! choice of its authors' published code as default (BAAI-DCAI/Dataset-Pruning, `LAION`).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embeddings::EmbeddingOptions;
use crate::error::{DataError, OptionFault, Result};

/// Rows a cluster holds on average in the paper: 2,053,332,591 in 100,000.
const PAPER_ROWS_PER_CLUSTER: u64 = 20_533;

/// Clusters in the paper.
const PAPER_CLUSTERS: u64 = 100_000;

/// Everything that the kept keys depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoresetOptions {
    /// Which columns and arrays hold what.
    pub embeddings: EmbeddingOptions,
    /// What every draw hangs on.
    pub seed: u64,
    /// What becomes of rows that cannot be used.
    pub invalid: Invalid,
    /// How the set is divided.
    pub clusters: ClusterOptions,
    /// Step 1: which rows are duplicates, and which of them stays.
    pub duplicates: DuplicateOptions,
    /// Steps 2 and 3: which ranks stay.
    pub windows: WindowOptions,
    /// How many of the remaining rows are drawn; `None` keeps all.
    pub sample: Option<u64>,
}

/// What becomes of rows with NaN or infinite numbers, and of rows without a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Invalid {
    /// The first one ends the run, named by file and row.
    #[default]
    Error,
    /// They are left out and counted in the report.
    Drop,
}

/// How the set is divided into clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterOptions {
    /// How many. `None` takes the paper's 100,000, and for smaller sets as many as leave its
    /// 20,533 rows to a cluster; where `start_from` is given, as many as it holds.
    pub count: Option<u64>,
    /// A `.npy` file of centroids that are used as they are; nothing is trained.
    pub centroids: Option<PathBuf>,
    /// A `.npy` file of centroids that training starts from.
    pub start_from: Option<PathBuf>,
    /// What "near" means.
    pub geometry: Geometry,
    /// Where training starts.
    pub start: Start,
    /// Rounds of Lloyd's algorithm on one sample, at most.
    pub iterations: u32,
    /// Samples drawn one after the other, each round starting where the last one ended.
    pub epochs: u32,
    /// Rows of a sample for each centroid; faiss draws as many.
    pub rows_per_centroid: u64,
    /// How the nearest centroid is found.
    pub search: Search,
}

impl ClusterOptions {
    /// Rounds of k-means over all samples, at most.
    ///
    /// # Errors
    /// [`DataError::Option`] where they are 2³² or more.
    pub(crate) fn rounds(&self) -> Result<u32> {
        self.epochs.checked_mul(self.iterations).ok_or_else(|| {
            let iterations = self.iterations;
            DataError::option("--epochs", OptionFault::Rounds { iterations })
        })
    }
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            count: None,
            centroids: None,
            start_from: None,
            geometry: Geometry::Euclidean,
            start: Start::Random,
            iterations: 25,
            epochs: 1,
            rows_per_centroid: 256,
            search: Search::Exact,
        }
    }
}

/// What "near" means, to k-means and to the assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Geometry {
    /// Euclidean distance to the mean of the rows, as the authors did.
    #[default]
    Euclidean,
    /// The angle to the mean direction of the rows, as SemDeDup did.
    Spherical,
}

/// Where k-means starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Start {
    /// At rows of the sample.
    #[default]
    Random,
    /// At rows of the sample drawn one after the other, far from those before (Arthur and
    /// Vassilvitskii 2007). Takes as long as an iteration, on few cores longer.
    PlusPlus,
}

/// How the nearest centroid is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Search {
    /// Among all of them.
    #[default]
    Exact,
    /// Among those of the nearest groups of centroids: an approximation, whose agreement with the
    /// exact answer is measured on a sample and reported.
    TwoLevel {
        /// How many groups are searched.
        probes: u32,
    },
}

/// Which rows are duplicates, and which of them stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DuplicateOptions {
    /// Rows of one cluster this similar are joined.
    pub threshold: f64,
    /// Whether the threshold itself joins.
    pub edge: Edge,
    /// What is held against the threshold.
    pub similarity: Similarity,
    /// What a group of duplicates is.
    pub group: Group,
    /// Which of a group stays. `None` is the median, and for SemDeDup the farthest.
    pub keep: Option<Keep>,
    /// Which of the two middle rows of an even group is its median.
    pub median: Median,
}

impl Default for DuplicateOptions {
    fn default() -> Self {
        Self {
            threshold: 0.86,
            edge: Edge::Above,
            similarity: Similarity::Cosine,
            group: Group::Components,
            keep: None,
            median: Median::Upper,
        }
    }
}

impl DuplicateOptions {
    /// Which of a group stays.
    pub fn keep(&self) -> Keep {
        self.keep.unwrap_or(match self.group {
            Group::Components => Keep::Median,
            Group::SemDeDup => Keep::Far,
        })
    }

    /// Whether two rows of this similarity are joined.
    pub(crate) fn joins(&self, similarity: f64) -> bool {
        match self.edge {
            Edge::Above => similarity > self.threshold,
            Edge::AtLeast => similarity >= self.threshold,
        }
    }
}

/// Whether the threshold itself joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// Only what is above it, as in the paper and in SemDeDup.
    #[default]
    Above,
    /// The threshold too, as in NeMo Curator.
    AtLeast,
}

/// What similarity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Similarity {
    /// The cosine of the angle, whatever the lengths, as the paper says.
    #[default]
    Cosine,
    /// The inner product, as the authors' code: the same for rows of unit length.
    Dot,
}

/// What a group of duplicates is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Group {
    /// A connected component of the graph of similar pairs: one row of each stays.
    #[default]
    Components,
    /// SemDeDup's rule: in the order of `keep`, a row goes if one before it is similar. Keeps more
    /// than one row of a chain.
    #[serde(rename = "semdedup")]
    SemDeDup,
}

/// Which of a group stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Keep {
    /// The row whose distance to the centroid is the median of the group's.
    Median,
    /// The farthest from the centroid.
    Far,
    /// The nearest to the centroid.
    Near,
    /// Any, by the seed.
    Random,
    /// The one whose caption fits best.
    MaxScore,
}

/// Which of the two middle rows of an even group is its median.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Median {
    /// The farther one, index `n / 2`, as the authors' code.
    #[default]
    Upper,
    /// The nearer one, index `(n - 1) / 2`.
    Lower,
}

/// Which ranks stay in steps 2 and 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowOptions {
    /// Step 2, by the similarity of image and caption; `None` keeps all.
    pub score: Option<Window>,
    /// Step 3, by the cosine of image and centroid, among what step 2 left; `None` keeps all.
    pub centroid: Option<Window>,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self {
            score: Some(Window::new(4000, 6000)),
            centroid: Some(Window::new(1500, 3500)),
        }
    }
}

/// A range of ranks: of `n` rows, those from `⌊from · n⌋` up to but not with `⌊to · n⌋`, equal
/// values in the order of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The first rank, in basis points (hundredths of a percent).
    pub from: u32,
    /// The rank after the last, in basis points.
    pub to: u32,
    /// Which rank is the first.
    pub order: Order,
    /// What is ranked together.
    pub scope: Scope,
}

impl Window {
    /// A window over the whole set, the most similar first.
    pub const fn new(from: u32, to: u32) -> Self {
        Self {
            from,
            to,
            order: Order::Descending,
            scope: Scope::Global,
        }
    }

    /// The ranks that stay of `n`.
    pub fn ranks(&self, n: u64) -> std::ops::Range<u64> {
        let rank = |points: u32| (u128::from(n) * u128::from(points) / 10_000) as u64;
        rank(self.from)..rank(self.to)
    }
}

/// Which rank is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The most similar row is at 0 %.
    #[default]
    Descending,
    /// The least similar row is at 0 %.
    Ascending,
}

/// What is ranked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Scope {
    /// All rows.
    #[default]
    Global,
    /// The rows of each cluster apart.
    PerCluster,
}

impl CoresetOptions {
    /// Checks what can be checked without the set.
    ///
    /// # Errors
    /// [`DataError::Option`], naming the option, and [`DataError::Name`] for a path of centroids that
    /// a report could not tell.
    pub fn validate(&self) -> Result<()> {
        let duplicates = &self.duplicates;
        if !(duplicates.threshold > -1.0 && duplicates.threshold < 1.0) {
            return Err(DataError::option("--threshold", OptionFault::NoCosine));
        }
        if duplicates.group == Group::SemDeDup && duplicates.keep() == Keep::Median {
            return Err(DataError::option("--keep", OptionFault::NoMedian));
        }
        let windows = [
            ("--score-window", self.windows.score),
            ("--centroid-window", self.windows.centroid),
        ];
        for (option, window) in windows {
            if window.is_some_and(|window| window.from >= window.to || window.to > 10_000) {
                return Err(DataError::option(option, OptionFault::NoRange));
            }
        }
        let clusters = &self.clusters;
        let positive = [
            ("--clusters", clusters.count != Some(0)),
            ("--iterations", clusters.iterations > 0),
            ("--epochs", clusters.epochs > 0),
            ("--rows-per-centroid", clusters.rows_per_centroid > 0),
            ("--sample", self.sample != Some(0)),
            (
                "--probes",
                clusters.search != Search::TwoLevel { probes: 0 },
            ),
        ];
        if let Some((option, _)) = positive.iter().find(|(_, ok)| !ok) {
            return Err(DataError::option(option, OptionFault::Zero));
        }
        clusters.rounds()?;
        if clusters.centroids.is_some()
            && (clusters.start_from.is_some() || clusters.count.is_some())
        {
            return Err(DataError::option("--centroids", OptionFault::Untrained));
        }
        for path in [&clusters.centroids, &clusters.start_from]
            .into_iter()
            .flatten()
        {
            DataError::text(path)?;
        }
        Ok(())
    }

    /// The number of clusters to train for a set of `rows`, where no file of centroids says it.
    pub fn cluster_count(&self, rows: u64) -> u64 {
        self.clusters
            .count
            .unwrap_or_else(|| (rows / PAPER_ROWS_PER_CLUSTER).clamp(1, PAPER_CLUSTERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_exact_in_basis_points() {
        // 0.29 * 100 is 28.999999999999996 in floating point.
        assert_eq!(Window::new(0, 2900).ranks(100), 0..29);
        assert_eq!(Window::new(4000, 6000).ranks(1000), 400..600);
        assert_eq!(Window::new(1500, 3500).ranks(7), 1..2);
        assert_eq!(Window::new(0, 10_000).ranks(u64::MAX), 0..u64::MAX);
    }

    #[test]
    fn the_papers_numbers_are_the_defaults() {
        let options = CoresetOptions::default();
        options.validate().unwrap();
        assert_eq!(options.cluster_count(2_053_332_591), 100_000);
        assert_eq!(options.cluster_count(5_000_000), 243);
        assert_eq!(options.duplicates.keep(), Keep::Median);
        assert!(!options.duplicates.joins(0.86) && options.duplicates.joins(0.860_000_1));
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        let mut options = CoresetOptions::default();
        options.duplicates.threshold = f64::NAN;
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("--threshold: ")
        );
        let mut options = CoresetOptions::default();
        options.duplicates.group = Group::SemDeDup;
        options.validate().unwrap();
        options.duplicates.keep = Some(Keep::Median);
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("--keep: ")
        );
        let mut options = CoresetOptions::default();
        (options.clusters.epochs, options.clusters.iterations) = (1 << 16, 1 << 16);
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("--epochs: ")
        );
        let mut options = CoresetOptions::default();
        options.windows.score = Some(Window::new(6000, 4000));
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("--score-window: ")
        );
    }
}
