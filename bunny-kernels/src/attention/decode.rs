//! Attention of one query a sequence, as in decoding: keys and values stream through once.
//!
//! A task takes some keys of one key head, for all the query heads that share it; partial results are joined in the
//! order of the keys.

use super::Call;
use crate::math::exp;
use crate::parallel;
use crate::register_tile::{Left, Right, multiply};
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// Keys of a task.
const KEYS: usize = 256;

pub(super) fn attend(call: &Call<'_>) {
    let shape = call.shape;
    let parts = shape.kv_len.div_ceil(KEYS);
    let d = shape.head_dim;
    // Of each part and query head: the maximum, the sum, and the sum of values.
    let record = d + 2;
    let mut records = vec![0.0; shape.batch * shape.query_heads * parts * record];
    let shared = Shared::new(&mut records);
    let group = shape.query_heads / shape.kv_heads;
    parallel::for_each(shape.batch * shape.kv_heads * parts, |task| {
        let (head, part) = (task / parts, task % parts);
        let (batch, kv_head) = (head / shape.kv_heads, head % shape.kv_heads);
        let span = call.spans[batch];
        let start = span.start.max(part * KEYS);
        let end = span.end.min((part + 1) * KEYS);
        for head in kv_head * group..(kv_head + 1) * group {
            let at = ((batch * shape.query_heads + head) * parts + part) * record;
            // SAFETY: this task's own record.
            let record = unsafe { shared.part(at, record) };
            dispatch(Part {
                call,
                batch,
                head,
                kv_head,
                start,
                end: end.max(start),
                record,
            });
        }
    });
    for head in 0..shape.batch * shape.query_heads {
        let records = &records[head * parts * record..(head + 1) * parts * record];
        join(
            call,
            head / shape.query_heads,
            head % shape.query_heads,
            records,
            record,
        );
    }
}

/// Joins the parts of one head.
fn join(call: &Call<'_>, batch: usize, head: usize, records: &[f32], record: usize) {
    let maximum = records
        .chunks_exact(record)
        .map(|part| part[0])
        .fold(f32::NEG_INFINITY, f32::max);
    // SAFETY: the call is checked, and no task runs any more.
    let out = unsafe {
        call.out
            .part(call.out_strides.at(batch, head, 0), record - 2)
    };
    out.fill(0.0);
    let mut sum = 0.0;
    for part in records.chunks_exact(record).filter(|part| part[1] != 0.0) {
        let alpha = (part[0] - maximum).exp();
        sum += alpha * part[1];
        for (out, value) in out.iter_mut().zip(&part[2..]) {
            *out += alpha * value;
        }
    }
    if sum != 0.0 {
        out.iter_mut().for_each(|out| *out /= sum);
    }
    if let Some(lse) = call.lse {
        // SAFETY: as above.
        let lse = unsafe { lse.part(batch * call.shape.query_heads + head, 1) };
        lse[0] = if sum == 0.0 {
            f32::INFINITY
        } else {
            maximum + sum.ln()
        };
    }
}

/// Some keys for one query.
struct Part<'a> {
    call: &'a Call<'a>,
    batch: usize,
    head: usize,
    kv_head: usize,
    start: usize,
    end: usize,
    record: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Call {
            q,
            k,
            v,
            shape,
            scale,
            ..
        } = *self.call;
        let d = shape.head_dim;
        let count = self.end - self.start;
        let query = &q.data[q.strides.at(self.batch, self.head, 0)..][..d];
        let mut scores = [f32::NEG_INFINITY; KEYS];
        for (i, score) in scores[..count].iter_mut().enumerate() {
            let key = &k.data[k.strides.at(self.batch, self.kv_head, self.start + i)..][..d];
            let mut sum = s.zero();
            for p in (0..d).step_by(S::LANES) {
                sum = s.mul_add(s.get(query, p), s.get(key, p), sum);
            }
            *score = scale * s.sum(sum);
        }
        let mut maximum = s.splat(f32::NEG_INFINITY);
        for i in (0..count).step_by(S::LANES) {
            maximum = s.max(s.get(&scores, i), maximum);
        }
        let maximum = s.greatest(maximum);
        self.record[0] = maximum;
        if count == 0 {
            return;
        }
        let mut sum = s.zero();
        for i in (0..count).step_by(S::LANES) {
            let weight = exp(s, s.sub(s.get(&scores, i), s.splat(maximum)));
            s.set(&mut scores, i, weight);
            sum = s.add(sum, weight);
        }
        self.record[1] = s.sum(sum);
        let weights = Left {
            from: scores.as_ptr(),
            row: 0,
            depth: 1,
        };
        let values = &v.data[v.strides.at(self.batch, self.kv_head, self.start)..];
        assert!(values.len() >= (count - 1) * v.strides.row + d);
        let sums = &mut self.record[2..];
        let mut column = 0;
        while column < d {
            // SAFETY: `count` rows of `d` values, checked; the last vector is cut to what is left.
            unsafe {
                let from = values.as_ptr().add(column);
                let right = Right {
                    from,
                    depth: v.strides.row,
                };
                let left = d - column;
                if left >= 4 * S::LANES {
                    let [tile] = multiply::<S, 1, 4, false, false>(
                        s,
                        count,
                        weights,
                        right,
                        0,
                        [[s.zero(); 4]],
                    );
                    for (j, sum) in tile.into_iter().enumerate() {
                        s.set(sums, column + j * S::LANES, sum);
                    }
                    column += 4 * S::LANES;
                } else {
                    let [[sum]] = if left >= S::LANES {
                        multiply::<S, 1, 1, false, false>(s, count, weights, right, 0, [[s.zero()]])
                    } else {
                        multiply::<S, 1, 1, true, false>(
                            s,
                            count,
                            weights,
                            right,
                            left,
                            [[s.zero()]],
                        )
                    };
                    s.set(sums, column, sum);
                    column += S::LANES;
                }
            }
        }
    }
}
