//! Products of matrices: which of CubeK's kernels computes them.
//!
//! On Hopper, products of 16-bit numbers go to a kernel of this crate. Elsewhere they are CubeK's: burn
//! compiles and tries some twenty-five kernels for every new kind of product, which takes minutes
//! before a model's first step. Here a product that takes no time to speak of is computed by the one
//! that serves most, in tiles that keep the device busy, and a large one by the best of eight.

mod small_tiles;

use burn::tensor::{DType, Tensor};
use burn_cubecl::{
    CubeRuntime, CubeTuneId,
    cubecl::{
        std::tensor::{MatrixBatchLayout, matrix_batch_layout},
        tune::{LocalTuner, Tunable, TunableSet, TuneGroup, local_tuner},
    },
    kernel::into_contiguous,
    tensor::CubeTensor,
};
use cubek::{
    matmul::{
        components::tile::TileMatmulKind,
        definition::{MatmulElems, MatmulGlobalElems},
        launch::{MatmulAutotuneKey, Strategy, launch_ref},
        routines::{
            BlueprintStrategy, double_buffering::DoubleBufferingArgs,
            ordered_double_buffering::OrderedSelectionArgs, simple::SimpleArgs,
        },
    },
    std::InputBinding,
};

use self::small_tiles::{keeps_too_few_busy, small_tiles};
use super::{Gpu, launch::empty};
use crate::ops::{
    autodiff::{unwrap, wrap},
    dropout::Keep,
    linear::Factors,
};

/// Operations from which on it is worth while to try several kernels.
const LARGE: f64 = 2e10;

/// What becomes of a product's sums before they are stored.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "cuda"),
    allow(dead_code, reason = "CUDA's own kernels read it")
)]
pub struct Finish<R: CubeRuntime> {
    /// First they are multiplied with this.
    pub scale: f32,
    /// Then it is added to each row.
    pub bias: Option<CubeTensor<R>>,
    /// Then some are dropped.
    pub keep: Option<Keep>,
    /// Then they are added to what is there.
    pub onto: bool,
}

impl<R: CubeRuntime> Default for Finish<R> {
    fn default() -> Self {
        Self {
            scale: 1.0,
            bias: None,
            keep: None,
            onto: false,
        }
    }
}

/// [`product`], with a bias added to each row.
///
/// # Shapes
/// `[m, k]`, `[k, n]`, `[n]` → `[m, n]`, of the operands' type
pub fn biased_product<K: Gpu>(
    left: Tensor<K, 2>,
    right: Tensor<K, 2>,
    bias: CubeTensor<K::Runtime>,
    factors: Factors,
) -> Tensor<K, 2> {
    let dtype = left.dtype();
    let finish = Finish {
        bias: Some(bias.clone()),
        ..Finish::default()
    };
    match finished_product(&left, &right, dtype, &finish) {
        Some(output) => output,
        None => product(left, right, factors, dtype) + wrap::<K, 1>(bias).unsqueeze(),
    }
}

/// A product by the kernel that finishes it on the way, where there is one for it.
///
/// # Shapes
/// `[m, k]`, `[k, n]` → `[m, n]`, of type `dtype`
pub fn finished_product<K: Gpu>(
    left: &Tensor<K, 2>,
    right: &Tensor<K, 2>,
    dtype: DType,
    finish: &Finish<K::Runtime>,
) -> Option<Tensor<K, 2>> {
    let shape = [left.dims()[0], right.dims()[1]];
    let [left, right] = [left, right].map(|operand| unwrap(operand.clone()));
    let output = empty(&left, shape, dtype);
    K::multiply(&left, &right, &output, finish).then(|| wrap(output))
}

/// The product of two tensors of one type; whatever dimensions come before are the same.
///
/// # Shapes
/// `[..., m, k]`, `[..., k, n]` → `[..., m, n]`, of type `dtype`
pub fn product<K: Gpu, const D: usize>(
    left: Tensor<K, D>,
    right: Tensor<K, D>,
    factors: Factors,
    dtype: DType,
) -> Tensor<K, D> {
    let mut shape = left.dims();
    let (rows, inner, columns) = (shape[D - 2], shape[D - 1], right.dims()[D - 1]);
    shape[D - 1] = columns;
    let operations = 2.0 * (inner * shape.iter().product::<usize>()) as f64;
    let [left, right] = [left, right].map(unwrap::<K, D>);
    let output = empty(&left, shape, dtype);
    if K::multiply(&left, &right, &output, &Finish::default()) {
        return wrap(output);
    }
    let [left, right] = [left, right].map(gathered);
    let exact = factors == Factors::Exact && left.dtype == DType::F32;
    if rows == 1 || columns == 1 {
        // A matrix and a vector: none of these rounds.
        let strategies = [
            Strategy::GemvPlaneParallel(Default::default()),
            Strategy::SimpleVecMat(Default::default()),
        ];
        first_of(&strategies, left, right, output.clone());
    } else if exact {
        first_of(
            &[Strategy::SimpleUnit(Default::default())],
            left,
            right,
            output.clone(),
        );
    } else if operations < LARGE {
        // By tensor cores where the device has them for these types.
        let small = keeps_too_few_busy(&output)
            .then(|| small_tiles(&left, &right, &output))
            .flatten();
        let usual = [
            Strategy::SimpleCyclicCmma(Default::default()),
            Strategy::SimpleUnit(Default::default()),
        ];
        let strategies: Vec<_> = small.into_iter().chain(usual).collect();
        first_of(&strategies, left, right, output.clone());
    } else {
        fastest(left, right, output.clone());
    }
    wrap(output)
}

/// An operand whose matrices lie row by row or column by column, one after another; copied where they
/// do not, as each kernel would do for itself.
fn gathered<R: CubeRuntime>(operand: CubeTensor<R>) -> CubeTensor<R> {
    match matrix_batch_layout(operand.meta.strides(), None) {
        MatrixBatchLayout::HighlyPermuted => into_contiguous(operand),
        MatrixBatchLayout::Contiguous | MatrixBatchLayout::MildlyPermuted { .. } => operand,
    }
}

/// By the first kernel that takes it, and by the naive one if none does.
fn first_of<R: CubeRuntime>(
    strategies: &[Strategy],
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    output: CubeTensor<R>,
) {
    let launched = strategies
        .iter()
        .chain([&Strategy::Naive])
        .any(|strategy| launch(strategy, left.clone(), right.clone(), output.clone()).is_ok());
    assert!(launched, "the naive kernel multiplies everything");
}

fn launch<R: CubeRuntime>(
    strategy: &Strategy,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    output: CubeTensor<R>,
) -> Result<(), String> {
    let client = output.client.clone();
    let dtype = left.dtype;
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: dtype.into(),
        rhs: dtype.into(),
        out: output.dtype.into(),
    });
    let [left, right] = [left, right].map(|one| InputBinding::new(one.binding(), dtype.into()));
    launch_ref(strategy, &client, left, right, output.binding(), &mut types)
        .map_err(|error| format!("{error:?}"))
}

type Operands<R> = (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>);

/// By the kernel that was fastest when such a product came first.
fn fastest<R: CubeRuntime>(left: CubeTensor<R>, right: CubeTensor<R>, output: CubeTensor<R>) {
    static TUNER: LocalTuner<MatmulAutotuneKey, CubeTuneId> = local_tuner!();
    let tunables = TUNER.init(|| {
        // What always works is not tried where anything else does.
        let resort = TuneGroup::<MatmulAutotuneKey>::new("resort", |_| 0);
        let accelerated = TuneGroup::<MatmulAutotuneKey>::new("accelerated", |_| 1);
        let simple = |multi_rows| {
            BlueprintStrategy::Inferred(SimpleArgs {
                multi_rows,
                tile_matmul: TileMatmulKind::Mma,
            })
        };
        let double = DoubleBufferingArgs {
            specialized: false,
            tile_matmul: TileMatmulKind::Mma,
        };
        let ordered = BlueprintStrategy::Inferred(OrderedSelectionArgs {
            tile_matmul: TileMatmulKind::Mma,
            ..Default::default()
        });
        let candidates = [
            (Strategy::SimpleUnit(Default::default()), &resort),
            (Strategy::SimpleCyclicCmma(Default::default()), &accelerated),
            (Strategy::SimpleTmaMma(simple(true)), &accelerated),
            (
                Strategy::SpecializedTmaMma(BlueprintStrategy::Inferred(().into())),
                &accelerated,
            ),
            (
                Strategy::DoubleCyclicMma(BlueprintStrategy::Inferred(double)),
                &accelerated,
            ),
            (
                Strategy::DoubleTmaMma(BlueprintStrategy::Inferred(double)),
                &accelerated,
            ),
            (Strategy::OrderedDoubleMma(ordered), &accelerated),
        ];
        let mut set = TunableSet::new(key::<R>, |_: &MatmulAutotuneKey, operands: &Operands<R>| {
            (operands.0.clone(), operands.1.clone(), operands.2.copy())
        });
        for (strategy, group) in candidates {
            let name = strategy.to_string();
            let run = move |(left, right, output)| launch::<R>(&strategy, left, right, output);
            set = set.with(Tunable::new(&name, run).group(group, |_| 0));
        }
        let small = |(left, right, output): Operands<R>| {
            let strategy = small_tiles(&left, &right, &output).ok_or("no such tiles")?;
            launch::<R>(&strategy, left, right, output)
        };
        // Kernels that fetch blocks by themselves take larger ones of a right operand that lies column
        // by column; turning it takes little beside a product with many rows.
        let turned = |(left, right, output): Operands<R>| {
            let by_column = BlueprintStrategy::Inferred(().into());
            let right = turned(right).ok_or("lies so already")?;
            launch::<R>(&Strategy::SpecializedTmaMma(by_column), left, right, output)
        };
        set.with(Tunable::new("small_tiles", small).group(&accelerated, |_| 0))
            .with(Tunable::new("turned", turned).group(&accelerated, |_| 0))
    });
    let client = left.client.clone();
    let id = CubeTuneId::new(&client, &left.device);
    TUNER.execute(&id, &client, tunables, (left, right, output));
}

/// A matrix that lies row by row, copied so that it lies column by column.
fn turned<R: CubeRuntime>(mut matrix: CubeTensor<R>) -> Option<CubeTensor<R>> {
    let rank = matrix.meta.shape().num_dims();
    if rank != 2 || matrix.meta.strides()[rank - 1] != 1 {
        return None;
    }
    matrix.meta.swap(0, 1);
    let mut turned = into_contiguous(matrix);
    turned.meta.swap(0, 1);
    Some(turned)
}

fn key<R: CubeRuntime>((left, right, output): &Operands<R>) -> MatmulAutotuneKey {
    MatmulAutotuneKey::generate(
        &left.client,
        left.meta.shape(),
        right.meta.shape(),
        left.meta.strides(),
        right.meta.strides(),
        left.dtype.into(),
        right.dtype.into(),
        output.dtype.into(),
        None,
        None,
    )
}
