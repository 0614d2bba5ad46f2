//! Talks about a picture: the built-in model about a sample, or `--model MODEL` about `--image FILE`.
//!
//! `cargo run --release --example chat -- --model BAAI/Bunny-v1_0-3B --image cat.jpg`
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::{collections::HashMap, env, error::Error, iter, ops::ControlFlow, process::ExitCode};

use bunny_core::{
    checkpoint::{Hub, HubSettings, ModelSource, Precision, builtin},
    generate::{Chat, GenerationOptions, HELP, Pipeline, Typed},
    input::image::{DecodeOptions, data_url, decode, decode_file, file_url},
};
use burn_flex::Flex;
use image::RgbImage;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let Err(error) = talk() else {
        return ExitCode::SUCCESS;
    };
    match error.downcast_ref().map(io::Error::kind) {
        // Whoever read the answers has had enough.
        Some(ErrorKind::BrokenPipe) => return ExitCode::SUCCESS,
        _ => eprintln!("error: {error}"),
    }
    ExitCode::FAILURE
}

fn talk() -> Outcome {
    let mut args = env::args().skip(1);
    let options: HashMap<_, _> = iter::from_fn(|| args.next().zip(args.next())).collect();
    let model = options.get("--model").filter(|name| *name != "builtin");
    let image = options.get("--image");
    let hub = Hub::new(HubSettings::from_env()?);
    let open = match model {
        Some(name) => ModelSource::resolve(name, &hub, |_| ())?.open()?,
        None => builtin::open()?,
    };
    let precision = Precision::suited::<Flex>(&Default::default(), open.weights.stored_format());
    let mut chat = Pipeline::<Flex>::from_open(open, precision, Default::default())?.chat();
    let mut pictures = Vec::from_iter(image.map(|name| read(name)).transpose()?);
    if model.is_none() {
        eprintln!("{}\n", builtin::LIMITS);
    }
    if (model, image) == (None, None) {
        let sample = include_bytes!("shapes.jpg");
        pictures.push(decode(sample, DecodeOptions::default())?);
        for question in ["What is in the picture?", "Where is the black diamond?"] {
            writeln!(io::stdout(), "> {question}")?;
            ask(&mut chat, question, &mut pictures)?;
        }
    }
    let has_person = io::stdin().is_terminal();
    if has_person {
        eprintln!("Ask away; /help lists the commands.");
    }
    for line in io::stdin().lines() {
        match obey(&line?, &mut chat, &mut pictures) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            // A person goes on; what is piped in ends with it.
            Err(error) if has_person && !error.is::<io::Error>() => eprintln!("error: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn obey(
    line: &str,
    chat: &mut Chat<Flex>,
    pictures: &mut Vec<RgbImage>,
) -> Outcome<ControlFlow<()>> {
    match Typed::parse(line, env::var("HOME").ok().as_deref())? {
        Typed::Nothing => {}
        Typed::Message(text) => ask(chat, text, pictures)?,
        Typed::Image(name) => pictures.push(read(&name)?),
        Typed::Clear => {
            chat.clear();
            pictures.clear();
        }
        Typed::Help => eprintln!("{HELP}"),
        Typed::End => return Ok(ControlFlow::Break(())),
    }
    Ok(ControlFlow::Continue(()))
}

/// Asks about pictures that wait, which then wait no more, and prints the answer as it comes.
fn ask(chat: &mut Chat<Flex>, text: &str, pictures: &mut Vec<RgbImage>) -> Outcome {
    let mut out = io::stdout();
    let told = chat.ask(text, pictures, &GenerationOptions::default(), |new| {
        let written = write!(out, "{new}").and_then(|()| out.flush());
        written.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    });
    if let Err(error @ bunny_core::Error::TooLong { .. }) = told {
        Err(format!("{error}: /clear begins a new one"))?
    } else {
        told?;
    }
    pictures.clear();
    Ok(writeln!(out)?)
}

fn read(name: &str) -> Outcome<RgbImage> {
    let options = DecodeOptions::upright();
    Ok(match name.split_once(':') {
        Some(("http" | "https", _)) => Err(format!("{name}: this example fetches no pictures"))?,
        Some(("data", _)) => decode(&data_url(name)?, options)?,
        _ => decode_file(file_url(name).as_deref().unwrap_or(name), options)?,
    })
}
