//! Products of matrices.

use burn::tensor::DType;
use burn_cubecl::cubecl::cuda::CudaRuntime;

use super::{
    BLOCK, Layout, Matrix,
    kernel::{ALIGNMENT, Left, Variant, instruction},
    launch, serves,
};
use crate::ops::gpu::product::Finish;

/// Below it, tiles are mostly empty.
const FEWEST_ROWS: usize = 16;
/// Rows of results that a tile has.
const ROWS: usize = 128;
/// What a tile of few columns takes, more than its share of one with many.
const FEW_COLUMNS_COST: f64 = 1.08;

/// One kernel of the family; product.cu says what each part means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Product {
    columns: Columns,
    left_turned: bool,
    right_turned: bool,
    wide: bool,
    half: bool,
    biased: bool,
    kept: bool,
    onto: bool,
}

/// How many columns of results a tile has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Columns {
    Few,
    Many,
}

impl Columns {
    const fn count(self) -> usize {
        match self {
            Columns::Few => 128,
            Columns::Many => 256,
        }
    }

    /// Blocks in flight: what 196 KiB of shared memory hold.
    const fn stages(self) -> usize {
        match self {
            Columns::Few => 6,
            Columns::Many => 4,
        }
    }
}

impl Variant for Product {
    const NAME: &'static str = "hopper_product";
    const TEXT: &'static str = include_str!("product.cu");

    fn constants(&self) -> Vec<(&'static str, u32)> {
        let [first, second] = bunny_base::random::MIX32;
        vec![
            ("COLUMNS", self.columns.count() as u32),
            ("STAGES", self.columns.stages() as u32),
            ("LEFT_TURNED", self.left_turned.into()),
            ("RIGHT_TURNED", self.right_turned.into()),
            ("WIDE", self.wide.into()),
            ("HALF", self.half.into()),
            ("BIASED", self.biased.into()),
            ("KEPT", self.kept.into()),
            ("ONTO", self.onto.into()),
            ("MIX_FIRST", first),
            ("MIX_SECOND", second),
        ]
    }

    fn instructions(&self) -> String {
        let left = Left::Shared {
            turned: self.left_turned,
        };
        instruction(
            "multiply",
            self.columns.count(),
            self.half,
            left,
            self.right_turned,
        )
    }

    fn shared_bytes(&self) -> usize {
        self.columns.stages() * (ROWS + self.columns.count()) * BLOCK * 2 + ALIGNMENT
    }
}

/// Launches the product into `output`, or says that it does not serve operands that lie so.
///
/// # Shapes
/// `[..., m, k]`, `[..., k, n]` → `[..., m, n]`, of at most four dimensions; results of the operands'
/// type or f32, rows of them side by side
pub fn product(
    left: &Matrix,
    right: &Matrix,
    output: &Matrix,
    finish: &Finish<CudaRuntime>,
) -> bool {
    let dtype = left.dtype;
    let wide = output.dtype == DType::F32;
    let typed = right.dtype == dtype
        && (wide || output.dtype == dtype)
        && finish.bias.iter().all(|bias| bias.dtype == dtype);
    if !typed || !serves(dtype, &left.device) {
        return false;
    }
    let (Some(l), Some(r), Some(o)) = (Layout::new(left), Layout::new(right), Layout::new(output))
    else {
        return false;
    };
    let [major, minor, rows, depth] = l.shape;
    let columns = r.shape[3];
    assert_eq!(r.shape[..3], [major, minor, depth], "the operands fit");
    assert_eq!(o.shape, [major, minor, rows, columns], "the results fit");
    let mut biases = finish.bias.iter().map(|bias| bias.meta.num_elements());
    assert!(biases.all(|count| count == columns), "a bias a column");
    if rows < FEWEST_ROWS || o.strides[3] != 1 || !o.aligned {
        return false;
    }
    let hardware = &left.client.properties().hardware;
    let processors = hardware.num_streaming_multiprocessors.unwrap_or(1) as usize;
    let matrices = major * minor;
    let (tile, tiles) = tiles(matrices, rows, columns, processors);
    let fetched = |operand: &Layout, depth: usize, side: usize, high: usize| {
        let whole = operand.map(depth, side, high).map(|map| (map, false));
        whole.or_else(|| Some((operand.map(side, depth, BLOCK)?, true)))
    };
    let (Some((left_map, left_turned)), Some((right_map, right_turned))) =
        (fetched(&l, 3, 2, ROWS), fetched(&r, 2, 3, tile.count()))
    else {
        return false;
    };
    let variant = Product {
        columns: tile,
        left_turned,
        right_turned,
        wide,
        half: dtype == DType::F16,
        biased: finish.bias.is_some(),
        kept: finish.keep.is_some(),
        onto: finish.onto,
    };
    let keep_scale = finish.keep.map_or(1.0, |keep| keep.scale);
    let [key, second_key] = finish.keep.map_or([0; 2], |keep| keep.keys);
    let bound = finish.keep.map_or(0, |keep| keep.bound);
    let [to_major, to_minor, to_row, _] = o.strides;
    let numbers = [
        rows, columns, depth, matrices, minor, to_row, to_major, to_minor,
    ];
    let numbers = numbers.map(|value| value as u64).into_iter().chain(
        [
            finish.scale.to_bits(),
            keep_scale.to_bits(),
            key,
            second_key,
            bound,
        ]
        .map(u64::from),
    );
    let maps = vec![(left, left_map), (right, right_map)];
    let mut buffers = vec![&output.handle];
    buffers.extend(finish.bias.iter().map(|bias| &bias.handle));
    let cubes = [tiles.min(processors), 1, 1];
    // SAFETY: the kernel reads what the maps describe, which the copy engine bounds, and a bias of as
    // many numbers as there are columns; it writes the elements of an output of these sides.
    unsafe {
        launch(
            &left.client,
            variant,
            cubes,
            maps,
            &buffers,
            numbers.collect(),
        )
    };
    true
}

/// The tile with which all processors are done first, and how many of it there are.
fn tiles(matrices: usize, rows: usize, columns: usize, processors: usize) -> (Columns, usize) {
    let count = |tile: Columns| matrices * rows.div_ceil(ROWS) * columns.div_ceil(tile.count());
    let rounds = |tile| count(tile).div_ceil(processors) as f64;
    let tile = match rounds(Columns::Few) * FEW_COLUMNS_COST < 2.0 * rounds(Columns::Many) {
        true => Columns::Few,
        false => Columns::Many,
    };
    (tile, count(tile))
}
