//! The coreset's kernels on matrices from `.npy` files, timed: what `benches/peers/coreset_*.py`
//! hold against other libraries.
//!
//! ```text
//! coreset_kernels assign ROWS.npy CENTROIDS.npy REPEATS LABELS.u32
//! coreset_kernels kmeans ROWS.npy START.npy ITERATIONS CENTROIDS.npy
//! coreset_kernels components ROWS.npy REPEATS LABELS.u32
//! ```
//! Prints one JSON line: the seconds of each repeat.

use std::time::Instant;

use bunny_data::coreset::{
    Centroids, ClusterOptions, DuplicateOptions, Geometry, assign, components, train_from,
};
use bunny_data::embeddings::MatrixFile;

type Error = Box<dyn std::error::Error>;

fn load(path: &str) -> Result<(Vec<f32>, usize), Error> {
    let file = MatrixFile::npy(path)?;
    let matrix = file.map()?;
    let mut rows = vec![0.0; matrix.rows() * file.dims];
    matrix.load(0..matrix.rows(), &mut rows);
    Ok((rows, file.dims))
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

fn write(path: &str, labels: &[u32]) -> Result<(), Error> {
    let bytes: Vec<u8> = labels
        .iter()
        .flat_map(|label| label.to_le_bytes())
        .collect();
    Ok(std::fs::write(path, bytes)?)
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let seconds = match args[..] {
        ["assign", rows, centroids, repeats, out] => {
            let (rows, dims) = load(rows)?;
            let centroids = Centroids::read(centroids, dims, Geometry::Euclidean)?;
            let (labels, seconds) = timed(repeats.parse()?, || assign(&rows, &centroids));
            write(out, &labels)?;
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
        ["components", rows, repeats, out] => {
            let (rows, dims) = load(rows)?;
            let options = DuplicateOptions::default();
            let (labels, seconds) = timed(repeats.parse()?, || components(&rows, dims, &options));
            write(out, &labels?)?;
            seconds
        }
        _ => return Err("see the first lines of this example".into()),
    };
    println!("{}", serde_json::json!({ "seconds": seconds }));
    Ok(())
}
