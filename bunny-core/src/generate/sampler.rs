//! The choice of a token by its score.

use super::GenerationOptions;
use bunny_base::random::mix;

/// Chooses tokens: penalties, temperature, top-k, top-p, min-p and the draw, in the order of
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

    /// Takes the penalties of what the answer has off `logits`, and adds what some tokens are given.
    pub(super) fn adjust(&self, logits: &mut [f32], answer: &[u32]) {
        let GenerationOptions {
            presence_penalty: presence,
            frequency_penalty: frequency,
            logit_bias,
            ..
        } = &self.options;
        if (*presence, *frequency) != (0.0, 0.0) {
            let mut said = answer.to_vec();
            said.sort_unstable();
            for same in said.chunk_by(|a, b| a == b) {
                if let Some(logit) = logits.get_mut(same[0] as usize) {
                    *logit -= presence + frequency * same.len() as f32;
                }
            }
        }
        for (id, bias) in logit_bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
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
            let (_, &mut (_, least), _) = ranked.select_nth_unstable_by(keep - 1, by_score);
            // All that tie with the last one stay: 16-bit scores often do.
            ranked.retain(|&(_, score)| score >= least);
        }
        ranked.sort_unstable_by(by_score);
        let (best, temperature) = (ranked[0].1, self.options.temperature);
        let weight = |score: f32| f64::from((score - best) / temperature).exp();
        let total: f64 = ranked.iter().map(|&(_, score)| weight(score)).sum();
        let kept = self.nucleus(&ranked, |score| weight(score) / total);
        let likely = ranked[..kept].partition_point(|&(_, score)| {
            // The likeliest has weight 1.
            weight(score) >= f64::from(self.options.min_p)
        });
        let ranked = &ranked[..likely.max(1)];
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
fn argmax(logits: &[f32]) -> u32 {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    // Lane by lane: the compiler makes vectors of them.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane = higher(*lane, *score);
        }
    }
    let highest = lanes.iter().chain(rest).copied().reduce(higher);
    let first = logits.iter().position(|score| Some(*score) == highest);
    first.unwrap_or(0) as u32
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
    fn what_ties_with_the_last_of_top_k_is_kept() {
        // `TopKLogitsWarper(2)` of transformers keeps three of these.
        let mut sampler = Sampler::new(&GenerationOptions { top_k: 2, ..warm() });
        let mut counts = [0; 5];
        for _ in 0..1000 {
            counts[sampler.sample(&mut [1.0, 3.0, 3.0, 3.0, 2.0], &[]) as usize] += 1;
        }
        assert!(counts[1..4].iter().all(|&count| count > 200), "{counts:?}");
        assert_eq!((counts[0], counts[4]), (0, 0));
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
    fn min_p_keeps_what_is_likely_beside_the_likeliest() {
        // The others are 0.37, 0.14 and 0.02 times as likely as the likeliest.
        let counts = |min_p| drawn(GenerationOptions { min_p, ..warm() }, 2000);
        let some = counts(0.2);
        assert!(some[1] > 0 && some[2] > 0 && some[0] == 0 && some[3] == 0);
        let more = counts(0.1);
        assert!(more[0] > 0 && more[3] == 0);
        assert_eq!(counts(1.0), [0, 2000, 0, 0]);
    }

    #[test]
    fn an_answers_own_tokens_are_penalised_once_and_by_their_number() {
        let sampler = Sampler::new(&GenerationOptions {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: vec![(3, 10.0), (99, 1.0)],
            ..Default::default()
        });
        let mut logits = LOGITS;
        sampler.adjust(&mut logits, &[2, 1, 2, 77]);
        assert_eq!(logits, [1.0, 3.0 - 0.75, 2.0 - 1.0, -1.0 + 10.0]);
        let mut untouched = LOGITS;
        Sampler::new(&warm()).adjust(&mut untouched, &[2, 1, 2]);
        assert_eq!(untouched, LOGITS);
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
