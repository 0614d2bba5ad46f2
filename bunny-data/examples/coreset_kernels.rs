//! The coreset's kernels on matrices from `.npy` files, timed: what `benches/peers/coreset_*.py`
//! hold against other libraries.
//!
//! ```text
//! coreset_kernels assign ROWS.npy CENTROIDS.npy REPEATS LABELS.u32
//! coreset_kernels kmeans ROWS.npy START.npy ITERATIONS CENTROIDS.npy
//! coreset_kernels duplicates ROWS.npy ENDS.u64 REPEATS LABELS.u32
//! coreset_kernels window VALUES.f64 FROM TO REPEATS ROWS.u64
//! ```
//! `ENDS` says where each cluster's rows end; labels are the first row of a row's component within
//! its cluster. `FROM` and `TO` are basis points. Prints one JSON line: the seconds of each repeat.

use std::ops::Range;
use std::time::Instant;

use bunny_data::DataError;
use bunny_data::coreset::{
    Centroids, ClusterOptions, DuplicateOptions, Geometry, Window, assign, components, in_window,
    train_from,
};
use bunny_data::embeddings::Matrix;
use bytemuck::{Pod, cast_slice, pod_collect_to_vec};
use rayon::prelude::*;

type Error = Box<dyn std::error::Error>;

fn load(path: &str) -> Result<(Vec<f32>, usize), Error> {
    let matrix = Matrix::open(path)?;
    let mut rows = vec![0.0; matrix.rows() * matrix.width()];
    matrix.load(0..matrix.rows(), &mut rows);
    Ok((rows, matrix.width()))
}

fn numbers<T: Pod>(path: &str) -> Result<Vec<T>, Error> {
    Ok(pod_collect_to_vec(&std::fs::read(path)?))
}

fn timed<T>(repeats: usize, mut run: impl FnMut() -> T) -> (T, Vec<f64>) {
    let mut seconds = Vec::new();
    loop {
        let start = Instant::now();
        let result = run();
        seconds.push(start.elapsed().as_secs_f64());
        if seconds.len() >= repeats {
            return (result, seconds);
        }
    }
}

/// The components of every cluster: large ones one after the other, each on all threads, the
/// others side by side.
fn duplicates(rows: &[f32], dims: usize, ends: &[u64]) -> Result<Vec<u32>, DataError> {
    const LARGE: usize = 4096;
    let options = DuplicateOptions::default();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let clusters: Vec<Range<usize>> = starts
        .zip(ends)
        .map(|(start, end)| start as usize..*end as usize)
        .collect();
    let find = |cluster: &Range<usize>| {
        components(
            &rows[cluster.start * dims..cluster.end * dims],
            dims,
            &options,
        )
    };
    let large: Vec<_> = clusters
        .iter()
        .map(|cluster| (cluster.len() > LARGE).then(|| find(cluster)).transpose())
        .collect::<Result<_, _>>()?;
    let labels: Vec<Vec<u32>> = clusters
        .par_iter()
        .zip(large)
        .map(|(cluster, done)| done.map_or_else(|| find(cluster), Ok))
        .collect::<Result<_, _>>()?;
    Ok(labels.concat())
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let seconds = match args[..] {
        ["assign", rows, centroids, repeats, out] => {
            let (rows, dims) = load(rows)?;
            let centroids = Centroids::read(centroids, dims, Geometry::Euclidean)?;
            let (labels, seconds) = timed(repeats.parse()?, || assign(&rows, &centroids));
            std::fs::write(out, cast_slice(&labels))?;
            seconds
        }
        ["kmeans", rows, start, iterations, out] => {
            let (rows, dims) = load(rows)?;
            let start = Centroids::read(start, dims, Geometry::Euclidean)?;
            let options = ClusterOptions {
                iterations: iterations.parse()?,
                ..ClusterOptions::default()
            };
            let (centroids, seconds) = timed(1, || train_from(&rows, &start, &options));
            centroids.write(out)?;
            seconds
        }
        ["duplicates", rows, ends, repeats, out] => {
            let (rows, dims) = load(rows)?;
            let ends = numbers(ends)?;
            let (labels, seconds) = timed(repeats.parse()?, || duplicates(&rows, dims, &ends));
            std::fs::write(out, cast_slice(&labels?))?;
            seconds
        }
        ["window", values, from, to, repeats, out] => {
            let values = numbers(values)?;
            let window = Window::new(from.parse()?, to.parse()?);
            let (rows, seconds) = timed(repeats.parse()?, || in_window(&values, &window));
            std::fs::write(out, cast_slice(&rows))?;
            seconds
        }
        _ => return Err("see the first lines of this example".into()),
    };
    println!("{}", serde_json::json!({ "seconds": seconds }));
    Ok(())
}
