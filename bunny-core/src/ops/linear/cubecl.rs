//! The product with a weight. Gradients come out as they are kept, the weight's without a turn, the
//! bias's in one launch.

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;

use super::{Factors, autodiff::LinearKernel};
use crate::ops::{
    Phase,
    autodiff::{unwrap, wrap},
    gpu::{
        Gpu,
        product::{biased_product, product},
        sums::column_sums,
    },
};

impl<K: Gpu> LinearKernel for K {
    // A weight of another type is cast first, which has a gradient of its own.
    fn takes(input: DType, weight: DType) -> bool {
        input == weight
    }

    fn teaches(_: DType) -> bool {
        true
    }

    fn forward(
        _: Phase,
        input: CubeTensor<K::Runtime>,
        weight: CubeTensor<K::Runtime>,
        bias: Option<CubeTensor<K::Runtime>>,
        factors: Factors,
    ) -> CubeTensor<K::Runtime> {
        let dtype = input.dtype;
        let input = wrap::<K, 2>(input);
        let weight = wrap::<K, 2>(weight).transpose();
        unwrap(match bias {
            Some(bias) => biased_product(input, weight, bias, factors),
            None => product(input, weight, factors, dtype),
        })
    }

    fn input_gradient(
        gradient: CubeTensor<K::Runtime>,
        weight: CubeTensor<K::Runtime>,
    ) -> CubeTensor<K::Runtime> {
        let dtype = gradient.dtype;
        let (gradient, weight) = (wrap::<K, 2>(gradient), wrap::<K, 2>(weight));
        unwrap(product(gradient, weight, Factors::Rounded, dtype))
    }

    fn weight_gradient(
        gradient: CubeTensor<K::Runtime>,
        input: CubeTensor<K::Runtime>,
        _: DType,
    ) -> CubeTensor<K::Runtime> {
        let dtype = gradient.dtype;
        weight_gradient::<K>(wrap(gradient), wrap(input), dtype)
    }

    fn bias_gradient(gradient: CubeTensor<K::Runtime>) -> CubeTensor<K::Runtime> {
        let dtype = gradient.dtype;
        unwrap(wrap::<K, 1>(column_sums(gradient)).cast(dtype))
    }
}

/// `dyᵀ x`. The result is small beside the rows that it sums over: they are shared out, or a few of
/// the device's processors would have all the work.
///
/// # Shapes
/// `[rows, out]`, `[rows, in]` → `[out, in]`, of type `dtype`
pub fn weight_gradient<K: Gpu>(
    gradient: Tensor<K, 2>,
    input: Tensor<K, 2>,
    dtype: DType,
) -> CubeTensor<K::Runtime> {
    let ([rows, out], [_, inner]) = (gradient.dims(), input.dims());
    let tile = match K::multiplies(gradient.dtype(), &gradient.device()) {
        true => LARGE_TILE,
        false => SMALL_TILE,
    };
    let parts = parts(rows, out, inner, tile);
    if parts == 1 {
        let turned = gradient.transpose();
        return unwrap(product(turned, input, Factors::Rounded, dtype));
    }
    let gradient = gradient.reshape([parts, rows / parts, out]).swap_dims(1, 2);
    let input = input.reshape([parts, rows / parts, inner]);
    let sums = product(gradient, input, Factors::Rounded, DType::F32); // [parts, out, in]
    let sum = column_sums(unwrap(sums.reshape([parts, out * inner])));
    unwrap(wrap::<K, 1>(sum).reshape([out, inner]).cast(dtype))
}

/// Tiles of results, and how many of them keep a device busy.
#[derive(Debug, Clone, Copy)]
struct Tile {
    side: usize,
    wanted: usize,
}

const SMALL_TILE: Tile = Tile {
    side: 64,
    wanted: 256,
};
const LARGE_TILE: Tile = Tile {
    side: 128,
    wanted: 128,
};

/// Into how many parts rows are shared out: as many as it takes to have the tiles that are wanted, but
/// none of fewer than 256 rows.
fn parts(rows: usize, out: usize, inner: usize, tile: Tile) -> usize {
    let tiles = out.div_ceil(tile.side) * inner.div_ceil(tile.side);
    let mut parts = 1;
    while parts * tiles < tile.wanted && rows.is_multiple_of(2 * parts) && rows / (2 * parts) >= 256
    {
        parts *= 2;
    }
    parts
}
