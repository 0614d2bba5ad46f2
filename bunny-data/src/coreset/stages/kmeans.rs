//! A round of k-means, as far as it is done in parts: the nearest centroid of every row of the
//! sample. The means of the rows are the driver's (`pipeline/kmeans.rs`).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Stage, Task};
use crate::coreset::arrays::{Records, Resident, write_records};
use crate::coreset::centroids::Centroids;
use crate::coreset::options::Geometry;
use crate::coreset::search::nearest::{Nearest, Rows};
use crate::coreset::worker::Worker;
use crate::embeddings::{Matrix, MatrixFile};
use crate::error::Result;
use crate::store::Store;

/// What the names of labels end in: one `u32` a row.
const LABELS: &str = "u32";

/// Writes the number of the nearest centroid of every row of a part of the sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Label {
    pub(crate) sample: MatrixFile,
    /// Rows of a part.
    pub(crate) part_rows: u64,
    pub(crate) centroids: String,
    pub(crate) geometry: Geometry,
    pub(crate) stage: Stage,
}

impl Label {
    fn rows(&self, part: usize) -> Range<usize> {
        let start = part as u64 * self.part_rows;
        start as usize..self.sample.rows.min(start + self.part_rows) as usize
    }

    /// The labels of all rows, once all parts are done.
    pub(crate) fn read(&self, store: &dyn Store) -> Result<Vec<u32>> {
        let mut labels = Vec::with_capacity(self.sample.rows as usize);
        for part in 0..self.parts() {
            let here: Records<u32> = Records::open(store, &self.stage.key(part, LABELS))?;
            labels.extend_from_slice(&here);
        }
        Ok(labels)
    }
}

impl Task for Label {
    const NAME: &'static str = "label";
    type Output = u64;

    fn parts(&self) -> usize {
        self.sample.rows.div_ceil(self.part_rows) as usize
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn run(&self, part: usize, worker: &Worker<'_>, store: &dyn Store) -> Result<u64> {
        let rows = self.rows(part);
        let centroids = Centroids::load(store, &self.centroids, self.sample.dims, self.geometry)?;
        let nearest = Nearest::new(&centroids, worker.tile);
        drop(centroids);
        let sample = Sample::open(store, &self.sample, rows.clone(), worker.memory / 4)?;
        let key = self.stage.key(part, LABELS);
        write_records(store, &key, &nearest.assign_all(&sample))?;
        Ok(rows.len() as u64)
    }
}

/// Some of the rows that centroids are trained on, mapped.
pub(crate) struct Sample {
    matrix: Matrix,
    rows: Range<usize>,
    resident: Resident,
}

impl Sample {
    /// Maps and checks rows of a sample; at most `resident` bytes of it stay in memory.
    pub(crate) fn open(
        store: &dyn Store,
        file: &MatrixFile,
        rows: Range<usize>,
        resident: u64,
    ) -> Result<Self> {
        Ok(Self {
            matrix: file.map_rows(store, rows.clone())?,
            rows,
            resident: Resident::new(resident),
        })
    }
}

impl Rows for Sample {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dims(&self) -> usize {
        self.matrix.width()
    }

    fn load(&self, rows: Range<usize>, out: &mut [f32]) {
        let rows = self.rows.start + rows.start..self.rows.start + rows.end;
        let bytes = std::mem::size_of_val(self.matrix.bytes(rows.clone()));
        self.resident
            .count(bytes, || self.matrix.release(self.rows.clone()));
        self.matrix.load(rows, out);
    }
}
