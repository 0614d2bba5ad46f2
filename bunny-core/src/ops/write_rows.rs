//! Rows written into a cache of keys or values.

use burn::tensor::{Tensor, backend::Backend};

use super::place::Place;

/// Writes `rows` into a cache from row `from` on; in place where nobody else holds the cache.
///
/// # Shapes
/// `[batch, heads, room, head_dim]`, `[batch, heads, rows, head_dim]`
pub fn write_rows<B: Backend>(
    cache: Tensor<B, 4>,
    rows: Tensor<B, 4>,
    from: usize,
) -> Tensor<B, 4> {
    match Place::of::<B>() {
        #[cfg(feature = "flex")]
        Place::Flex if flex::takes([cache.dtype(), rows.dtype()]) => {
            use super::place::{lower, raise};
            raise(flex::write_rows(lower(cache), lower(rows), from))
        }
        _ => plain(cache, rows, from),
    }
}

/// [`write_rows`] in burn's operations.
pub fn plain<B: Backend>(cache: Tensor<B, 4>, rows: Tensor<B, 4>, from: usize) -> Tensor<B, 4> {
    let [batch, heads, count, width] = rows.dims();
    cache.slice_assign([0..batch, 0..heads, from..from + count, 0..width], rows)
}

#[cfg(feature = "flex")]
mod flex {
    //! burn-flex's own `slice_assign` copies the whole tensor first: it holds it twice itself.

    use bunny_kernels::AttentionView;
    use burn::tensor::DType;
    use burn_flex::FlexTensor;

    use crate::ops::flex::{dims, heads, whole_rows};

    pub fn takes(types: [DType; 2]) -> bool {
        types == [DType::F32; 2]
    }

    pub fn write_rows(mut cache: FlexTensor, rows: FlexTensor, from: usize) -> FlexTensor {
        let [batch, heads_each, room, width] = dims(&cache);
        let [_, _, count, _] = dims(&rows);
        if cache.layout().start_offset() != 0 || !cache.is_contiguous() {
            cache = cache.to_contiguous();
        }
        let rows = whole_rows(rows);
        let AttentionView { data, strides } = heads(&rows);
        let into = cache.storage_mut::<f32>();
        let all = (0..batch).flat_map(|batch| (0..heads_each).map(move |head| (batch, head)));
        for (batch, head) in all {
            let first = ((batch * heads_each + head) * room + from) * width;
            let into = into[first..][..count * width].chunks_exact_mut(width);
            for (row, into) in into.enumerate() {
                let place = batch * strides.batch + head * strides.head + row * strides.row;
                into.copy_from_slice(&data[place..][..width]);
            }
        }
        cache
    }
}
