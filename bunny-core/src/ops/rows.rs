//! Rows picked from others, and rows of a table.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod cubecl;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::place::on_gpu;

/// Rows of `source` by number, none of them twice; zeros where there is no number.
///
/// # Shapes
/// `[rows, channels]` → `[picked, channels]`
pub fn pick_rows<B: Backend>(source: Tensor<B, 2>, from: &[Option<u32>]) -> Tensor<B, 2> {
    on_gpu!(B;
        plain<K> => raise(cubecl::pick_rows::<K>(lower(source), from)),
        autodiff<K> => raise(cubecl::pick_rows_tracked::<K>(&lower(source), from)),
        else => plain_pick_rows(source, from),
    )
}

/// [`pick_rows`] in burn's operations.
pub fn plain_pick_rows<B: Backend>(source: Tensor<B, 2>, from: &[Option<u32>]) -> Tensor<B, 2> {
    let [rows, channels] = source.dims();
    let (dtype, device) = (source.dtype(), source.device());
    let ids: Vec<i32> = from
        .iter()
        .map(|row| row.map_or(rows as i32, |row| row as i32))
        .collect();
    let count = ids.len();
    let ids = Tensor::from_data(TensorData::new(ids, [count]), &device);
    let source = match from.contains(&None) {
        true => Tensor::cat(
            vec![source, Tensor::zeros([1, channels], (&device, dtype))],
            0,
        ),
        false => source,
    };
    source.select(0, ids)
}

/// Rows of a table by number, as often as they are named.
///
/// # Shapes
/// `[vocab, channels]` → `[ids, channels]`
pub fn token_rows<B: Backend>(table: Tensor<B, 2>, ids: &[i32]) -> Tensor<B, 2> {
    on_gpu!(B;
        plain<K> => raise(cubecl::token_rows::<K>(lower(table), ids)),
        autodiff<K> => raise(cubecl::token_rows_tracked::<K>(&lower(table), ids)),
        else => plain_token_rows(table, ids),
    )
}

/// [`token_rows`] in burn's operations.
pub fn plain_token_rows<B: Backend>(table: Tensor<B, 2>, ids: &[i32]) -> Tensor<B, 2> {
    let ids = TensorData::new(ids.to_vec(), [ids.len()]);
    let ids: Tensor<B, 1, Int> = Tensor::from_data(ids, &table.device());
    table.select(0, ids)
}
