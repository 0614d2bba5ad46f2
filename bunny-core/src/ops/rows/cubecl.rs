//! Rows picked from others, and rows of a table.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{Int, Tensor, TensorData},
};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use crate::ops::{
    autodiff::{Tracked, record},
    gpu::{
        Gpu,
        launch::{elementwise, empty, rows},
    },
};

/// [`pick_rows`](super::pick_rows).
pub fn pick_rows<K: Gpu>(
    source: CubeTensor<K::Runtime>,
    from: &[Option<u32>],
) -> CubeTensor<K::Runtime> {
    let rows = source.meta.shape()[0];
    let all_there = from.iter().flatten().all(|row| (*row as usize) < rows);
    assert!(all_there, "rows are picked that are not there");
    let ids = from
        .iter()
        .map(|from| from.map_or(NOWHERE, |row| row as i32));
    let ids = upload::<K>(ids.collect(), &source.device);
    pick(source, ids)
}

/// [`pick_rows`] where gradients are kept. No row being picked twice, the way back picks too, and no
/// two threads add to the same number.
pub fn pick_rows_tracked<K: Gpu>(source: &Tracked<K>, from: &[Option<u32>]) -> Tracked<K> {
    let output = pick_rows::<K>(source.primitive.clone(), from);
    let inverse = || {
        let mut inverse = vec![NOWHERE; source.primitive.meta.shape()[0]];
        for (to, from) in from.iter().enumerate() {
            if let Some(from) = from {
                inverse[*from as usize] = to as i32;
            }
        }
        upload::<K>(inverse, &source.primitive.device)
    };
    record::<K, _, 1>(PickStep.prepare([source.node.clone()]), inverse, output)
}

/// No row at all: zeros.
const NOWHERE: i32 = -1;

/// Numbers of rows on the device.
pub fn upload<K: Gpu>(ids: Vec<i32>, device: &K::Device) -> CubeTensor<K::Runtime> {
    let count = ids.len();
    Tensor::<K, 1, Int>::from_data(TensorData::new(ids, [count]), device).into_primitive()
}

#[derive(Debug)]
struct PickStep;

impl<K: Gpu> Backward<K, 1> for PickStep {
    type State = CubeTensor<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        grads.register::<K>(node.id, pick(gradient, ops.state));
    }
}

/// Rows of `source` by number.
fn pick<R: CubeRuntime>(source: CubeTensor<R>, ids: CubeTensor<R>) -> CubeTensor<R> {
    let dtype = source.dtype;
    let source = rows(source);
    let width = source.width;
    let picked = ids.meta.num_elements();
    let output = empty(&source.tensor, [picked, width], dtype);
    let (cubes, threads) = elementwise(picked * width);
    // SAFETY: no thread writes beyond the picked rows, and numbers are those of rows.
    unsafe {
        pick_kernel::launch_unchecked::<R>(
            &output.client,
            cubes,
            threads,
            source.tensor.into_array_arg(),
            ids.into_array_arg(),
            output.clone().into_array_arg(),
            picked * width,
            width,
            source.stride,
            dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked)]
fn pick_kernel<F: Float>(
    source: &Array<F>,
    ids: &Array<i32>,
    output: &mut Array<F>,
    count: usize,
    width: usize,
    stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let id = ids[at / width];
    let mut value = F::new(0.0);
    if id >= 0 {
        value = source[usize::cast_from(id) * stride + at % width];
    }
    output[at] = value;
}

/// [`token_rows`](super::token_rows).
pub fn token_rows<K: Gpu>(table: CubeTensor<K::Runtime>, ids: &[i32]) -> CubeTensor<K::Runtime> {
    let ids = token_ids::<K>(&table, ids);
    pick(table, ids)
}

/// [`token_rows`] where gradients are kept. On the way back each row of the table looks for its
/// places: nothing is added to by two threads, so that sums come out the same each time.
pub fn token_rows_tracked<K: Gpu>(table: &Tracked<K>, ids: &[i32]) -> Tracked<K> {
    let ids = token_ids::<K>(&table.primitive, ids);
    let output = pick(table.primitive.clone(), ids.clone());
    let state = || (ids, table.primitive.meta.shape()[0]);
    record::<K, _, 1>(TokenStep.prepare([table.node.clone()]), state, output)
}

/// Numbers of rows of `table` on its device.
fn token_ids<K: Gpu>(table: &CubeTensor<K::Runtime>, ids: &[i32]) -> CubeTensor<K::Runtime> {
    let rows = table.meta.shape()[0] as i32;
    let all_there = ids.iter().all(|id| (0..rows).contains(id));
    assert!(all_there, "ids are not those of the table's rows");
    upload::<K>(ids.to_vec(), &table.device)
}

#[derive(Debug)]
struct TokenStep;

impl<K: Gpu> Backward<K, 1> for TokenStep {
    type State = (CubeTensor<K::Runtime>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let (ids, vocab) = ops.state;
        grads.register::<K>(node.id, gather_by_token(gradient, ids, vocab));
    }
}

/// The sum of the rows of each token.
fn gather_by_token<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    ids: CubeTensor<R>,
    vocab: usize,
) -> CubeTensor<R> {
    let dtype = gradient.dtype;
    let gradient = rows(gradient);
    let width = gradient.width;
    let output = empty(&gradient.tensor, [vocab, width], dtype);
    let (cubes, threads) = elementwise(vocab * width);
    // SAFETY: no thread writes beyond the table, and all read within the gradient.
    unsafe {
        gather_by_token_kernel::launch_unchecked::<R>(
            &output.client,
            cubes,
            threads,
            gradient.tensor.into_array_arg(),
            ids.into_array_arg(),
            output.clone().into_array_arg(),
            vocab * width,
            gradient.count,
            width,
            gradient.stride,
            dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked)]
fn gather_by_token_kernel<F: Float>(
    gradient: &Array<F>,
    ids: &Array<i32>,
    output: &mut Array<F>,
    count: usize,
    places: usize,
    width: usize,
    stride: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let token = i32::cast_from(at / width);
    let column = at % width;
    let mut sum = 0.0f32;
    for place in 0..places {
        if ids[place] == token {
            sum += f32::cast_from(gradient[place * stride + column]);
        }
    }
    output[at] = F::cast_from(sum);
}
