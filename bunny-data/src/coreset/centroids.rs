//! Centroids: read from and written to `.npy` files.

use std::path::Path;

use rayon::prelude::*;

use super::numeric::dot;
use super::options::Geometry;
use crate::embeddings::{Dtype, LONGEST, MatrixFile, NpyHeader};
use crate::error::{ArrayFault, DataError, Result, RowFault};
use crate::whole::WholeFile;

/// The centres of clusters, and what "near" means to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Centroids {
    values: Vec<f32>,
    dims: usize,
    geometry: Geometry,
}

impl Centroids {
    /// Centroids from their numbers, `[count, dims]`.
    ///
    /// # Panics
    /// Where the numbers are no whole rows.
    pub fn new(values: Vec<f32>, dims: usize, geometry: Geometry) -> Self {
        assert!(dims > 0 && values.len().is_multiple_of(dims), "whole rows");
        Self {
            values,
            dims,
            geometry,
        }
    }

    /// Reads a `.npy` file of float16 or float32 rows.
    ///
    /// # Errors
    /// When the file is broken, is empty, has rows of another width than `dims`, or holds a number
    /// that is not finite, naming the row.
    pub fn read(path: impl AsRef<Path>, dims: usize, geometry: Geometry) -> Result<Self> {
        let path = path.as_ref();
        let matrix = Self::shape(path, dims)?.map()?;
        let mut values = vec![0.0; matrix.rows() * dims];
        matrix.load(0..matrix.rows(), &mut values);
        let bad = values.par_chunks(dims).position_first(|row| {
            let length = dot(row, row).sqrt();
            length.is_nan() || length > LONGEST
        });
        if let Some(row) = bad {
            return Err(DataError::row(path, row as u64, RowFault::Centroid));
        }
        Ok(Self::new(values, dims, geometry))
    }

    /// Checks that a `.npy` file holds centroids of `dims` numbers, without reading them.
    pub(crate) fn shape(path: &Path, dims: usize) -> Result<MatrixFile> {
        let file = MatrixFile::npy(path)?;
        if file.dims != dims {
            let fault = ArrayFault::CentroidWidth {
                found: file.dims,
                expected: dims,
            };
            return Err(DataError::array(path, fault));
        }
        if file.rows == 0 || file.rows > u64::from(u32::MAX) {
            return Err(DataError::array(path, ArrayFault::CentroidCount));
        }
        Ok(file)
    }

    /// Writes a `.npy` file of float32 rows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        WholeFile::fill(path, |file| {
            let header = NpyHeader::write(Dtype::Float32, self.len() as u64, self.dims);
            file.put(&header)?;
            Ok(file.put(bytemuck::cast_slice(&self.values))?)
        })
    }

    /// Bytes that so many take.
    pub(crate) fn bytes(count: u64, dims: usize) -> u64 {
        4 * count * dims as u64
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in a row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// All numbers, `[count, dims]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One centroid.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dims..(index + 1) * self.dims]
    }

    /// What "near" means.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}
