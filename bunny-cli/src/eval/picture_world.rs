//! `bunny-cli eval picture-world`: the test questions of the small world.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use bunny_core::generate::{
    Engine, EngineOptions, GenerationOptions, Picture, Pipeline, Prompt, SequenceId, Update,
};
use bunny_core::input::conversation::{Conversation, Message};
use bunny_core::input::image::{DecodeOptions, decode_file};
use bunny_data::picture_world::{Score, Tally, TestQuestion, open_test, other_pictures};
use bunny_data::write_whole;
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::Format;
use crate::args::{BackendArgs, ForceArgs, ModelArgs};
use crate::backend::{Numbers, Work};
use crate::data::Bar;
use crate::progress::Spinner;

/// Asks a model the test questions of a world that `data synth` drew.
///
/// Right answers are counted. An answer is right if it is the expected one, letter by letter, but for case, a full stop at its
/// end, white space, an article before it, and numbers up to twenty in words instead of digits.
/// With each share of right answers stands its 95 % interval (Wilson's), and what chance would get:
/// the share of the most frequent answer, or one by the number of answers a question leaves open.
///
/// Example: bunny-cli eval picture-world --model ./bunny --data world --out answers.jsonl
#[derive(Debug, clap::Args)]
pub struct PictureWorldArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The folder that `data synth` wrote
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Show the picture of another question of the same type: what is right then was guessed
    #[arg(long)]
    blind: bool,
    /// Seeds which picture the blind are shown
    #[arg(long, value_name = "S", default_value_t = 0, requires = "blind")]
    blind_seed: u64,
    /// Ask the first N questions only; types take turns
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Questions asked at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// The most tokens an answer may have
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    max_new_tokens: u16,
    /// Write every answer to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    over: ForceArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the verb.
///
/// # Errors
/// When the model, the test or a picture cannot be read, or a question is too long for the model.
pub fn run(args: PictureWorldArgs) -> Result<()> {
    args.backend.run(Examining(args))
}

struct Examining(PictureWorldArgs);

impl Work for Examining {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let read = ["manifest.json", "test.json"].map(|name| args.data.join(name));
        args.over.allow(args.out.as_slice(), read)?;
        let mut questions = open_test(&args.data)?;
        questions.truncate(args.limit.unwrap_or(usize::MAX));
        let asked = args.asked(&questions);
        let pipeline = {
            let _shown = Spinner::new(format!("loading {}", args.model.model));
            args.model.load::<B>(device, numbers)?
        };

        let started = Instant::now();
        let mut tally = Tally::default();
        let mut lines = Vec::new();
        let answers = args.answers(&pipeline, &asked)?;
        for (asked, answer) in asked.iter().zip(answers) {
            let question = asked.question;
            let right = tally.add(question, &answer);
            let line = json!({
                "id": question.id,
                "type": question.kind,
                "image": asked.image,
                "question": question.question,
                "expected": question.answer,
                "answer": answer,
                "right": right,
            });
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let seconds = started.elapsed().as_secs_f64();

        if let Some(out) = &args.out {
            write_whole(out, &lines)?;
        }
        match args.format {
            Format::Text => print(&tally, seconds),
            Format::Json => println!("{}", args.report(&tally, seconds)),
        }
        Ok(())
    }
}

/// A question and the picture that is shown with it.
struct Asked<'a> {
    question: &'a TestQuestion,
    image: Option<&'a str>,
}

impl PictureWorldArgs {
    /// What is asked: the blind are not asked what needs no picture.
    fn asked<'a>(&self, questions: &'a [TestQuestion]) -> Vec<Asked<'a>> {
        let image = |question: &'a TestQuestion| question.image.as_deref();
        if !self.blind {
            let all = questions.iter().map(|question| Asked {
                question,
                image: image(question),
            });
            return all.collect();
        }
        let others = other_pictures(questions, self.blind_seed);
        let blind = questions
            .iter()
            .zip(others)
            .filter_map(|(question, other)| {
                Some(Asked {
                    question,
                    image: image(&questions[other?]),
                })
            });
        blind.collect()
    }

    /// The model's answers, likeliest token by likeliest token.
    fn answers<B: Backend>(
        &self,
        pipeline: &Pipeline<B>,
        asked: &[Asked<'_>],
    ) -> Result<Vec<String>> {
        let slots = self.batch.into();
        let mut engine = pipeline.engine(EngineOptions {
            slots,
            // There is nobody to hold up.
            chunk: 4096,
            ..EngineOptions::default()
        });
        let bar = Bar::new("asking");
        let mut answers: Vec<Option<String>> = asked.iter().map(|_| None).collect();
        let mut places = HashMap::with_capacity(slots);
        let mut waiting = asked.iter().enumerate();
        loop {
            // Pictures are read when there is a slot for their question.
            for (place, asked) in waiting.by_ref().take(slots - places.len()) {
                places.insert(self.ask(&mut engine, pipeline, asked)?, place);
            }
            if places.is_empty() {
                break;
            }
            for (id, update) in engine.step() {
                match update {
                    Update::Finished(answer) => {
                        if let Some(place) = places.remove(&id) {
                            answers[place] = Some(answer.sequence.text().trim().to_owned());
                        }
                    }
                    Update::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
            let done = answers.iter().flatten().count();
            bar.show(done as u64, asked.len() as u64);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks one question.
    fn ask<B: Backend>(
        &self,
        engine: &mut Engine<B>,
        pipeline: &Pipeline<B>,
        Asked { question, image }: &Asked<'_>,
    ) -> Result<SequenceId> {
        let mut message = Message::user(&question.question);
        let mut pictures = Vec::new();
        if let Some(image) = image {
            let file = self.data.join("test/images").join(image);
            let picture = decode_file(file, DecodeOptions::default())?;
            pictures.push(Picture::new(pipeline.image_processor.process(&picture)));
            message = message.with_picture();
        }
        let mut conversation = Conversation::new(pipeline.template);
        conversation.push(message)?;
        let tokens = pipeline
            .tokenizer
            .encode(&conversation.segments(true))?
            .tokens;
        let options = GenerationOptions {
            max_new_tokens: self.max_new_tokens.into(),
            ..GenerationOptions::default()
        };
        let sequence = pipeline.sequence(&tokens, &options);
        Ok(engine.admit(Prompt { tokens, pictures }, sequence)?)
    }

    fn report(&self, tally: &Tally, seconds: f64) -> serde_json::Value {
        let types: serde_json::Map<_, _> = tally
            .by_type()
            .into_iter()
            .map(|(kind, score)| (kind, json!(score)))
            .collect();
        json!({
            "format_version": 1,
            "model": self.model.model,
            "data": self.data.to_string_lossy(),
            "blind": self.blind,
            "overall": tally.overall(),
            "types": types,
            "seconds": seconds,
        })
    }
}

fn print(tally: &Tally, seconds: f64) {
    let row = |name: &str, score: &Score| {
        println!(
            "{name:<10} {:>9} {:>7} {:>9.1} % {:>7.1} – {:>5.1} % {:>7.1} %",
            score.questions,
            score.right,
            100.0 * score.accuracy,
            100.0 * score.interval.0,
            100.0 * score.interval.1,
            100.0 * score.chance
        );
    };
    println!(
        "{:<10} {:>9} {:>7} {:>11} {:>17} {:>9}",
        "type", "questions", "right", "accuracy", "95 % interval", "chance"
    );
    for (kind, score) in tally.by_type() {
        row(&kind, &score);
    }
    let overall = tally.overall();
    row("overall", &overall);
    println!(
        "{:.1} questions a second",
        overall.questions as f64 / seconds.max(f64::MIN_POSITIVE)
    );
}
