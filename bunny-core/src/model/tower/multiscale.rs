//! SigLIP over pictures of several sizes (S²): each picture is scaled to every size, cut into tiles that
//! the tower reads one by one, and what it sees of them is laid together and averaged to one grid.
//!
//! ```text
//! 384     768        1152
//! ┌──┐    ┌──┬──┐    ┌──┬──┬──┐   tiles of 384 pixels, 27 × 27 features each
//! └──┘    ├──┼──┤    ├──┼──┼──┤
//!         └──┴──┘    ├──┼──┼──┤   a feature of the result is the mean of 1, of 2 × 2 and of 3 × 3,
//!                    └──┴──┴──┘   channels side by side
//! ```

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};

use super::siglip::Siglip;
use crate::{config::MultiscaleConfig, nn::Builder};

/// The tower and the sizes in which it is shown a picture; its tensors are called as the tower's.
#[derive(Module, Debug)]
pub struct Multiscale<B: Backend> {
    /// The tower.
    pub tower: Siglip<B>,
    #[module(skip)]
    scales: Vec<usize>,
}

impl<B: Backend> Multiscale<B> {
    /// A tower whose parameters are those below `builder`.
    pub fn new(config: &MultiscaleConfig, builder: &Builder<'_, B>) -> Self {
        Self {
            tower: Siglip::new(&config.tower, builder),
            scales: config.scales.clone(),
        }
    }

    /// # Shapes
    /// `[pictures, 3, size, size]`, `size` being the largest scale →
    /// `[pictures, patches, scales * hidden]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let tile = self.scales[0];
        let seen = self.scales.iter().map(|&scale| {
            let side = scale / tile;
            let tiles = cut(scaled(pixels.clone(), scale), side);
            pooled(self.tower.forward(tiles), side)
        });
        Tensor::cat(seen.collect(), 2)
    }
}

/// Pictures of another size by bicubic interpolation in f32, without smoothing before it: torch's
/// `interpolate(mode="bicubic")`.
///
/// # Shapes
/// `[pictures, 3, from, from]` → `[pictures, 3, to, to]`
fn scaled<B: Backend>(pixels: Tensor<B, 4>, to: usize) -> Tensor<B, 4> {
    let from = pixels.dims()[2];
    if from == to {
        return pixels;
    }
    let dtype = pixels.dtype();
    let taps = taps(from, to);
    let pixels = pixels.cast(DType::F32);
    let across = [3, 2].into_iter().fold(pixels, |pixels, dim| {
        let device = pixels.device();
        let weighted = taps.iter().map(|(places, weights)| {
            let places = TensorData::new(places.clone(), [to]);
            let places = Tensor::<B, 1, Int>::from_data(places, &device);
            let mut shape = [1; 4];
            shape[dim] = to;
            let weights = TensorData::new(weights.clone(), shape);
            let weights = Tensor::from_data(weights, (&device, DType::F32));
            pixels.clone().select(dim, places) * weights
        });
        let sum = weighted.reduce(|sum, tap| sum + tap);
        sum.expect("a pixel is made of four")
    });
    across.cast(dtype)
}

/// Of each of four neighbours, which pixel it is of each pixel made, and how much it counts for.
fn taps(from: usize, to: usize) -> Vec<(Vec<i32>, Vec<f32>)> {
    let step = from as f32 / to as f32;
    let made = (0..to).map(|at| {
        // Centres of pixels lie on centres.
        let place = step * (at as f32 + 0.5) - 0.5;
        (place.floor(), place - place.floor())
    });
    let made: Vec<(f32, f32)> = made.collect();
    (-1..=2i32)
        .map(|neighbour| {
            let places = made
                .iter()
                .map(|(first, _)| (*first as i32 + neighbour).clamp(0, from as i32 - 1));
            let weights = made
                .iter()
                .map(|(_, beyond)| cubic((neighbour as f32 - beyond).abs()));
            (places.collect(), weights.collect())
        })
        .collect()
}

/// Keys' cubic kernel with a = -0.75, as torch has it.
fn cubic(distance: f32) -> f32 {
    const A: f32 = -0.75;
    let x = distance;
    match x {
        _ if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

/// Pictures cut into `side * side` tiles, in reading order.
///
/// # Shapes
/// `[pictures, 3, size, size]` → `[pictures * side * side, 3, size / side, size / side]`
fn cut<B: Backend>(pixels: Tensor<B, 4>, side: usize) -> Tensor<B, 4> {
    if side == 1 {
        return pixels;
    }
    let [pictures, channels, size, _] = pixels.dims();
    let tile = size / side;
    let tiles: Tensor<B, 6> = pixels
        .reshape([pictures, channels, side, tile, side, tile])
        .permute([0, 2, 4, 1, 3, 5]);
    tiles.reshape([pictures * side * side, channels, tile, tile])
}

/// What was seen of `side * side` tiles of each picture, laid together, each `side * side` neighbours
/// averaged.
///
/// # Shapes
/// `[pictures * side * side, patches, hidden]` → `[pictures, patches, hidden]`
fn pooled<B: Backend>(features: Tensor<B, 3>, side: usize) -> Tensor<B, 3> {
    if side == 1 {
        return features;
    }
    let dtype = features.dtype();
    let [tiles, patches, hidden] = features.dims();
    let (pictures, grid) = (tiles / (side * side), patches.isqrt());
    let laid: Tensor<B, 6> = features
        .cast(DType::F32)
        .reshape([pictures, side, side, grid, grid, hidden])
        .permute([0, 1, 3, 2, 4, 5]); // [pictures, side, grid, side, grid, hidden]
    // The same numbers, counted in groups of neighbours.
    let laid = laid.reshape([pictures, grid, side, grid, side, hidden]);
    let means = laid.mean_dim(4).mean_dim(2);
    means.reshape([pictures, patches, hidden]).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_those_of_torch() {
        // From 1152 to 384 every place lies on a pixel: 1, 4, 7, ...
        let thirds = taps(1152, 384);
        let weights: Vec<f32> = thirds.iter().map(|(_, weights)| weights[5]).collect();
        assert_eq!(weights, [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(thirds[1].0[..3], [1, 4, 7]);
        // From 1152 to 768 they lie a quarter behind one, and a quarter before the next.
        let halves = taps(1152, 768);
        let of = |at: usize| -> Vec<f32> { halves.iter().map(|(_, w)| w[at]).collect() };
        let quarter = [-0.10546875, 0.87890625, 0.26171875, -0.03515625];
        assert_eq!(of(2), quarter);
        let mirrored: Vec<f32> = quarter.iter().rev().copied().collect();
        assert_eq!(of(3), mirrored);
        // Beyond the border, the pixel there.
        assert_eq!((halves[0].0[0], halves[3].0[767]), (0, 1151));
    }
}
