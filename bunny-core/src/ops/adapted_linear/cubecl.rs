//! A layer and the adapter beside it, whose product is added to the layer's as it is formed, and whose
//! dropout on the way back is drawn where the gradient is.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, Tensor},
};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};

use crate::ops::{
    autodiff::{Tracked, is_wanted, record, unwrap, wrap},
    dropout::{Keep, cubecl::drop_some},
    gpu::{
        Gpu,
        product::{Finish, finished_product},
    },
    linear::cubecl::weight_gradient,
};

/// Whether [`adapted_linear`] serves: in training, where the weight is frozen and its type is one that
/// the device's own kernel multiplies.
pub fn serves<K: Gpu>(
    input: &Tracked<K>,
    weight: &Tracked<K>,
    bias: Option<&Tracked<K>>,
    lora_a: &Tracked<K>,
    lora_b: &Tracked<K>,
) -> bool {
    let learns_elsewhere = is_wanted::<K>(weight) || bias.is_some_and(is_wanted::<K>);
    let as_masters = [lora_a, lora_b]
        .iter()
        .all(|one| one.primitive.dtype == DType::F32);
    let products = products_serve::<K>(&input.primitive, &weight.primitive, &lora_a.primitive);
    as_masters && !learns_elsewhere && products
}

/// [`adapted_linear`](super::adapted_linear) by the device's own kernel; `A` and `B` are `lora`, and of
/// the adapter's input a share is dropped by a draw.
pub fn adapted_linear<K: Gpu>(
    input: &Tracked<K>,
    weight: &Tracked<K>,
    bias: Option<Tracked<K>>,
    lora: [&Tracked<K>; 2],
    scale: f32,
    dropout: Option<(f64, u64)>,
) -> Tracked<K> {
    let dtype = input.primitive.dtype;
    let [a, b] = lora.map(|one| wrap::<K, 2>(one.primitive.clone()).cast(dtype));
    let layer = Layer::<K> {
        weight: wrap(weight.primitive.clone()),
        a,
        b,
        scale,
        keep: dropout.map(|(probability, key)| Keep::new(probability, key)),
    };
    let bias = bias.map(|bias| bias.primitive);
    let (output, dropped, low) = layer.forward(input.primitive.clone(), bias);
    let state = || AdaptedState {
        layer,
        dropped,
        low,
    };
    let parents = [input, lora[0], lora[1]].map(|parent| parent.node.clone());
    record::<K, _, 3>(AdaptedStep.prepare(parents), state, output)
}

/// Whether every product here is one of the device's own kernel.
fn products_serve<K: Gpu>(
    input: &CubeTensor<K::Runtime>,
    weight: &CubeTensor<K::Runtime>,
    lora_a: &CubeTensor<K::Runtime>,
) -> bool {
    /// What the kernel's operands are multiples of.
    const ALIGNED: usize = 8;
    /// Fewer are no training.
    const FEWEST_ROWS: usize = 16;
    let lies_well = |one: &CubeTensor<K::Runtime>| {
        one.meta.strides()[1] == 1 && one.meta.strides()[0] == one.meta.shape()[1]
    };
    let sides = [
        weight.meta.shape()[0],
        weight.meta.shape()[1],
        lora_a.meta.shape()[0],
    ];
    input.dtype == weight.dtype
        && K::multiplies(input.dtype, &input.device)
        && input.meta.shape()[0] >= FEWEST_ROWS
        && sides.iter().all(|side| side.is_multiple_of(ALIGNED))
        && lies_well(input)
        && lies_well(weight)
}

#[derive(Debug, Clone)]
struct Layer<K: Gpu> {
    /// `[out, in]`.
    weight: Tensor<K, 2>,
    /// `[rank, in]`, of the weight's type.
    a: Tensor<K, 2>,
    /// `[out, rank]`, likewise.
    b: Tensor<K, 2>,
    scale: f32,
    keep: Option<Keep>,
}

#[derive(Debug, Clone)]
struct AdaptedState<K: Gpu> {
    layer: Layer<K>,
    /// The adapter's input, `[rows, in]`.
    dropped: Tensor<K, 2>,
    /// What it makes of it, scaled, `[rows, rank]`.
    low: Tensor<K, 2>,
}

impl<K: Gpu> Layer<K> {
    /// The output; the adapter's input; what lies between its two products.
    fn forward(
        &self,
        input: CubeTensor<K::Runtime>,
        bias: Option<CubeTensor<K::Runtime>>,
    ) -> (CubeTensor<K::Runtime>, Tensor<K, 2>, Tensor<K, 2>) {
        let dropped = wrap(match self.keep {
            Some(keep) => drop_some::<K>(input.clone(), keep),
            None => input.clone(),
        });
        let scaled = Finish {
            scale: self.scale,
            ..Finish::default()
        };
        let low = own(&dropped, &self.a.clone().transpose(), &scaled);
        let biased = Finish {
            bias,
            ..Finish::default()
        };
        let output = own(&wrap(input), &self.weight.clone().transpose(), &biased);
        let output = add_product(output, &low, &self.b.clone().transpose(), None);
        (unwrap(output), dropped, low)
    }
}

/// A product by the device's own kernel, of the operands' type.
fn own<K: Gpu>(
    left: &Tensor<K, 2>,
    right: &Tensor<K, 2>,
    finish: &Finish<K::Runtime>,
) -> Tensor<K, 2> {
    finished_product(left, right, left.dtype(), finish).expect("these operands were looked at")
}

/// A product added to what is there; of the product, some may be dropped.
fn add_product<K: Gpu>(
    to: Tensor<K, 2>,
    left: &Tensor<K, 2>,
    right: &Tensor<K, 2>,
    keep: Option<Keep>,
) -> Tensor<K, 2> {
    let finish = Finish {
        keep,
        onto: true,
        ..Finish::default()
    };
    let to = unwrap(to);
    let [left, right] = [left, right].map(|operand| unwrap(operand.clone()));
    assert!(
        K::multiply(&left, &right, &to, &finish),
        "these operands were looked at"
    );
    wrap(to)
}

#[derive(Debug)]
struct AdaptedStep;

impl<K: Gpu> Backward<K, 3> for AdaptedStep {
    type State = AdaptedState<K>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        // It may come turned or spread out.
        let gradient = wrap::<K, 2>(into_contiguous(grads.consume::<K>(&ops.node)));
        let [input, a, b] = ops.parents;
        let AdaptedState {
            layer,
            dropped,
            low,
        } = ops.state;
        let scaled = Finish {
            scale: layer.scale,
            ..Finish::default()
        };
        // Of what `A` makes of the input, before it was scaled.
        let of_low = own(&gradient, &layer.b, &scaled);
        if let Some(node) = a {
            let of_a = weight_gradient::<K>(of_low.clone(), dropped, DType::F32);
            grads.register::<K>(node.id, of_a);
        }
        if let Some(node) = b {
            let of_b = weight_gradient::<K>(gradient.clone(), low, DType::F32);
            grads.register::<K>(node.id, of_b);
        }
        if let Some(node) = input {
            let of_input = own(&gradient, &layer.weight, &Finish::default());
            let of_input = add_product(of_input, &of_low, &layer.a, layer.keep);
            grads.register::<K>(node.id, unwrap(of_input));
        }
    }
}
