//! How fast memory is read and products are formed here, as it is measured.

use std::time::{Duration, Instant};

use bunny_kernels::{WeightRef, has_bf16_dot, linear, linear_bf16_dot};
use rayon::prelude::*;
use serde::Serialize;

/// What was measured, on all threads.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// Bytes read of main memory in a second.
    pub bytes_per_second: f64,
    /// 10¹² operations a second of products in `f32`.
    pub f32_tflops: f64,
    /// The same with operands of `bf16`, where the processor multiplies them.
    pub bf16_tflops: Option<f64>,
}

/// Far more than caches hold.
const BYTES: usize = 256 << 20;
/// Rows, inputs and outputs of the product: a prompt's, through a layer of a small language model.
const SIZES: [usize; 3] = [256, 1024, 2048];

impl Speed {
    /// Measures it.
    pub fn measure() -> Self {
        Self {
            bytes_per_second: bytes_per_second(),
            f32_tflops: f32_tflops(),
            bf16_tflops: bf16_tflops(),
        }
    }
}

/// 10¹² operations a second of products in `f32`, on all threads: measured in a tenth of a second.
pub fn f32_tflops() -> f64 {
    tflops(|x, w, y| {
        let [rows, inner, out] = SIZES;
        linear(x, w, None, y, rows, inner, out);
    })
}

/// The same with operands of `bf16`; `None` where the processor does not multiply them.
pub fn bf16_tflops() -> Option<f64> {
    let product = |x: &[f32], w: WeightRef<'_>, y: &mut [f32]| {
        let [rows, inner, out] = SIZES;
        linear_bf16_dot(x, w, None, y, rows, inner, out);
    };
    has_bf16_dot().then(|| tflops(product))
}

fn tflops(product: impl Fn(&[f32], WeightRef<'_>, &mut [f32])) -> f64 {
    let [rows, inner, out] = SIZES;
    let (x, w) = (vec![0.5; rows * inner], vec![0.25; inner * out]);
    let mut y = vec![0.0; rows * out];
    let fastest = fastest(|| product(&x, WeightRef::F32(&w), &mut y));
    std::hint::black_box(&y);
    (2 * rows * inner * out) as f64 / fastest.as_secs_f64() / 1e12
}

fn bytes_per_second() -> f64 {
    // Pages that were never written are all one.
    let words = vec![1_u64; BYTES / 8];
    let piece = words.len().div_ceil(rayon::current_num_threads());
    let fastest = fastest(|| {
        let sum: u64 = words
            .par_chunks(piece)
            .map(|words| {
                words
                    .iter()
                    .fold(0, |sum: u64, word| sum.wrapping_add(*word))
            })
            .sum();
        std::hint::black_box(sum);
    });
    BYTES as f64 / fastest.as_secs_f64()
}

/// The shortest of a few runs: what else runs here makes others longer.
fn fastest(mut work: impl FnMut()) -> Duration {
    const RUNS: usize = 5;
    let runs = (0..RUNS).map(|_| {
        let began = Instant::now();
        work();
        began.elapsed()
    });
    runs.min().unwrap_or_default()
}
