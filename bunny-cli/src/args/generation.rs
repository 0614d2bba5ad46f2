//! How answers are chosen.

use bunny_core::generate::GenerationOptions;

/// How answers are chosen.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Answers")]
pub struct GenerationArgs {
    /// The most tokens an answer may have
    #[arg(long, default_value_t = 512, value_parser = at_least_one, allow_negative_numbers = true)]
    max_new_tokens: usize,
    /// 0 takes the likeliest token every time
    #[arg(long, default_value_t = 0.0, value_parser = not_negative, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw only from this many of the likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    top_k: usize,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_parser = probability, allow_negative_numbers = true)]
    top_p: f32,
    /// Make tokens that were said already less likely; 1 for no change
    #[arg(long, default_value_t = 1.0, value_parser = positive, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Seeds the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A text that ends an answer; may be given several times
    #[arg(long)]
    stop: Vec<String>,
}

impl GenerationArgs {
    /// The options of an answer.
    pub fn options(&self) -> GenerationOptions {
        GenerationOptions {
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
            ..GenerationOptions::default()
        }
    }
}

fn not_negative(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("must be a number, 0 or more".into()),
    }
}

fn probability(text: &str) -> Result<f32, String> {
    not_negative(text)
        .ok()
        .filter(|number| *number <= 1.0)
        .ok_or("must be a number from 0 to 1".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number, 1 or more".into()),
        Ok(count) => Ok(count),
    }
}

fn positive(text: &str) -> Result<f32, String> {
    not_negative(text)
        .ok()
        .filter(|number| *number > 0.0)
        .ok_or("must be a number above 0".into())
}
