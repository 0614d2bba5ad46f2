//! Attention whose scores never leave the processor.

use burn::tensor::DType;
use burn_cubecl::cubecl::{cuda::CudaRuntime, server::TensorMapMeta};

use super::{
    ALIGNED, BLOCK, Layout, Matrix,
    kernel::{ALIGNMENT, Left, THREADS, Variant, instruction},
    launch, serves,
};
use crate::ops::{
    attention::cubecl::softmax::{Reach, Sight},
    gpu::launch::empty,
};

/// Rows that stay in shared memory.
const HELD_ROWS: usize = 128;
/// The widest heads that fit there.
const MOST_CHANNELS: usize = 128;

/// One kernel of the family; attention.cu says what each part means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attention {
    part: Part,
    channels: usize,
    sight: Sight,
    half: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Forward,
    Common,
    KeysBack,
    QueriesBack,
}

impl Part {
    /// Rows that come by at a time.
    const fn step(self) -> usize {
        match self {
            Part::Forward => 128,
            Part::Common | Part::KeysBack | Part::QueriesBack => 64,
        }
    }
}

impl Variant for Attention {
    const NAME: &'static str = "hopper_attention";
    const TEXT: &'static str = include_str!("attention.cu");

    fn constants(&self) -> Vec<(&'static str, u32)> {
        let sight = match self.sight {
            Sight::Full => 0,
            Sight::Causal => 1,
            Sight::CausalFrom => 2,
            Sight::Segments => 3,
        };
        vec![
            ("PART", self.part as u32),
            ("CHANNELS", self.channels as u32),
            ("STEP", self.part.step() as u32),
            ("SIGHT", sight),
            ("HALF", self.half.into()),
        ]
    }

    fn instructions(&self) -> String {
        let rows = Left::Shared { turned: false };
        let meet = instruction("meet", self.part.step(), self.half, rows, false);
        meet + &instruction("gather", self.channels, self.half, Left::Registers, true)
    }

    fn shared_bytes(&self) -> usize {
        let row = self.channels.div_ceil(BLOCK) * BLOCK * 2;
        let (held, stages) = match self.part {
            Part::Forward => (1, 2),
            Part::Common => return 0,
            Part::KeysBack | Part::QueriesBack => (2, 3),
        };
        row * (held * HELD_ROWS + stages * 2 * self.part.step()) + ALIGNMENT
    }
}

/// One attention: `[batch, heads, q, channels]` looks at `[batch, kv_heads, kv, channels]`.
#[derive(Clone, Copy)]
struct Call<'a> {
    query: &'a Matrix,
    key: &'a Matrix,
    value: &'a Matrix,
    reach: &'a Reach<CudaRuntime>,
    scale: f32,
}

impl Call<'_> {
    fn serves(&self) -> bool {
        let all = [self.query, self.key, self.value];
        let dtype = self.query.dtype;
        let [heads, queries, channels] = [1, 2, 3].map(|dim| self.query.meta.shape()[dim]);
        let [kv_heads, keys] = [1, 2].map(|dim| self.key.meta.shape()[dim]);
        let of_all = [0, 3].map(|dim| self.query.meta.shape()[dim]);
        assert_eq!(of_all, [0, 3].map(|dim| self.key.meta.shape()[dim]));
        assert_eq!(self.key.meta.shape(), self.value.meta.shape());
        serves(dtype, &self.query.device)
            && all
                .iter()
                .all(|one| one.dtype == dtype && rows_of(one, BLOCK).is_some())
            && channels.is_multiple_of(ALIGNED)
            && channels <= MOST_CHANNELS
            && heads.is_multiple_of(kv_heads)
            && queries <= keys
    }

    fn part(&self, part: Part) -> Attention {
        Attention {
            part,
            channels: self.query.meta.shape()[3],
            sight: self.reach.sight,
            half: self.query.dtype == DType::F16,
        }
    }

    /// Room for the queries of a head.
    fn room(&self) -> usize {
        self.query.meta.shape()[2].next_multiple_of(HELD_ROWS)
    }

    /// What a kernel is told of the shapes, and of up to two tensors of rows beside those it has maps
    /// of.
    fn numbers(&self, one: &Matrix, other: Option<&Matrix>) -> Vec<u64> {
        let [heads, queries] = [1, 2].map(|dim| self.query.meta.shape()[dim]);
        let [kv_heads, keys] = [1, 2].map(|dim| self.key.meta.shape()[dim]);
        let shape = [
            queries,
            keys,
            heads,
            heads / kv_heads,
            keys - queries,
            self.room(),
        ];
        let steps = |rows: &Matrix| [2, 1, 0].map(|dim| rows.meta.strides()[dim] as u64);
        let mut numbers = shape.map(|value| value as u64).to_vec();
        numbers.push(self.scale.to_bits().into());
        numbers.extend(steps(one));
        numbers.extend(other.map_or([0; 3], steps));
        numbers
    }
}

/// How the copy engine finds `high` rows of a head at a time.
fn rows_of(tensor: &Matrix, high: usize) -> Option<TensorMapMeta> {
    Layout::new(tensor)?.map(3, 2, high)
}

/// Room for rows of heads, `[batch, heads, rows, channels]`, that lie as projections take them: those of
/// all heads side by side.
fn rows_like(tensor: &Matrix) -> Matrix {
    let [batch, heads, rows, channels] = [0, 1, 2, 3].map(|dim| tensor.meta.shape()[dim]);
    let mut output = empty(tensor, [batch, rows, heads, channels], tensor.dtype);
    output.meta.swap(1, 2);
    output
}

/// What each query sees, `[batch, heads, q, channels]`, rows of all heads side by side, and the
/// logarithms of its shares' sums, to the base of two; `None` where heads are too wide or lie so that
/// the copy engine cannot fetch them.
pub fn attend(
    [query, key, value]: [&Matrix; 3],
    reach: &Reach<CudaRuntime>,
    scale: f32,
) -> Option<[Matrix; 2]> {
    let call = Call {
        query,
        key,
        value,
        reach,
        scale,
    };
    if !call.serves() {
        return None;
    }
    let [batch, heads] = [0, 1].map(|dim| query.meta.shape()[dim]);
    reach.assert_fits(batch, key.meta.shape()[2]);
    let output = rows_like(query);
    let logs = empty(query, [batch, heads, call.room()], DType::F32);
    let part = call.part(Part::Forward);
    let step = part.part.step();
    let maps = vec![
        (query, rows_of(query, HELD_ROWS)?),
        (key, rows_of(key, step)?),
        (value, rows_of(value, step)?),
    ];
    let cubes = [call.room() / HELD_ROWS, heads, batch];
    let buffers = [&output.handle, &logs.handle, &reach.bounds.handle];
    let numbers = call.numbers(&output, None);
    // SAFETY: the kernel reads what the maps describe, which the copy engine bounds, and the mask of
    // these rows; it writes rows of queries and a logarithm for each in the room there is.
    unsafe { launch(&query.client, part, cubes, maps, &buffers, numbers) };
    Some([output, logs])
}

/// Gradients of queries, keys and values, given what [`attend`] gave and the gradient of the first of
/// it, `[batch, heads, q, channels]`.
pub fn attend_backward(
    [query, key, value]: [&Matrix; 3],
    reach: &Reach<CudaRuntime>,
    scale: f32,
    [output, logs]: [&Matrix; 2],
    gradient: &Matrix,
) -> Option<[Matrix; 3]> {
    let call = Call {
        query,
        key,
        value,
        reach,
        scale,
    };
    assert_eq!(gradient.meta.shape(), query.meta.shape());
    let [batch, heads] = [0, 1].map(|dim| query.meta.shape()[dim]);
    let [kv_heads, keys] = [1, 2].map(|dim| key.meta.shape()[dim]);
    let client = &query.client;
    let common = empty(query, [batch, heads, call.room()], DType::F32);
    let warps = THREADS as usize / 32;
    let cubes = [call.room().div_ceil(warps), heads, batch];
    let buffers = [&output.handle, &gradient.handle, &common.handle];
    let numbers = call.numbers(output, Some(gradient));
    let part = call.part(Part::Common);
    // SAFETY: a warp reads a row of each and writes one number into the room there is.
    unsafe { launch(client, part, cubes, Vec::new(), &buffers, numbers) };

    let [of_queries, of_keys, of_values] = [query, key, value].map(rows_like);
    let part = call.part(Part::KeysBack);
    let step = part.part.step();
    let maps = vec![
        (query, rows_of(query, step)?),
        (key, rows_of(key, HELD_ROWS)?),
        (value, rows_of(value, HELD_ROWS)?),
        (gradient, rows_of(gradient, step)?),
    ];
    let cubes = [keys.div_ceil(HELD_ROWS), kv_heads, batch];
    let buffers = [
        &of_keys.handle,
        &of_values.handle,
        &logs.handle,
        &common.handle,
        &reach.bounds.handle,
    ];
    let numbers = call.numbers(&of_keys, None);
    // SAFETY: as forward; keys' and values' gradients lie alike.
    unsafe { launch(client, part, cubes, maps, &buffers, numbers) };

    let part = call.part(Part::QueriesBack);
    let maps = vec![
        (query, rows_of(query, HELD_ROWS)?),
        (key, rows_of(key, step)?),
        (value, rows_of(value, step)?),
        (gradient, rows_of(gradient, HELD_ROWS)?),
    ];
    let cubes = [call.room() / HELD_ROWS, heads, batch];
    let buffers = [
        &of_queries.handle,
        &logs.handle,
        &common.handle,
        &reach.bounds.handle,
    ];
    let numbers = call.numbers(&of_queries, None);
    // SAFETY: as forward.
    unsafe { launch(client, part, cubes, maps, &buffers, numbers) };
    Some([of_queries, of_keys, of_values])
}
