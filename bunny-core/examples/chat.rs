//! Talks about a picture: the built-in model about a sample, or `--model MODEL` about `--image FILE`.
//!
//! `cargo run --release --example chat -- --model BAAI/Bunny-v1_0-3B --image cat.jpg`
use std::{collections::HashMap, env, error::Error, io, io::Write, iter, mem, ops::ControlFlow};

use bunny_core::{
    checkpoint::{Hub, HubSettings, ModelSource, Precision, builtin},
    generate::{Chat, GenerationOptions, HELP, Pipeline, Typed},
    input::image::{DecodeOptions, decode, decode_file},
};
use burn_flex::Flex;
use image::RgbImage;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let options: HashMap<_, _> = iter::from_fn(|| args.next().zip(args.next())).collect();
    let (model, image) = (options.get("--model"), options.get("--image"));
    let hub = Hub::new(HubSettings::from_env()?);
    let open = match model {
        Some(name) => ModelSource::resolve(name, &hub, |_| ())?.open()?,
        None => builtin::open()?,
    };
    let precision = Precision::suited::<Flex>(&Default::default(), open.weights.stored_format());
    let mut chat = Pipeline::<Flex>::from_open(open, precision, Default::default())?.chat();
    let read = |name: &String| decode_file(name, DecodeOptions::upright());
    let mut pictures: Vec<_> = image.map(read).transpose()?.into_iter().collect();
    if (model, image) == (None, None) {
        let sample = include_bytes!("shapes.jpg");
        pictures.push(decode(sample, DecodeOptions::default())?);
        for question in ["What is in the picture?", "Where is the black diamond?"] {
            println!("> {question}");
            ask(&mut chat, question, mem::take(&mut pictures))?;
        }
    }
    if model.is_none() {
        println!("\n{}\n", builtin::LIMITS);
    }
    println!("Ask away; /help lists the commands.");
    for line in io::stdin().lines() {
        match Typed::parse(&line?, env::var("HOME").ok().as_deref()) {
            Ok(Typed::Nothing) => {}
            Ok(Typed::Message(text)) => ask(&mut chat, text, mem::take(&mut pictures))?,
            Ok(Typed::Image(name)) => pictures.push(read(&name)?),
            Ok(Typed::Clear) => chat.clear(),
            Ok(Typed::Help) => println!("{HELP}"),
            Ok(Typed::End) => break,
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

fn ask(chat: &mut Chat<Flex>, text: &str, pictures: Vec<RgbImage>) -> Result<(), Box<dyn Error>> {
    chat.ask(text, &pictures, &GenerationOptions::default(), |new| {
        print!("{new}");
        let flushed = io::stdout().flush();
        flushed.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    })?;
    println!();
    Ok(())
}
