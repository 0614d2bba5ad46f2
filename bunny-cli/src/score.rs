//! `bunny-cli score`: how likely a model finds a given answer.

use anyhow::Result;
use bunny_core::{
    generate::{Picture, Prompt, score},
    input::conversation::{Conversation, Message},
};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::{
    args::{BackendArgs, ModelArgs, PictureArgs},
    backend::{Numbers, Work},
    picture,
};

/// Gives the log-probability of each token of an answer, as JSON.
///
/// Example: bunny-cli score --model ./bunny --image cat.jpg --prompt "What is this?" --answer "A cat."
#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A picture the question is about: a file, an address, or - for standard input; may be given
    /// several times
    #[arg(long)]
    image: Vec<String>,
    #[command(flatten)]
    pictures: PictureArgs,
    /// The question
    #[arg(long)]
    prompt: String,
    /// The answer
    #[arg(long)]
    answer: String,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the verb.
///
/// # Errors
/// When the model or a picture cannot be read, or the text is too long.
pub fn run(args: ScoreArgs) -> Result<()> {
    args.backend.run(Scoring(args))
}

struct Scoring(ScoreArgs);

impl Work for Scoring {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let pipeline = args.model.load::<B>(device, numbers)?;
        let mut message = Message::user(&args.prompt);
        let mut pictures = Vec::new();
        for name in &args.image {
            let pixels = pipeline
                .image_processor
                .process(&picture::read(name, args.pictures)?);
            pictures.push(Picture::new(pixels));
            message = message.with_picture();
        }
        let mut conversation = Conversation::new(pipeline.template);
        conversation.push(message)?;
        conversation.push(Message::assistant(&args.answer))?;
        let encoded = pipeline.tokenizer.encode(&conversation.segments(false))?;
        let places: Vec<usize> = encoded.answers.iter().cloned().flatten().collect();
        let prompt = Prompt {
            tokens: encoded.tokens.clone(),
            pictures,
        };
        let scores = score(&pipeline.model, prompt, &places, &pipeline.device)?;
        let tokens: Vec<_> = scores
            .iter()
            .map(|token| {
                let text = pipeline.tokenizer.decode(&[token.id])?;
                Ok(json!({"id": token.id, "text": text, "log_probability": token.log_probability}))
            })
            .collect::<Result<_>>()?;
        let total: f64 = scores
            .iter()
            .map(|token| f64::from(token.log_probability))
            .sum();
        let report = json!({
            "format_version": 1,
            "prompt": conversation.render(false),
            "input_ids": encoded.input_ids(),
            "tokens": tokens,
            "log_probability": total,
        });
        println!("{report}");
        Ok(())
    }
}
