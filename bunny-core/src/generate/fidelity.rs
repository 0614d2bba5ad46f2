//! How near a model in other numbers stays to itself: what it says of the next token, place by place.

use burn::tensor::{DType, Int, Tensor, backend::Backend};

use super::Prompt;
use crate::{Bunny, Error, input::tokenizer::Token, ops::KvSequence};

/// What a model holds likely at every place of a text whose next token is a word.
#[derive(Debug, Clone, Default)]
pub struct Foretold {
    /// Tokens that there are.
    vocabulary: usize,
    /// The logarithms of their probabilities, place by place.
    log_probabilities: Vec<f32>,
    /// The tokens that came.
    came: Vec<u32>,
}

/// Reads a text whole, its words given, and tells what it holds likely at each place: by a cache where that
/// holds eight bits, so that what is lost there shows, and without one otherwise.
///
/// # Errors
/// When the text is empty, has a picture that is missing, or has more positions than the model.
pub fn foretell<B: Backend>(
    model: &Bunny<B>,
    mut text: Prompt<B>,
    device: &B::Device,
) -> Result<Foretold, Error> {
    text.places()?;
    let positions = model.positions(&text.tokens);
    let context = model.config().decoder.max_position_embeddings;
    if positions > context {
        return Err(Error::TooLong {
            prompt: positions,
            pictures: text.slots().count() * model.config().vision.tokens(),
            context,
        });
    }
    let (mut rows, mut came) = (Vec::new(), Vec::new());
    for (at, token) in text.tokens.iter().enumerate().skip(1) {
        if let Token::Text(id) = token {
            rows.push(model.positions(&text.tokens[..at]) - 1);
            came.push(*id);
        }
    }
    if rows.is_empty() {
        return Ok(Foretold::default());
    }
    let embeds = text.embed_from(0, model, device);
    let hidden = match model.precision().cache_int8 {
        true => model.prefill(embeds, &mut model.new_cache(device), &mut KvSequence::new()),
        false => model.forward(embeds),
    };
    let hidden = hidden.squeeze_dim::<2>(0); // [positions, hidden]
    let wanted: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let wanted = Tensor::<B, 1, Int>::from_data(&wanted[..], device);
    let logits = model.language_model.logits(hidden.select(0, wanted)); // [places, vocabulary]
    let [_, vocabulary] = logits.dims();
    let logits = logits.cast(DType::F32).into_data();
    let mut log_probabilities: Vec<f32> = logits.into_vec().expect("scores are f32");
    for row in log_probabilities.chunks_mut(vocabulary) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|score| f64::from(score - most).exp()).sum();
        let norm = f64::from(most) + sum.ln();
        row.iter_mut()
            .for_each(|score| *score = (f64::from(*score) - norm) as f32);
    }
    Ok(Foretold {
        vocabulary,
        log_probabilities,
        came,
    })
}

impl Foretold {
    /// With what is foretold of another text.
    pub fn extend(&mut self, other: Self) {
        if !other.came.is_empty() {
            self.vocabulary = other.vocabulary;
        }
        self.log_probabilities.extend(other.log_probabilities);
        self.came.extend(other.came);
    }

    /// How far `other` is from this one, which is taken for right.
    ///
    /// # Panics
    /// When they are of other texts.
    pub fn compare(&self, other: &Self) -> Fidelity {
        assert_eq!(self.came, other.came, "of the same texts");
        let rows = |one: &Self| one.vocabulary.max(1);
        let pairs = self
            .log_probabilities
            .chunks(rows(self))
            .zip(other.log_probabilities.chunks(rows(other)));
        let (mut divergences, mut same, mut surprise) = (Vec::new(), 0usize, [0f64; 2]);
        for ((own, others), came) in pairs.zip(&self.came) {
            divergences.push(divergence(own, others));
            same += usize::from(likeliest(own) == likeliest(others));
            surprise[0] -= f64::from(own[*came as usize]);
            surprise[1] -= f64::from(others[*came as usize]);
        }
        divergences.sort_by(f64::total_cmp);
        let places = divergences.len();
        let share = |sum: f64| sum / places.max(1) as f64;
        // The least that as many as 99.9 % do not exceed.
        let rank = (0.999 * places as f64).ceil() as usize;
        Fidelity {
            places,
            mean_divergence: share(divergences.iter().sum()),
            far_divergence: divergences.get(rank.max(1) - 1).copied().unwrap_or(0.0),
            same_likeliest: share(same as f64),
            perplexities: surprise.map(|sum| share(sum).exp()),
        }
    }
}

/// How near a model stays to one that is taken for right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fidelity {
    /// Places that were looked at.
    pub places: usize,
    /// The mean of Kullback and Leibler's divergence of its distribution from the right one, in nats.
    pub mean_divergence: f64,
    /// What 99.9 % of the places do not exceed.
    pub far_divergence: f64,
    /// The share of places at which both hold the same token likeliest.
    pub same_likeliest: f64,
    /// The perplexity of the texts: to the right one, and to this one.
    pub perplexities: [f64; 2],
}

/// `Σ p ln(p / q)` of logarithms.
fn divergence(right: &[f32], other: &[f32]) -> f64 {
    let pairs = right.iter().zip(other);
    let terms = pairs.map(|(p, q)| {
        let (p, q) = (f64::from(*p), f64::from(*q));
        p.exp() * (p - q)
    });
    // Rounding may leave a little below zero of what is none.
    terms.sum::<f64>().max(0.0)
}

fn likeliest(of: &[f32]) -> Option<usize> {
    (0..of.len()).max_by(|a, b| of[*a].total_cmp(&of[*b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foretold(rows: &[[f64; 3]], came: &[u32]) -> Foretold {
        Foretold {
            vocabulary: 3,
            log_probabilities: rows.iter().flatten().map(|p| p.ln() as f32).collect(),
            came: came.to_vec(),
        }
    }

    #[test]
    fn what_is_lost_is_summed_as_it_is_defined() {
        let right = foretold(&[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], &[0, 2]);
        let other = foretold(&[[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]], &[0, 2]);
        let found = right.compare(&other);
        assert_eq!(found.places, 2);
        // 0.5 ln 2 − 0.25 ln 2, and nothing.
        let first = 0.25 * 2f64.ln();
        assert!((found.mean_divergence - first / 2.0).abs() < 1e-7);
        assert!((found.far_divergence - first).abs() < 1e-7);
        assert_eq!(found.same_likeliest, 0.5);
        for (found, right) in found.perplexities.iter().zip([0.5 * 0.8, 0.25 * 0.8f64]) {
            assert!((found - right.powf(-0.5)).abs() < 1e-6);
        }
        assert_eq!(right.compare(&right).mean_divergence, 0.0);
    }

    #[test]
    fn one_place_in_a_thousand_may_be_further() {
        let near = [0.5, 0.25, 0.25];
        let mut others = vec![near; 2000];
        others[7] = [0.1, 0.1, 0.8];
        others[9] = [0.1, 0.8, 0.1];
        let came = vec![0; 2000];
        let right = foretold(&vec![near; 2000], &came);
        let two = right.compare(&foretold(&others, &came));
        assert_eq!(two.far_divergence, 0.0);
        others[11] = [0.8, 0.1, 0.1];
        let three = right.compare(&foretold(&others, &came));
        assert!(three.far_divergence > 0.1);
    }
}
