//! Sequences in blocks against attention written out in double precision, and against themselves in
//! other company.

use super::*;
use crate::simd::testing::at_every_level;
use crate::testing::{assert_close, noise};

/// What numbers are kept in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F32,
    F16,
    Bf16,
    Int8,
}

/// Sequences of some lengths, with queries at their ends.
struct Case {
    shape: CachedShape,
    /// Of each sequence, its positions and its queries.
    lens: Vec<(usize, usize)>,
    kind: Kind,
}

/// Blocks in memory.
enum Blocks {
    F32(Vec<Vec<f32>>),
    F16(Vec<Vec<f16>>),
    Bf16(Vec<Vec<bf16>>),
    Int8(Vec<Vec<i8>>),
}

/// Blocks of keys and of values in turn, as pairs.
fn pairs<E>(all: &[Vec<E>]) -> Vec<[&[E]; 2]> {
    let pairs = all.chunks(2);
    pairs.map(|two| [&two[0][..], &two[1][..]]).collect()
}

impl Case {
    fn new(heads: (usize, usize), head_dim: usize, lens: &[(usize, usize)], kind: Kind) -> Self {
        Self {
            shape: CachedShape {
                query_heads: heads.0,
                kv_heads: heads.1,
                head_dim,
                positions: 128,
            },
            lens: lens.to_vec(),
            kind,
        }
    }

    /// The keys, or the values, of a sequence, `[positions, kv_heads, head_dim]`: numbers that each kind
    /// of float holds exactly.
    fn drawn(&self, sequence: usize, which: usize) -> Vec<f32> {
        let (len, _) = self.lens[sequence];
        let count = len * self.shape.kv_heads * self.shape.head_dim;
        let numbers = noise(count, (2 * sequence + which) as u64 + 10);
        let rounded = |x: &f32| match self.kind {
            // Halfway between two steps either is the nearest: such numbers are not drawn.
            Kind::Int8 => 2.0 * x,
            _ => (x * 64.0).round() / 32.0,
        };
        numbers.iter().map(rounded).collect()
    }

    /// The same as they are kept: in eight bits, the nearest of the steps whose 127th is a row's greatest.
    fn rows(&self, sequence: usize, which: usize) -> Vec<f32> {
        let mut rows = self.drawn(sequence, which);
        if self.kind == Kind::Int8 {
            for row in rows.chunks_exact_mut(self.shape.head_dim) {
                let greatest = row.iter().map(|x| x.abs()).max_by(f32::total_cmp).unwrap();
                let step = greatest / 127.0;
                for x in row {
                    let kept = (*x / step).round_ties_even() * step;
                    // The nearest, but for the rounding of the quotient.
                    assert!((*x - kept).abs() <= (0.5 + 1e-5) * step);
                    *x = kept;
                }
            }
        }
        rows
    }

    /// The queries of a sequence, `[queries, query_heads, head_dim]`.
    fn queries(&self, sequence: usize) -> Vec<f32> {
        let (_, queries) = self.lens[sequence];
        let numbers = noise(
            queries * self.shape.query_heads * self.shape.head_dim,
            sequence as u64 + 1000,
        );
        numbers.iter().map(|x| x * 2.0).collect()
    }

    /// Writes all rows to blocks, some at a time, and gives what the queries of the sequences `of` see.
    fn run(&self, of: &[usize], decodes: bool) -> Vec<Vec<f32>> {
        let CachedShape {
            query_heads,
            kv_heads,
            head_dim,
            positions,
        } = self.shape;
        let room = kv_heads * positions * head_dim;
        let room_int8 = kv_heads * positions * CachedShape::row_bytes(head_dim);
        let wanted: Vec<usize> = of
            .iter()
            .map(|at| self.lens[*at].0.div_ceil(positions))
            .collect();
        let count = 2 * wanted.iter().sum::<usize>();
        // What was never written must not be read.
        let mut blocks = match self.kind {
            Kind::F32 => Blocks::F32(vec![vec![f32::NAN; room]; count]),
            Kind::F16 => Blocks::F16(vec![vec![f16::NAN; room]; count]),
            Kind::Bf16 => Blocks::Bf16(vec![vec![bf16::NAN; room]; count]),
            // Scales of such bytes are no numbers.
            Kind::Int8 => Blocks::Int8(vec![vec![-1; room_int8]; count]),
        };
        let (mut sequences, mut q) = (Vec::new(), Vec::new());
        let (mut first_block, mut first_row) = (0, 0);
        for (at, wanted) in of.iter().zip(&wanted) {
            let (len, queries) = self.lens[*at];
            for which in [0, 1] {
                let rows = self.drawn(*at, which);
                let view = AttentionView {
                    data: &rows,
                    strides: AttentionStrides::rows_first(kv_heads, len, head_dim),
                };
                let mut row = 0;
                while row < len {
                    let within = row % positions;
                    let some = (positions - within).min(len - row).min(37);
                    let block = 2 * (first_block + row / positions) + which;
                    let to = match &mut blocks {
                        Blocks::F32(all) => CachedBlockMut::F32(&mut all[block]),
                        Blocks::F16(all) => CachedBlockMut::F16(&mut all[block]),
                        Blocks::Bf16(all) => CachedBlockMut::Bf16(&mut all[block]),
                        Blocks::Int8(all) => CachedBlockMut::Int8(&mut all[block]),
                    };
                    keep_rows(to, view, (row, some), within, self.shape);
                    row += some;
                }
            }
            sequences.push(CachedSequence {
                first_block,
                len,
                first_row,
                queries,
            });
            q.extend(self.queries(*at));
            first_block += wanted;
            first_row += queries;
        }
        let q = AttentionView {
            data: &q,
            strides: AttentionStrides::rows_first(query_heads, first_row, head_dim),
        };
        let mut out = vec![f32::NAN; first_row * query_heads * head_dim];
        let scale = 1.0 / (head_dim as f32).sqrt();
        let attend = if decodes {
            decode_attention
        } else {
            prefill_attention
        };
        let mut see = |blocks: CachedBlocks<'_>| {
            attend(q, blocks, &sequences, &mut out, self.shape, scale);
            let sequences = sequences.iter();
            let all = sequences.map(|sequence| gather_heads(blocks, *sequence, self.shape));
            all.collect::<Vec<_>>()
        };
        let gathered = match &blocks {
            Blocks::F32(all) => see(CachedBlocks::F32(&pairs(all))),
            Blocks::F16(all) => see(CachedBlocks::F16(&pairs(all))),
            Blocks::Bf16(all) => see(CachedBlocks::Bf16(&pairs(all))),
            Blocks::Int8(all) => see(CachedBlocks::Int8(&pairs(all))),
        };
        for (at, gathered) in of.iter().zip(gathered) {
            for (which, gathered) in gathered.into_iter().enumerate() {
                assert_eq!(gathered, self.heads_first(*at, which));
            }
        }
        sequences
            .iter()
            .map(|sequence| {
                let width = query_heads * head_dim;
                let from = sequence.first_row * width;
                out[from..from + sequence.queries * width].to_vec()
            })
            .collect()
    }

    /// The keys, or the values, of a sequence, `[kv_heads, positions, head_dim]`.
    fn heads_first(&self, sequence: usize, which: usize) -> Vec<f32> {
        let CachedShape {
            kv_heads, head_dim, ..
        } = self.shape;
        let rows = self.rows(sequence, which);
        let row = |head: usize, at: usize| &rows[(at * kv_heads + head) * head_dim..][..head_dim];
        (0..kv_heads)
            .flat_map(|head| (0..self.lens[sequence].0).map(move |at| (head, at)))
            .flat_map(|(head, at)| row(head, at).iter().copied())
            .collect()
    }

    /// What a sequence's queries see, by the definition.
    fn expected(&self, sequence: usize) -> Vec<f64> {
        let CachedShape {
            query_heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (len, queries) = self.lens[sequence];
        let [q, k, v] = [
            self.queries(sequence),
            self.heads_first(sequence, 0),
            self.heads_first(sequence, 1),
        ];
        let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut out = Vec::new();
        for (i, h) in (0..queries).flat_map(|i| (0..query_heads).map(move |h| (i, h))) {
            let kv = h / (query_heads / kv_heads);
            let q = wide(&q[(i * query_heads + h) * head_dim..][..head_dim]);
            let row = |of: &[f32], j: usize| wide(&of[(kv * len + j) * head_dim..][..head_dim]);
            let weights: Vec<f64> = (0..=len - queries + i)
                .map(|j| {
                    let dot: f64 = q.iter().zip(row(&k, j)).map(|(q, k)| q * k).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            let mut seen = vec![0.0; head_dim];
            for (j, weight) in weights.iter().enumerate() {
                for (seen, v) in seen.iter_mut().zip(row(&v, j)) {
                    *seen += weight / sum * v;
                }
            }
            out.extend(seen);
        }
        out
    }
}

/// Heads, lengths and widths with every kind of tail, in every kind of number.
fn cases() -> Vec<(Case, bool)> {
    let mut cases = Vec::new();
    for kind in [Kind::F32, Kind::F16, Kind::Bf16, Kind::Int8] {
        let single: Vec<(usize, usize)> = [1, 5, 128, 129, 255, 256, 257, 600]
            .map(|len| (len, 1))
            .to_vec();
        for (heads, head_dim) in [
            ((2, 2), 80),
            ((4, 2), 40),
            ((3, 1), 17),
            ((1, 1), 3),
            ((2, 1), 128),
        ] {
            cases.push((Case::new(heads, head_dim, &single, kind), true));
            let many = [(1, 1), (4, 3), (130, 130), (300, 1), (290, 60), (129, 2)];
            cases.push((Case::new(heads, head_dim, &many, kind), false));
        }
    }
    cases
}

#[test]
fn sequences_in_blocks_see_what_the_definition_says() {
    at_every_level(2, || {
        for (case, decodes) in cases() {
            let all: Vec<usize> = (0..case.lens.len()).collect();
            for (sequence, seen) in case.run(&all, decodes).iter().enumerate() {
                let place = format!("{:?} {:?} {:?}", case.shape, case.kind, case.lens[sequence]);
                assert_close(seen, &case.expected(sequence), 2e-5, &place);
            }
        }
    });
}

#[test]
fn what_a_sequence_sees_hangs_on_no_other_and_on_no_number_of_threads() {
    let run = |threads, apart: bool| {
        at_every_level(threads, || {
            let seen = cases().into_iter().flat_map(|(case, decodes)| {
                let all: Vec<usize> = (0..case.lens.len()).collect();
                match apart {
                    false => case.run(&all, decodes),
                    true => all
                        .chunks(1)
                        .flat_map(|one| case.run(one, decodes))
                        .collect(),
                }
            });
            seen.collect::<Vec<_>>()
        })
    };
    let together = run(1, false);
    assert_eq!(together, run(3, false));
    assert_eq!(together, run(2, true));
}

#[test]
fn a_prompt_sees_the_same_bits_in_any_chunks_as_without_a_cache() {
    at_every_level(2, || {
        let (len, heads, d) = (290, (4, 2), 40);
        let whole = Case::new(heads, d, &[(len, len)], Kind::F32);
        let queries = whole.queries(0);
        let (k, v) = (whole.heads_first(0, 0), whole.heads_first(0, 1));
        let mut uncached = vec![f32::NAN; queries.len()];
        let view = |data, strides| AttentionView { data, strides };
        let strides = AttentionStrides::heads_first(heads.1, len, d);
        super::super::attention(
            view(&queries, AttentionStrides::rows_first(heads.0, len, d)),
            view(&k, strides),
            view(&v, strides),
            &mut uncached,
            AttentionStrides::rows_first(heads.0, len, d),
            AttentionShape {
                batch: 1,
                query_heads: heads.0,
                kv_heads: heads.1,
                query_len: len,
                kv_len: len,
                head_dim: d,
            },
            1.0 / (d as f32).sqrt(),
            AttentionMask::Causal { starts: None },
            false,
            None,
        );
        assert_eq!(whole.run(&[0], false)[0], uncached);
        // Rows of sequences as long as each chunk makes them: the queries are those of the whole.
        let row = heads.0 * d;
        for (first, count) in [(0, 1), (1, 60), (61, 127), (188, 102)] {
            let part = Part {
                whole: &whole,
                first,
                count,
            };
            let expected = &uncached[first * row..(first + count) * row];
            assert_eq!(part.run(), expected, "{count} from {first}");
        }
    });
}

/// Some of the queries of a case of one sequence.
struct Part<'a> {
    whole: &'a Case,
    first: usize,
    count: usize,
}

impl Part<'_> {
    fn run(&self) -> Vec<f32> {
        let shape = self.whole.shape;
        let CachedShape {
            query_heads,
            kv_heads,
            head_dim,
            positions,
        } = shape;
        let len = self.first + self.count;
        let row = query_heads * head_dim;
        let blocks: Vec<[Vec<f32>; 2]> = (0..len.div_ceil(positions))
            .map(|block| {
                [0, 1].map(|which| {
                    let rows = self.whole.rows(0, which);
                    let view = AttentionView {
                        data: &rows,
                        strides: AttentionStrides::rows_first(kv_heads, len, head_dim),
                    };
                    let mut numbers = vec![f32::NAN; kv_heads * positions * head_dim];
                    let count = positions.min(len - block * positions);
                    let to = CachedBlockMut::F32(&mut numbers);
                    keep_rows(to, view, (block * positions, count), 0, shape);
                    numbers
                })
            })
            .collect();
        let pairs: Vec<[&[f32]; 2]> = blocks.iter().map(|[k, v]| [&k[..], &v[..]]).collect();
        let queries = self.whole.queries(0);
        let mut out = vec![f32::NAN; self.count * row];
        prefill_attention(
            AttentionView {
                data: &queries[self.first * row..len * row],
                strides: AttentionStrides::rows_first(query_heads, self.count, head_dim),
            },
            CachedBlocks::F32(&pairs),
            &[CachedSequence {
                first_block: 0,
                len,
                first_row: 0,
                queries: self.count,
            }],
            &mut out,
            shape,
            1.0 / (head_dim as f32).sqrt(),
        );
        out
    }
}
