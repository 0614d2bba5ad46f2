//! The product with a weight. Gradients come out as they are kept, the weight's without a turn, the
//! bias's in one launch.

use burn::{
    backend::autodiff::{
        NodeId,
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, Tensor, backend::Backend},
};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::{
    Gpu, plain,
    primitive::raise,
    product::{Factors, biased_product, product},
    sums::column_sums,
    tracked,
    tracked::{record, unwrap, wants, wrap},
};

/// [`plain::linear`](crate::nn::kernel::plain::linear), with gradients.
pub fn linear<B: Backend, K: Gpu>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
) -> Option<Tensor<B, 2>> {
    // A weight of another type is cast first, which has a gradient of its own.
    if input.dtype() != weight.dtype() {
        return None;
    }
    if let Some(x) = plain::<B, K, 2>(input) {
        let w = plain::<B, K, 2>(weight)?;
        let b = bias.and_then(plain::<B, K, 1>);
        return Some(raise(forward::<K>(x, w, b, Factors::Exact)));
    }
    let (x, w) = (tracked::<B, K, 2>(input)?, tracked::<B, K, 2>(weight)?);
    let b = match bias {
        Some(bias) => Some(tracked::<B, K, 1>(bias)?),
        None => None,
    };
    let bias = b.as_ref().map(|bias| bias.primitive.clone());
    let (inner, weight_inner) = (x.primitive.clone(), w.primitive.clone());
    let output = forward::<K>(inner, weight_inner, bias, Factors::Rounded);
    let state = LinearState {
        input: wants!(w).then(|| x.primitive.clone()),
        weight: wants!(x).then(|| w.primitive.clone()),
    };
    // A bias that does not learn is no part of the graph.
    Some(raise(match b.filter(|bias| wants!(bias)) {
        Some(b) => record!(K, BiasedLinearStep, [x, w, b], state, output),
        None => record!(K, LinearStep, [x, w], state, output),
    }))
}

fn forward<K: Gpu>(
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

/// What each gradient needs, where it is wanted.
#[derive(Debug, Clone)]
struct LinearState<R: CubeRuntime> {
    input: Option<CubeTensor<R>>,
    weight: Option<CubeTensor<R>>,
}

#[derive(Debug)]
struct LinearStep;

#[derive(Debug)]
struct BiasedLinearStep;

impl<K: Gpu> Backward<K, 2> for LinearStep {
    type State = LinearState<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [input, weight] = ops.parents;
        let parents = [input, weight].map(|parent| parent.map(|node| node.id));
        register_products::<K>(ops.state, gradient, parents, grads);
    }
}

impl<K: Gpu> Backward<K, 3> for BiasedLinearStep {
    type State = LinearState<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [input, weight, bias] = ops.parents;
        if let Some(node) = bias {
            let sums = wrap::<K, 1>(column_sums(gradient.clone()));
            let sums = sums.cast(gradient.dtype);
            grads.register::<K>(node.id, unwrap(sums));
        }
        let parents = [input, weight].map(|parent| parent.map(|node| node.id));
        register_products::<K>(ops.state, gradient, parents, grads);
    }
}

/// The gradients of input and weight: `dy W` and `dyᵀ x`.
fn register_products<K: Gpu>(
    state: LinearState<K::Runtime>,
    gradient: CubeTensor<K::Runtime>,
    [input, weight]: [Option<NodeId>; 2],
    grads: &mut Gradients,
) {
    let dtype = gradient.dtype;
    let gradient = wrap::<K, 2>(gradient);
    if let (Some(id), Some(weight)) = (input, state.weight) {
        let weight = wrap::<K, 2>(weight);
        let of_input = product(gradient.clone(), weight, Factors::Rounded, dtype);
        grads.register::<K>(id, unwrap(of_input));
    }
    if let (Some(id), Some(input)) = (weight, state.input) {
        let of_weight = weight_gradient::<K>(gradient, wrap::<K, 2>(input), dtype);
        grads.register::<K>(id, of_weight);
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
