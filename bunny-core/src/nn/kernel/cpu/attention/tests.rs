//! The kernels against attention written out in double precision.

use super::super::simd::testing::at_every_level;
use super::super::testing::{assert_close, noise};
use super::*;

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
            Some(&mut lse),
        );
        (out, lse)
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
