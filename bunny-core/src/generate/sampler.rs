//! The choice of a token by its score.

use super::GenerationOptions;
use bunny_base::random::mix;

/// Chooses tokens: repetition penalty, temperature, top-k, top-p and the draw, in the order of
/// `transformers`' logits processors.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: GenerationOptions,
    draws: u64,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    pub fn new(options: &GenerationOptions) -> Self {
        Self {
            options: options.clone(),
            draws: 0,
        }
    }

    /// Chooses the next token, `seen` being the tokens of the prompt and of the answer so far.
    ///
    /// `logits` has one score per token; it is used as scratch space.
    pub fn sample(&mut self, logits: &mut [f32], seen: &[u32]) -> u32 {
        penalise(logits, seen, self.options.repetition_penalty);
        if self.options.temperature == 0.0 {
            return argmax(logits);
        }
        let mut ranked: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
        let keep = match self.options.top_k {
            0 => ranked.len(),
            k => k.min(ranked.len()),
        };
        // Likeliest first; ties by id, so that a draw depends on nothing but the scores.
        let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if keep < ranked.len() {
            ranked.select_nth_unstable_by(keep, by_score);
            ranked.truncate(keep);
        }
        ranked.sort_unstable_by(by_score);
        let (best, temperature) = (ranked[0].1, self.options.temperature);
        let weight = |score: f32| f64::from((score - best) / temperature).exp();
        let total: f64 = ranked.iter().map(|&(_, score)| weight(score)).sum();
        let kept = self.nucleus(&ranked, |score| weight(score) / total);
        let ranked = &ranked[..kept];
        let total: f64 = ranked.iter().map(|&(_, score)| weight(score)).sum();
        let mut left = self.uniform() * total;
        for &(id, score) in ranked {
            left -= weight(score);
            if left < 0.0 {
                return id;
            }
        }
        ranked[ranked.len() - 1].0
    }

    /// How many of the likeliest tokens are needed to reach `top_p`; at least one.
    fn nucleus(&self, ranked: &[(u32, f32)], probability: impl Fn(f32) -> f64) -> usize {
        if self.options.top_p >= 1.0 {
            return ranked.len();
        }
        let mut reached = 0.0;
        for (count, &(_, score)) in ranked.iter().enumerate() {
            if reached >= f64::from(self.options.top_p) {
                return count.max(1);
            }
            reached += probability(score);
        }
        ranked.len()
    }

    /// The next number of the sequence, in `[0, 1)`.
    fn uniform(&mut self) -> f64 {
        self.draws += 1;
        (mix(mix(self.options.seed) ^ self.draws) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Divides positive scores of seen tokens by the penalty and multiplies negative ones.
fn penalise(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(score) = logits.get_mut(id as usize) {
            *score = if *score < 0.0 {
                *score * penalty
            } else {
                *score / penalty
            };
        }
    }
}

/// The first of the highest scores.
pub(super) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, score) in logits.iter().enumerate() {
        if *score > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn drawn(options: GenerationOptions, count: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(&options);
        let mut counts = vec![0; LOGITS.len()];
        for _ in 0..count {
            counts[sampler.sample(&mut LOGITS.clone(), &[]) as usize] += 1;
        }
        counts
    }

    fn warm() -> GenerationOptions {
        GenerationOptions {
            temperature: 1.0,
            ..Default::default()
        }
    }

    #[test]
    fn without_temperature_the_likeliest_token_is_taken() {
        assert_eq!(drawn(GenerationOptions::default(), 10), [0, 10, 0, 0]);
    }

    #[test]
    fn draws_follow_the_softmax() {
        let count = 200_000;
        let counts = drawn(warm(), count);
        let total: f64 = LOGITS.iter().map(|&score| f64::from(score).exp()).sum();
        for (seen, score) in counts.into_iter().zip(LOGITS) {
            let expected = f64::from(score).exp() / total;
            let deviation = (expected * (1.0 - expected) / count as f64).sqrt();
            let share = seen as f64 / count as f64;
            assert!(
                (share - expected).abs() < 5.0 * deviation,
                "{share} for {expected}"
            );
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let two = drawn(GenerationOptions { top_k: 2, ..warm() }, 1000);
        assert!(two[1] > 0 && two[2] > 0 && two[0] == 0 && two[3] == 0);
        // The likeliest has 0.66 of the probability, the first two 0.90.
        let nucleus = drawn(
            GenerationOptions {
                top_p: 0.7,
                ..warm()
            },
            1000,
        );
        assert!(nucleus[1] > 0 && nucleus[2] > 0 && nucleus[0] == 0 && nucleus[3] == 0);
        assert_eq!(
            drawn(
                GenerationOptions {
                    top_p: 0.0,
                    ..warm()
                },
                10
            ),
            [0, 10, 0, 0]
        );
    }

    #[test]
    fn what_was_said_becomes_less_likely() {
        let options = GenerationOptions {
            repetition_penalty: 2.0,
            ..Default::default()
        };
        let mut sampler = Sampler::new(&options);
        assert_eq!(sampler.sample(&mut LOGITS.clone(), &[1]), 2);
        let mut logits = [-1.0, -1.5];
        assert_eq!(sampler.sample(&mut logits, &[0]), 1);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut sampler = Sampler::new(&GenerationOptions { seed, ..warm() });
            (0..50)
                .map(|_| sampler.sample(&mut LOGITS.clone(), &[]))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
