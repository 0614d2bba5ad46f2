//! Where the words of a panel lie.

/// `[n, words]` to a panel `[words, N]`: the first words of all vectors, then the second, and so on.
/// What is missing to `N` vectors is zero.
///
/// ```text
/// vector  0 1 2        panel of 3, two words a vector
///         a c e    →   a c e b d f
///         b d f
/// ```
pub(super) fn interleave<const N: usize>(vectors: &[u32], words: usize, panel: &mut [u32]) {
    // Words of a vector at a time: a line of the first cache.
    const BLOCK: usize = 16;
    let (panel, _) = panel.as_chunks_mut::<N>();
    if vectors.len() < N * words {
        panel.as_flattened_mut().fill(0);
    }
    for (block, panel) in panel.chunks_mut(BLOCK).enumerate() {
        for (i, vector) in vectors.chunks_exact(words).enumerate() {
            let words = &vector[block * BLOCK..][..panel.len()];
            for (to, from) in panel.iter_mut().zip(words) {
                to[i] = *from;
            }
        }
    }
}

/// `[n, words]` to a panel of squares, `[row / 16, word / 16, 16, 16]`, as tile registers take them.
/// What is missing to 32 rows is zero.
#[cfg(target_arch = "x86_64")]
pub(super) fn squares(rows: &[u32], words: usize, panel: &mut [u32]) {
    use crate::amx::{SIDE, SQUARE};
    if rows.len() < panel.len() {
        panel.fill(0);
    }
    for (half, rows) in panel
        .chunks_mut(words * SIDE)
        .zip(rows.chunks(words * SIDE))
    {
        for (i, row) in rows.chunks(words).enumerate() {
            for (square, words) in half.chunks_mut(SQUARE).zip(row.chunks(SIDE)) {
                square[i * SIDE..][..SIDE].copy_from_slice(words);
            }
        }
    }
}
