//! Centroids: read from and written to `.npy` files.

use std::path::Path;

use rayon::prelude::*;

use super::numeric::dot;
use super::options::Geometry;
use crate::embeddings::{Dtype, LONGEST, Matrix, MatrixFile, NpyHeader};
use crate::error::{ArrayFault, DataError, Result, RowFault};
use crate::store::{self, Store};
use crate::whole::fill_whole;

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
        Self::of(&Matrix::open(path)?, dims, geometry)
    }

    /// As [`Self::read`], from a store.
    pub(crate) fn load(
        store: &dyn Store,
        key: &str,
        dims: usize,
        geometry: Geometry,
    ) -> Result<Self> {
        Self::of(&MatrixFile::npy(store, key)?.map(store)?, dims, geometry)
    }

    fn of(matrix: &Matrix, dims: usize, geometry: Geometry) -> Result<Self> {
        check(matrix, dims)?;
        let mut values = vec![0.0; matrix.rows() * dims];
        matrix.load(0..matrix.rows(), &mut values);
        let bad = values.par_chunks(dims).position_first(|row| {
            let length = dot(row, row).sqrt();
            length.is_nan() || length > LONGEST
        });
        if let Some(row) = bad {
            let fault = RowFault::Centroid;
            return Err(DataError::row(matrix.path(), row as u64, fault));
        }
        Ok(Self::new(values, dims, geometry))
    }

    /// How many centroids of `dims` numbers a `.npy` file holds, which is not read any further.
    pub(crate) fn count(path: &Path, dims: usize) -> Result<u64> {
        let matrix = Matrix::open(path)?;
        check(&matrix, dims)?;
        Ok(matrix.rows() as u64)
    }

    /// Writes a `.npy` file of float32 rows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        fill_whole(path.as_ref(), |file| {
            file.put(&self.header())?;
            file.put(bytemuck::cast_slice(&self.values))
        })
    }

    /// As [`Self::write`], into a store.
    pub(crate) fn save(&self, store: &dyn Store, key: &str) -> Result<()> {
        store::fill(store, key, |file| {
            file.put(&self.header())?;
            file.put(bytemuck::cast_slice(&self.values))
        })
    }

    fn header(&self) -> Vec<u8> {
        NpyHeader::write(Dtype::Float32, self.len() as u64, self.dims)
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

/// Fails unless a matrix is one of centroids of `dims` numbers.
fn check(matrix: &Matrix, dims: usize) -> Result<()> {
    let found = matrix.width();
    if found != dims {
        let fault = ArrayFault::CentroidWidth {
            found,
            expected: dims,
        };
        return Err(DataError::array(matrix.path(), fault));
    }
    if matrix.rows() == 0 || matrix.rows() > u32::MAX as usize {
        return Err(DataError::array(matrix.path(), ArrayFault::CentroidCount));
    }
    Ok(())
}
