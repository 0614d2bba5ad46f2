//! `bunny-cli chat`: a conversation on the command line.

mod completion;
mod interactive;

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Result, bail};
use bunny_base::escape::lines_for_terminal;
use bunny_core::generate::{Answer, Chat, GenerationOptions, goes_in_circles};
use burn::tensor::backend::Backend;
use image::RgbImage;
use serde_json::json;

use crate::{
    Format,
    args::{BackendArgs, Draft, GenerationArgs, ModelArgs, PictureArgs},
    backend::{Numbers, Work},
    picture,
    progress::Spinner,
    signals,
};

/// Talks with a model about pictures, or without.
///
/// With prompts, each is one turn, and then it ends; without, it reads turns from you.
///
/// Example: bunny-cli chat --model BAAI/Bunny-v1_0-3B --image cat.jpg --prompt "What is this?"
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A picture the first turn is about: a file, an address, or - for standard input; may be given
    /// several times
    #[arg(long)]
    image: Vec<String>,
    #[command(flatten)]
    pictures: PictureArgs,
    /// What you say; may be given several times, one turn each
    #[arg(long, short)]
    prompt: Vec<String>,
    /// Draft tokens from what was said before, and keep those that the model says too: `prompt`, or
    /// `prompt:N` for N at a time. On a processor, no answer changes by it
    #[arg(long, value_name = "SOURCE")]
    draft: Option<Draft>,
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print: streamed text, or one JSON object a turn
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    // Behind all others: its heading would stand above them too.
    #[command(flatten)]
    generation: GenerationArgs,
}

/// Runs the verb.
///
/// # Errors
/// When the model or a picture cannot be read, or a conversation grows too long.
pub fn run(args: ChatArgs) -> Result<()> {
    if args.prompt.is_empty() && args.format == Format::Json {
        bail!("--format json needs at least one --prompt");
    }
    args.backend.run(Talking(args))
}

struct Talking(ChatArgs);

impl Work for Talking {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let pictures: Vec<RgbImage> = args
            .image
            .iter()
            .map(|name| picture::read(name, args.pictures))
            .collect::<Result<_>>()?;
        let pipeline = {
            let _shown = Spinner::new(format!("loading {}", args.model.model));
            args.model.load::<B>(device, numbers)?
        };
        let chat = match args.draft {
            Some(Draft(most)) => pipeline.chat().with_draft(most),
            None => pipeline.chat(),
        };
        let mut turns = Turns {
            ends_circles: args.model.is_builtin(),
            ..Turns::new(chat, args.generation.options(), args.format)?
        };
        #[cfg(feature = "builtin-model")]
        if args.model.is_builtin() {
            use bunny_core::checkpoint::builtin::LIMITS;

            crate::progress::tell(format_args!("{LIMITS}\n"));
        }
        if args.prompt.is_empty() {
            for picture in &pictures {
                picture::draw(picture)?;
            }
            return interactive::run(&mut turns, pictures, args.pictures);
        }
        let mut pictures = pictures;
        for prompt in &args.prompt {
            turns.take(prompt, &std::mem::take(&mut pictures))?;
        }
        Ok(())
    }
}

/// A conversation, and how its turns are shown.
struct Turns<B: Backend> {
    chat: Chat<B>,
    options: GenerationOptions,
    format: Format,
    /// An answer that goes round in circles ends.
    ends_circles: bool,
    /// Ctrl-C sets it; the answer under way then ends.
    interrupted: Arc<AtomicBool>,
}

impl<B: Backend> Turns<B> {
    fn new(chat: Chat<B>, options: GenerationOptions, format: Format) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || {
            // A second Ctrl-C before the first was heard ends the program.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })?;
        signals::end_when_asked();
        Ok(Self {
            chat,
            options,
            format,
            ends_circles: false,
            interrupted,
        })
    }

    /// One turn: asks, and shows the answer as it comes.
    fn take(&mut self, text: &str, pictures: &[RgbImage]) -> Result<()> {
        self.interrupted.store(false, Ordering::SeqCst);
        let streamed = self.format == Format::Text;
        let (interrupted, ends_circles) = (&self.interrupted, self.ends_circles);
        let mut said = String::new();
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        let answer = self.chat.ask(text, pictures, &self.options, |new| {
            let written = if streamed {
                let shown = match is_terminal {
                    true => Cow::Owned(lines_for_terminal(new)),
                    false => Cow::Borrowed(new),
                };
                out.write_all(shown.as_bytes()).and_then(|()| out.flush())
            } else {
                Ok(())
            };
            said += new;
            let is_enough = ends_circles && goes_in_circles(&said);
            if written.is_err() || is_enough || interrupted.load(Ordering::SeqCst) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match self.format {
            Format::Text => writeln!(out)?,
            Format::Json => writeln!(out, "{}", report(&answer))?,
        }
        Ok(())
    }
}

fn report(answer: &Answer) -> serde_json::Value {
    let timings = &answer.timings;
    let ids: Vec<i64> = answer
        .prompt_tokens
        .iter()
        .map(|token| token.input_id())
        .collect();
    json!({
        "format_version": 1,
        "prompt": answer.prompt,
        "input_ids": ids,
        "generated_ids": answer.ids,
        "text": answer.text,
        "finish_reason": answer.finish.name(),
        "timings": {
            "vision_seconds": timings.vision.as_secs_f64(),
            "prefill_seconds": timings.prefill.as_secs_f64(),
            "prefill_positions": timings.prefill_positions,
            "decode_seconds": timings.decode.as_secs_f64(),
            "decode_tokens": timings.decode_tokens,
        },
    })
}
