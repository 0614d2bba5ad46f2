//! The kernels against attention written out in double precision.

use super::*;
use crate::simd::testing::at_every_level;
use crate::testing::{assert_close, noise};

/// Queries, keys and values in a layout of their choice, and what attention makes of them.
struct Case {
    shape: AttentionShape,
    scale: f32,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    q_strides: AttentionStrides,
    k_strides: AttentionStrides,
    v_strides: AttentionStrides,
    out_strides: AttentionStrides,
}

impl Case {
    /// Queries and result as projections leave them, keys in a cache with room to spare, values heads first.
    fn new(batch: usize, heads: (usize, usize), lens: (usize, usize), head_dim: usize) -> Self {
        let shape = AttentionShape {
            batch,
            query_heads: heads.0,
            kv_heads: heads.1,
            query_len: lens.0,
            kv_len: lens.1,
            head_dim,
        };
        let capacity = shape.kv_len + 3;
        let filled = |n, seed| noise(n, seed).iter().map(|x| x * 2.0).collect();
        Self {
            shape,
            scale: 1.0 / (head_dim as f32).sqrt(),
            q: filled(batch * lens.0 * heads.0 * head_dim, 1),
            k: filled(batch * heads.1 * capacity * head_dim, 2),
            v: filled(batch * heads.1 * lens.1 * head_dim, 3),
            q_strides: AttentionStrides::rows_first(heads.0, lens.0, head_dim),
            k_strides: AttentionStrides::heads_first(heads.1, capacity, head_dim),
            v_strides: AttentionStrides::heads_first(heads.1, lens.1, head_dim),
            out_strides: AttentionStrides::rows_first(heads.0, lens.0, head_dim),
        }
    }

    fn run(&self, mask: AttentionMask<'_>) -> (Vec<f32>, Vec<f32>) {
        self.run_at(mask, false)
    }

    fn run_at(&self, mask: AttentionMask<'_>, rounds: bool) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![f32::NAN; self.q.len()];
        let mut lse =
            vec![f32::NAN; self.shape.batch * self.shape.query_heads * self.shape.query_len];
        attention(
            AttentionView {
                data: &self.q,
                strides: self.q_strides,
            },
            AttentionView {
                data: &self.k,
                strides: self.k_strides,
            },
            AttentionView {
                data: &self.v,
                strides: self.v_strides,
            },
            &mut out,
            self.out_strides,
            self.shape,
            self.scale,
            mask,
            rounds,
            Some(&mut lse),
        );
        (out, lse)
    }

    /// The gradients of queries, keys and values, given what [`run`](Self::run) made and the gradient
    /// of its result.
    fn gradients(
        &self,
        (out, lse): &(Vec<f32>, Vec<f32>),
        dout: &[f32],
        mask: AttentionMask<'_>,
        rounds: bool,
    ) -> [Vec<f32>; 3] {
        let shape = self.shape;
        let kv = shape.kv_heads * shape.kv_len;
        let [mut dq, mut dk, mut dv] = [shape.query_heads * shape.query_len, kv, kv]
            .map(|rows| vec![f32::NAN; shape.batch * rows * shape.head_dim]);
        let view = |data, strides| AttentionView { data, strides };
        AttentionGradient {
            q: view(&self.q, self.q_strides),
            k: view(&self.k, self.k_strides),
            v: view(&self.v, self.v_strides),
            out: view(out, self.out_strides),
            lse,
            dout: view(dout, self.out_strides),
            shape,
            scale: self.scale,
            mask,
            rounds,
        }
        .compute(&mut dq, &mut dk, &mut dv);
        [dq, dk, dv]
    }

    /// The result and lse by the definition; `sees(batch, query, key)`.
    fn expected(&self, sees: impl Fn(usize, usize, usize) -> bool) -> (Vec<f64>, Vec<f64>) {
        let AttentionShape {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = self.shape;
        let mut out = vec![0.0; self.q.len()];
        let mut lse = Vec::new();
        for (b, h) in (0..batch).flat_map(|b| (0..query_heads).map(move |h| (b, h))) {
            let kv = h / (query_heads / kv_heads);
            for i in 0..query_len {
                let q = &self.q[self.q_strides.at(b, h, i)..][..head_dim];
                let weights: Vec<f64> = (0..kv_len)
                    .map(|j| {
                        let k = &self.k[self.k_strides.at(b, kv, j)..][..head_dim];
                        let dot: f64 = q
                            .iter()
                            .zip(k)
                            .map(|(q, k)| f64::from(*q) * f64::from(*k))
                            .sum();
                        if sees(b, i, j) {
                            (dot * f64::from(self.scale)).exp()
                        } else {
                            0.0
                        }
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                lse.push(if sum == 0.0 { f64::INFINITY } else { sum.ln() });
                for (j, weight) in weights
                    .iter()
                    .enumerate()
                    .filter(|(_, weight)| **weight > 0.0)
                {
                    for p in 0..head_dim {
                        out[self.out_strides.at(b, h, i) + p] +=
                            weight / sum * f64::from(self.v[self.v_strides.at(b, kv, j) + p]);
                    }
                }
            }
        }
        (out, lse)
    }

    fn check(&self, mask: AttentionMask<'_>, sees: impl Fn(usize, usize, usize) -> bool) {
        let (out, lse) = self.run(mask);
        let (expected, expected_lse) = self.expected(sees);
        // Scores of up to some 30 carry 30 * 2^-24 into the exponent.
        assert_close(&out, &expected, 1e-5, &format!("{:?}", self.shape));
        for (lse, expected) in lse.iter().zip(expected_lse) {
            assert!(
                f64::from(*lse) == expected || (f64::from(*lse) - expected).abs() < 1e-5,
                "{lse} {expected}"
            );
        }
    }

    /// The gradients of queries, keys and values by the definition, each with the sum of the sizes of what
    /// it is the sum of; `[batch, rows, heads, head_dim]`.
    fn expected_gradients(
        &self,
        dout: &[f32],
        sees: impl Fn(usize, usize, usize) -> bool,
    ) -> [Vec<(f64, f64)>; 3] {
        let AttentionShape {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = self.shape;
        let (out, lse) = self.expected(&sees);
        let row = |data: &[f32], at: usize| -> Vec<f64> {
            data[at..][..head_dim]
                .iter()
                .map(|x| f64::from(*x))
                .collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let scale = f64::from(self.scale);
        let mut gradients = [
            query_heads * query_len,
            kv_heads * kv_len,
            kv_heads * kv_len,
        ]
        .map(|rows| vec![(0.0, 0.0); batch * rows * head_dim]);
        let mut add = |which: usize,
                       heads: usize,
                       rows: usize,
                       [b, head, at]: [usize; 3],
                       weight: f64,
                       of: &[f64]| {
            let first = ((b * rows + at) * heads + head) * head_dim;
            for (sum, of) in gradients[which][first..].iter_mut().zip(of) {
                *sum = (sum.0 + weight * of, sum.1 + (weight * of).abs());
            }
        };
        for (b, h) in (0..batch).flat_map(|b| (0..query_heads).map(move |h| (b, h))) {
            let kv = h / (query_heads / kv_heads);
            for i in 0..query_len {
                let q = row(&self.q, self.q_strides.at(b, h, i));
                let at = self.out_strides.at(b, h, i);
                let dout = row(dout, at);
                let share = dot(&out[at..][..head_dim], &dout);
                let lse = lse[(b * query_heads + h) * query_len + i];
                for j in (0..kv_len).filter(|j| sees(b, i, *j)) {
                    let k = row(&self.k, self.k_strides.at(b, kv, j));
                    let v = row(&self.v, self.v_strides.at(b, kv, j));
                    let weight = (dot(&q, &k) * scale - lse).exp();
                    let slope = weight * (dot(&dout, &v) - share) * scale;
                    add(0, query_heads, query_len, [b, h, i], slope, &k);
                    add(1, kv_heads, kv_len, [b, kv, j], slope, &q);
                    add(2, kv_heads, kv_len, [b, kv, j], weight, &dout);
                }
            }
        }
        gradients
    }
}

/// Heads, lengths and dimensions with every kind of tail.
fn cases() -> Vec<Case> {
    vec![
        Case::new(1, (1, 1), (1, 1), 8),
        Case::new(2, (2, 2), (5, 5), 3),
        Case::new(1, (4, 2), (17, 30), 64),
        Case::new(2, (3, 1), (49, 49), 72),
        Case::new(1, (2, 2), (100, 300), 80),
        Case::new(1, (1, 1), (130, 140), 96),
        Case::new(1, (2, 1), (33, 257), 128),
        Case::new(1, (1, 1), (7, 20), 17),
        Case::new(2, (4, 2), (1, 700), 80),
        Case::new(1, (2, 2), (1, 256), 72),
        Case::new(1, (2, 2), (1, 3), 100),
    ]
}

#[test]
fn attention_without_a_mask_equals_its_definition() {
    at_every_level(2, || {
        cases()
            .iter()
            .for_each(|case| case.check(AttentionMask::None, |_, _, _| true))
    });
}

#[test]
fn causal_queries_see_the_keys_up_to_their_position() {
    at_every_level(2, || {
        for case in cases() {
            let before = case.shape.kv_len - case.shape.query_len;
            case.check(AttentionMask::Causal { starts: None }, |_, i, j| {
                j <= before + i
            });
        }
    });
}

#[test]
fn padded_keys_are_hidden_and_padded_queries_give_zeros() {
    at_every_level(2, || {
        for case in cases() {
            let AttentionShape {
                batch,
                query_len,
                kv_len,
                ..
            } = case.shape;
            let starts: Vec<usize> = (0..batch).map(|b| [kv_len / 2, kv_len][b % 2]).collect();
            let sees = |b: usize, i: usize, j: usize| j <= kv_len - query_len + i && j >= starts[b];
            case.check(
                AttentionMask::Causal {
                    starts: Some(&starts),
                },
                sees,
            );
        }
    });
}

#[test]
fn packed_segments_do_not_see_each_other() {
    at_every_level(2, || {
        for case in cases() {
            let AttentionShape {
                batch,
                query_len,
                kv_len,
                ..
            } = case.shape;
            let ids: Vec<u32> = (0..batch * kv_len)
                .map(|i| (i / 3 * 2 / 13) as u32)
                .collect();
            let sees = |b: usize, i: usize, j: usize| {
                let at = kv_len - query_len + i;
                j <= at && ids[b * kv_len + j] == ids[b * kv_len + at]
            };
            case.check(AttentionMask::Segments(&ids), sees);
        }
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads| {
        at_every_level(threads, || {
            let outs: Vec<_> = cases()
                .iter()
                .map(|case| case.run(AttentionMask::Causal { starts: None }).0)
                .collect();
            outs
        })
    };
    assert_eq!(run(1), run(5));
}

#[test]
fn great_scores_do_not_overflow() {
    at_every_level(1, || {
        for lens in [(20, 40), (1, 40)] {
            let mut case = Case::new(1, (1, 1), lens, 64);
            case.scale = 30.0;
            let (out, _) = case.run(AttentionMask::None);
            assert!(out.iter().all(|x| x.abs() <= 2.0));
        }
    });
}

#[test]
fn gradients_agree_with_finite_differences_of_the_definition() {
    at_every_level(2, || {
        for (heads, lens, head_dim) in [
            ((1, 1), (1, 1), 3),
            ((2, 1), (6, 9), 8),
            ((2, 2), (11, 11), 17),
            ((4, 2), (60, 140), 5),
        ] {
            let mut case = Case::new(2, heads, lens, head_dim);
            let AttentionShape {
                query_heads,
                query_len,
                kv_len,
                ..
            } = case.shape;
            let starts = [1, kv_len - query_len + 2];
            let mask = AttentionMask::Causal {
                starts: Some(&starts),
            };
            let sees = |b: usize, i: usize, j: usize| j <= kv_len - query_len + i && j >= starts[b];
            let made = case.run(mask);
            let dout = noise(made.0.len(), 4);
            let [dq, dk, dv] = case.gradients(&made, &dout, mask, false);
            let loss = |case: &Case| -> f64 {
                case.expected(sees)
                    .0
                    .iter()
                    .zip(&dout)
                    .map(|(o, dout)| o * f64::from(*dout))
                    .sum()
            };
            type Input = fn(&mut Case) -> (&mut Vec<f32>, AttentionStrides);
            let inputs: [(Input, &[f32], usize, usize); 3] = [
                (
                    |case| (&mut case.q, case.q_strides),
                    &dq,
                    query_heads,
                    query_len,
                ),
                (|case| (&mut case.k, case.k_strides), &dk, heads.1, kv_len),
                (|case| (&mut case.v, case.v_strides), &dv, heads.1, kv_len),
            ];
            for (which, (input, gradient, heads, rows)) in inputs.into_iter().enumerate() {
                // Every element of the small cases, some of the large one.
                for at in (0..gradient.len()).step_by(gradient.len().div_ceil(100)) {
                    // Gradients are `[batch, rows, heads, head_dim]`.
                    let (vector, p) = (at / head_dim, at % head_dim);
                    let (head, row) = (vector % heads, vector / heads % rows);
                    let strides = input(&mut case).1;
                    let place = strides.at(vector / heads / rows, head, row) + p;
                    let kept = input(&mut case).0[place];
                    let mut moved = |by: f32| {
                        input(&mut case).0[place] = kept + by;
                        // What f32 made of the step.
                        (loss(&case), f64::from(kept + by))
                    };
                    let (up, down) = (moved(1e-3), moved(-1e-3));
                    input(&mut case).0[place] = kept;
                    let expected = (up.0 - down.0) / (up.1 - down.1);
                    let error = (f64::from(gradient[at]) - expected).abs();
                    // The third derivative leaves about 1e-6 of a difference this wide.
                    assert!(
                        error < 2e-5,
                        "input {which} at {at}: {} for {expected}",
                        gradient[at]
                    );
                }
            }
        }
    });
}

#[test]
fn gradients_are_the_same_bits_on_any_number_of_threads() {
    let run = |threads| {
        at_every_level(threads, || {
            let case = Case::new(2, (4, 2), (100, 150), 24);
            let mask = AttentionMask::Causal { starts: None };
            case.gradients(&case.run(mask), &case.q, mask, false)
        })
    };
    assert_eq!(run(1), run(5));
}

/// Whether a sequence's query sees a key.
type Sees<'a> = dyn Fn(usize, usize, usize) -> bool + 'a;

/// Checks each mask, with what it shows.
fn masks(
    shape: AttentionShape,
    starts: &[usize],
    ids: &[u32],
    check: &dyn Fn(AttentionMask<'_>, &Sees<'_>),
) {
    let before = shape.kv_len - shape.query_len;
    check(AttentionMask::None, &|_, _, _| true);
    check(AttentionMask::Causal { starts: None }, &|_, i, j| {
        j <= before + i
    });
    let causal = AttentionMask::Causal {
        starts: Some(starts),
    };
    check(causal, &|b, i, j| j <= before + i && j >= starts[b]);
    check(AttentionMask::Segments(ids), &|b, i, j| {
        let at = before + i;
        j <= at && ids[b * shape.kv_len + j] == ids[b * shape.kv_len + at]
    });
}

#[test]
fn rounded_attention_and_its_gradients_err_by_the_roundings_of_weights_and_slopes() {
    let round = |x: &mut f32| *x = half::bf16::from_f32(*x).to_f32();
    at_every_level(2, || {
        for mut case in [
            Case::new(1, (4, 2), (17, 30), 64),
            Case::new(2, (3, 1), (49, 49), 72),
            Case::new(1, (2, 2), (300, 300), 32),
            Case::new(1, (2, 1), (33, 257), 80),
            Case::new(2, (2, 2), (70, 101), 17),
        ] {
            // Factors that need no rounding: only weights, and slopes in gradients, are rounded then.
            [&mut case.q, &mut case.k, &mut case.v]
                .into_iter()
                .flatten()
                .for_each(round);
            let mut dout = noise(case.q.len(), 4);
            dout.iter_mut().for_each(round);
            let shape = case.shape;
            let starts: Vec<usize> = (0..shape.batch)
                .map(|b| [shape.kv_len / 2, shape.kv_len][b % 2])
                .collect();
            let ids: Vec<u32> = (0..shape.batch * shape.kv_len)
                .map(|i| (i / 3 * 2 / 13) as u32)
                .collect();
            masks(shape, &starts, &ids, &|mask, sees| {
                let (out, lse) = case.run_at(mask, true);
                let (expected, expected_lse) = case.expected(sees);
                // Weights, 1 together, by 2^-8 of themselves each, times values of 2 at most.
                assert_close(
                    &out,
                    &expected,
                    2f64.powi(-7),
                    &format!("{shape:?} {mask:?}"),
                );
                for (lse, expected) in lse.iter().zip(expected_lse) {
                    let near = (f64::from(*lse) - expected).abs() < 1e-5;
                    assert!(f64::from(*lse) == expected || near, "{lse} {expected}");
                }
                // The result as it is exactly, so that no rounding of it is taken for one of gradients.
                let gradients = case.gradients(&case.run(mask), &dout, mask, true);
                let expected = case.expected_gradients(&dout, sees);
                for (which, (found, expected)) in gradients.iter().zip(expected).enumerate() {
                    for (at, (found, (expected, size))) in found.iter().zip(expected).enumerate() {
                        let off = (f64::from(*found) - expected).abs();
                        // Each summand by 2^-8 of itself.
                        assert!(
                            off <= 2f64.powi(-8) * size + 2e-5,
                            "{shape:?} {mask:?}: input {which} at {at}: {found} for {expected}"
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn rounded_attention_is_the_same_bits_on_any_number_of_threads() {
    let run = |threads| {
        at_every_level(threads, || {
            cases()
                .iter()
                .map(|case| case.run_at(AttentionMask::Causal { starts: None }, true).0)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(5));
}
