//! Attention to no more than the last positions that were read, from a cache.
//!
//! ```text
//! positions        0 1 2 3 4 5 6
//! row 2, window 4  1 1 1                 sees all before it: as without a window
//! row 6, window 4        . . . 1 1 1 1   by burn's operations
//! ```
//!
//! Few sequences grow beyond a window (2,047 positions in Phi-3), so no kernel is made for them; rows
//! that it hides nothing from are read as ever.

use burn::tensor::{Tensor, backend::Backend};

use super::{KvPass, LayerCache, cached_attention, keep_rows, kv_cache::Span, whole};
use crate::ops::{AttentionMask, Mask, Operands, Phase, attention};

/// [`cached_attention`], where a row sees no more than `window` positions, its own included.
///
/// # Shapes
/// As [`cached_attention`]'s.
pub fn windowed_attention<B: Backend>(
    heads: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    window: usize,
    phase: Phase,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    let is_short = |span: &Span| span.past + span.count <= window;
    if pass.spans().iter().all(is_short) {
        return cached_attention(heads, layer, pass, phase, scale, operands);
    }
    let (mut outputs, mut row) = (Vec::new(), 0);
    for span in pass.spans() {
        let near = window.saturating_sub(span.past).min(span.count);
        for (first, count) in [(0, near), (near, span.count - near)] {
            if count == 0 {
                continue;
            }
            let rows = heads.clone().map(|all| all.narrow(2, row, count));
            let part = pass.of(part(pass, span, first, count));
            outputs.push(match first + count <= near {
                true => cached_attention(rows, layer, &part, phase, scale, operands),
                false => far(rows, layer, &part, window, scale, operands),
            });
            row += count;
        }
    }
    match outputs.len() {
        1 => outputs.remove(0),
        _ => Tensor::cat(outputs, 1),
    }
}

/// `count` rows of a sequence's part, from its `first` on.
fn part<B: Backend>(pass: &KvPass<B>, span: &Span, first: usize, count: usize) -> Span {
    let past = span.past + first;
    let blocks = (past + count).div_ceil(pass.blocks().positions);
    Span {
        table: span.table[..blocks].to_vec(),
        past,
        count,
    }
}

/// What the rows of one sequence see that stand further on than the window reaches back.
fn far<B: Backend>(
    [query, key, value]: [Tensor<B, 4>; 3],
    layer: &mut LayerCache<B>,
    pass: &KvPass<B>,
    window: usize,
    scale: f64,
    operands: Operands,
) -> Tensor<B, 3> {
    keep_rows(layer, pass, [&key, &value]);
    let span = &pass.spans()[0];
    // Blocks of which the first row sees nothing, and so no other.
    let positions = pass.blocks().positions;
    let passed = (span.past + 1).saturating_sub(window) / positions;
    let seen = Span {
        table: span.table[passed..].to_vec(),
        past: span.past - passed * positions,
        count: span.count,
    };
    let [key, value] = whole(layer, &seen, query.dtype());
    let keys = seen.past + seen.count;
    let mask = AttentionMask::new(Mask::CAUSAL, 1, seen.count, keys, &query.device());
    attention(
        query,
        key,
        value,
        &mask.within(Some(window)),
        scale,
        operands,
    )
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, TensorData};
    use burn_flex::Flex;

    use super::*;
    use crate::ops::{KvCache, KvSequence, kv_blocks};

    const HEADS: usize = 2;
    const WIDTH: usize = 17;
    const WINDOW: usize = 150;
    /// Rows of each pass.
    const PASSES: [(usize, Phase); 5] = [
        (100, Phase::Prefill),
        (300, Phase::Prefill),
        (1, Phase::Decode),
        (40, Phase::Prefill),
        (1, Phase::Decode),
    ];
    const SCALE: f64 = 0.005;

    /// A number of the queries, keys or values: keys and values are whole, up to 127, which every row has,
    /// so that eight bits hold them as they are.
    fn number(part: usize, head: usize, position: usize, column: usize) -> f32 {
        let number = match column {
            0 => 127.0,
            _ => ((31 * part + 7 * head + 13 * position + 5 * column) % 255) as f32 - 127.0,
        };
        if part == 0 { number / 127.0 } else { number }
    }

    fn rows(part: usize, first: usize, count: usize) -> Tensor<Flex, 4> {
        let numbers = (0..HEADS).flat_map(|head| {
            (first..first + count).flat_map(move |position| {
                (0..WIDTH).map(move |column| number(part, head, position, column))
            })
        });
        let data = TensorData::new(numbers.collect::<Vec<_>>(), [1, HEADS, count, WIDTH]);
        Tensor::from_data(data, &Default::default())
    }

    /// What all rows see, pass after pass, by a cache of numbers of one type.
    fn seen(dtype: DType) -> Vec<f32> {
        let blocks = kv_blocks::<Flex>();
        let mut cache = KvCache::<Flex>::new(1, HEADS, WIDTH, dtype, blocks, &Default::default());
        let mut sequence = KvSequence::new();
        let mut all = Vec::new();
        for (count, phase) in PASSES {
            cache.reserve(&mut sequence, count);
            let pass = cache.pass([(&sequence, count)]);
            let heads = [0, 1, 2].map(|part| rows(part, sequence.len(), count));
            let layer = &mut cache.layers_mut()[0];
            let output =
                windowed_attention(heads, layer, &pass, WINDOW, phase, SCALE, Operands::F32);
            all.extend(output.into_data().iter::<f32>());
            sequence.advance(count);
        }
        all
    }

    /// What a position sees in a head, by the definition.
    fn expected(position: usize, head: usize) -> [f64; WIDTH] {
        let mut sum = 0.0;
        let mut values = [0.0; WIDTH];
        for key in (position + 1).saturating_sub(WINDOW)..=position {
            let products = (0..WIDTH).map(|column| {
                let [query, key] = [
                    number(0, head, position, column),
                    number(1, head, key, column),
                ];
                f64::from(query) * f64::from(key)
            });
            let weight = (SCALE * products.sum::<f64>()).exp();
            sum += weight;
            for (column, value) in values.iter_mut().enumerate() {
                *value += weight * f64::from(number(2, head, key, column));
            }
        }
        values.map(|value| value / sum)
    }

    #[test]
    fn rows_see_the_last_positions_whatever_the_cache_holds_them_in() {
        let positions: usize = PASSES.iter().map(|(count, _)| count).sum();
        for dtype in [DType::F32, DType::F16, DType::I8] {
            let seen = seen(dtype);
            assert_eq!(seen.len(), positions * HEADS * WIDTH);
            for (at, row) in seen.chunks_exact(WIDTH).enumerate() {
                let (position, head) = (at / HEADS, at % HEADS);
                for (found, right) in row.iter().zip(expected(position, head)) {
                    // A score of up to 10.8 is off by some 10.8 · 2⁻²², and what is summed by 127 times it.
                    let off = (f64::from(*found) - right).abs();
                    assert!(
                        off < 1e-3,
                        "{dtype:?}, {position}: {found} instead of {right}"
                    );
                }
            }
        }
    }
}
