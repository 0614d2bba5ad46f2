//! What is known of a row that survived the first step.

use bytemuck::{Pod, Zeroable};

/// A row that stands for its group of duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Survivor {
    /// The row of the set.
    pub row: u64,
    /// The group it stands for: the least row of it.
    pub component: u64,
    /// Rows of that group.
    pub size: u64,
    /// The similarity of image and caption.
    pub score: f64,
    /// The cosine of image and centroid.
    pub centroid: f64,
    /// The Euclidean distance to the centroid.
    pub distance: f64,
    /// The cluster.
    pub cluster: u32,
    padding: u32,
}

impl Survivor {
    /// A row of which nothing else is known.
    pub(crate) fn row_alone(row: u64) -> Self {
        Self {
            row,
            ..Self::zeroed()
        }
    }

    pub(crate) fn new(
        row: u64,
        component: u64,
        size: u64,
        score: f64,
        centroid: f64,
        distance: f64,
        cluster: u32,
    ) -> Self {
        Self {
            row,
            component,
            size,
            score,
            centroid,
            distance,
            cluster,
            padding: 0,
        }
    }
}

/// The key of a bucket's survivors, in the order of their rows.
pub(crate) fn kept_key(folder: &str, bucket: usize) -> String {
    format!("{folder}/kept-{bucket:05}.bin")
}
