//! Products in tiles of 64 by 64 results: those of adapters, which have few columns, and of towers, few
//! rows. The usual tiles, of up to 512 by 128, would keep few of a device's processors busy with them.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, cubecl::ir::AddressType, tensor::CubeTensor};
use cubek::{
    matmul::{
        components::{stage::PartitionBuffering, tile::TileMatmulKind},
        definition::{MatmulGlobalElems, MatmulProblem, TilingBlueprint, TilingScheme},
        launch::Strategy,
        routines::BlueprintStrategy,
    },
    std::{PartitionSize, StageSize, TileSize},
};

/// Sides of what a tensor core multiplies at once.
const CORE: u32 = 16;
/// Of these, in a row and in a column of a small tile.
const SIDE: u32 = 4;
/// Of these, along the sum at a time: 16 KiB of shared memory.
const DEEP: u32 = 4;

/// Rows and columns of the tiles that cubek takes.
const USUAL: [usize; 2] = [128, 128];
/// The same where one side is four times the other, whichever.
const USUAL_LONG: [usize; 2] = [512, 128];
/// Tiles that there have to be for each processor of a device.
const TILES_A_PROCESSOR: usize = 2;
/// Processors of a device that does not tell.
const PROCESSORS: usize = 64;

/// Whether the usual tiles of a product are fewer than keep the device busy.
pub fn keeps_too_few_busy<R: CubeRuntime>(output: &CubeTensor<R>) -> bool {
    let shape = output.meta.shape();
    let [rows, columns] = [2, 1].map(|back| shape[shape.num_dims() - back]);
    let matrices = shape.num_elements() / (rows * columns).max(1);
    let is_long = rows >= 4 * columns || columns >= 4 * rows;
    let tile = if is_long { USUAL_LONG } else { USUAL };
    let tiles = matrices * rows.div_ceil(tile[0]) * columns.div_ceil(tile[1]);
    let hardware = &output.client.properties().hardware;
    let processors = hardware
        .num_streaming_multiprocessors
        .map_or(PROCESSORS, |count| count as usize);
    tiles < TILES_A_PROCESSOR * processors
}

/// Small tiles, a plane for each row of tensor cores' products; `None` where tensor cores do not take
/// the numbers as they are.
pub fn small_tiles<R: CubeRuntime>(
    left: &CubeTensor<R>,
    right: &CubeTensor<R>,
    output: &CubeTensor<R>,
) -> Option<Strategy> {
    if !matches!(left.dtype, DType::F16 | DType::BF16) {
        return None;
    }
    let scheme = TilingScheme::builder()
        .with_tile_size(TileSize::new(CORE, CORE, CORE))
        .with_partition_size(PartitionSize::new(1, SIDE, DEEP))
        .with_stage_size(StageSize::new(SIDE, 1, 1))
        .build()
        .ok()?;
    let problem = MatmulProblem::from_shapes_and_strides(
        left.meta.shape().clone(),
        right.meta.shape().clone(),
        output.meta.shape().clone(),
        left.meta.strides().clone(),
        right.meta.strides().clone(),
        output.meta.strides().clone(),
        MatmulGlobalElems {
            lhs: left.dtype.into(),
            rhs: right.dtype.into(),
            out: output.dtype.into(),
        },
        AddressType::default(),
        None,
        None,
    )
    .ok()?;
    let plane = output.client.properties().hardware.plane_size_max;
    let tiles = TilingBlueprint::builder(TileMatmulKind::Cmma, scheme, plane, &problem)
        .partition_buffering(PartitionBuffering::Single)
        .build();
    Some(Strategy::SimpleCyclicCmma(BlueprintStrategy::Forced(tiles)))
}
