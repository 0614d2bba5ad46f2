//! `bunny-cli serve`: an OpenAI-compatible server, and a page to talk in.

mod system;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bunny_serve::{Sample, Server, ServerOptions};
use burn::tensor::backend::Backend;

use crate::{
    args::{BackendArgs, ModelArgs},
    backend::{Numbers, Work},
    data::choice::{bytes, show_bytes},
    load::BUILTIN,
    progress::{Spinner, tell},
};

/// What the built-in model is shown as by the page.
pub const BUILTIN_CARD: &str = "The built-in model knows its small world alone: drawn shapes, numbers and short words. \
    Whatever else it is shown, it will take for these.";

/// Serves a model to OpenAI's clients, and as a page to talk in.
///
/// Answers all requests at once. Ctrl-C or SIGTERM lets answers under way end, within --grace; a second one
/// ends the program at once.
///
/// Example: bunny-cli serve --model BAAI/Bunny-v1_0-3B --port 8000
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = host)]
    host: IpAddr,
    /// The port; 0 for any that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// What clients call the model, besides its own name
    #[arg(long, value_parser = served_name)]
    served_name: Option<String>,
    /// A key that clients must have; who may list processes sees it here
    #[arg(long)]
    api_key: Option<String>,
    /// A file that holds the key
    #[arg(long, conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// A name that the server goes by, besides addresses and localhost; may be given several times
    #[arg(long)]
    public_name: Vec<String>,
    /// Answers at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: u16,
    /// Memory that keys and values may take, as 4GiB; half of what is free unless given. Answers that do not
    /// fit wait
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Positions of prompts that are read between two tokens of running answers
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Answers that may wait; requests for more are refused
    #[arg(long, default_value_t = 1024)]
    max_queue: usize,
    /// Megabytes of a request, its pictures included
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    max_body: u16,
    /// Pictures that a conversation may have
    #[arg(long, default_value_t = 16)]
    max_pictures: usize,
    /// Pixels that a picture may have
    #[arg(long, default_value_t = 50_000_000)]
    max_pixels: u64,
    /// A host that pictures may be fetched from; may be given several times. One in a network of its own only
    /// as an address
    #[arg(long)]
    allow_hosts: Vec<String>,
    /// An origin (scheme, host, port) whose pages may ask from a browser, or * for all; may be given
    /// several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    allow_origin: Vec<String>,
    /// Seconds in which a client has to send a request's head, and then its body
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    read_timeout: u32,
    /// Seconds that a request may take
    #[arg(long, default_value_t = 600)]
    timeout: u32,
    /// Seconds that running answers have to end once the server was told to stop
    #[arg(long, default_value_t = 10)]
    grace: u32,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the verb.
///
/// # Errors
/// When the model cannot be read, or the address cannot be had.
pub fn run(args: ServeArgs) -> Result<()> {
    args.backend.run(Serving(args))
}

struct Serving(ServeArgs);

impl Work for Serving {
    type Output = ();

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<()> {
        let args = self.0;
        let model = &args.model.model;
        let is_builtin = model == BUILTIN;
        let mut names = Vec::from_iter(args.served_name);
        names.push(model.clone());
        let mut options = ServerOptions {
            names,
            slots: args.slots.into(),
            chunk: args.chunk as usize,
            cache_bytes: None,
            queue: args.max_queue,
            max_body: usize::from(args.max_body) << 20,
            max_pictures: args.max_pictures,
            max_pixels: args.max_pixels,
            allow_hosts: args.allow_hosts,
            allow_origins: args.allow_origin,
            read_timeout: Duration::from_secs(args.read_timeout.into()),
            timeout: Duration::from_secs(args.timeout.into()),
            grace: Duration::from_secs(args.grace.into()),
            api_key: key(args.api_key, args.api_key_file)?,
            public_names: args.public_name,
            card: if is_builtin { BUILTIN_CARD } else { "" }.into(),
            samples: if is_builtin { samples() } else { Vec::new() },
        };
        let pipeline = {
            let _shown = Spinner::new(format!("loading {model}"));
            args.model.load::<B>(device, numbers)?
        };
        // The model is loaded, and elsewhere keys and values do not lie in this memory.
        let is_on_cpu = ["cpu", "ndarray"].contains(&numbers.backend());
        let share = system::free_memory().filter(|_| is_on_cpu);
        options.cache_bytes = args.memory.or(share.map(|free| free / 2));
        let whole = pipeline.model.config().decoder.max_position_embeddings;
        system::allow_open_files();
        let server = Server::bind(SocketAddr::new(args.host, args.port), pipeline, options)?;
        stop_when_asked(server.stopper())?;
        tell_memory(&server, whole);
        println!("http://{} (Ctrl-C ends it)", server.address());
        Ok(server.run()?)
    }
}

/// An address; `localhost` is one.
fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text
            .parse()
            .map_err(|_| "is neither an address nor `localhost`".into()),
    }
}

/// Says what keys and values may take, and where that makes conversations shorter than the model's.
fn tell_memory(server: &Server, whole: usize) {
    let (memory, context) = (show_bytes(server.cache_bytes() as f64), server.context());
    match context < whole {
        true => tell(format_args!(
            "keys and values may take {memory} (--memory): enough for {context} of the model's {whole} positions"
        )),
        false => tell(format_args!("keys and values may take {memory} (--memory)")),
    }
}

/// A name that fits into a header, an address and a list.
fn served_name(name: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_graphic() && !"\"\\?#%".contains(letter);
    match name.len() <= 256 && !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name.to_owned()),
        false => {
            Err("a name is of letters, digits and signs but \" \\ ? # %, and has no space".into())
        }
    }
}

/// What browsers call an origin: scheme, host, and port if it has one.
fn origin(origin: &str) -> Result<String, String> {
    let host = origin
        .strip_prefix("https://")
        .or(origin.strip_prefix("http://"));
    let is_plain = |letter: char| letter.is_ascii_graphic() && !"/?#@*,".contains(letter);
    let is_origin = host.is_some_and(|host| !host.is_empty() && host.chars().all(is_plain));
    match is_origin || origin == "*" {
        true => Ok(origin.to_owned()),
        false => {
            Err("an origin is as https://chat.example, with a port if it has one, or *".into())
        }
    }
}

/// The first signal stops the server, a second one the program.
fn stop_when_asked(stop: impl Fn() + Send + 'static) -> Result<()> {
    let was_asked = AtomicBool::new(false);
    let handler = move || match was_asked.swap(true, Ordering::SeqCst) {
        false => stop(),
        true => process::exit(1),
    };
    ctrlc::set_handler(handler).context("cannot wait for signals")
}

/// The key, from a file where it is not given itself.
fn key(given: Option<String>, file: Option<PathBuf>) -> Result<Option<String>> {
    let key = match (given, file) {
        (Some(key), _) => key,
        (None, Some(file)) => {
            let text = fs::read_to_string(&file);
            let text = text.with_context(|| file.display().to_string())?;
            text.trim().to_string()
        }
        (None, None) => return Ok(None),
    };
    match key.is_empty() {
        true => bail!("the key is empty: give one, or leave it out"),
        false => Ok(Some(key)),
    }
}

/// Pictures that the built-in model knows something of.
pub fn samples() -> Vec<Sample> {
    vec![Sample {
        name: "shapes.jpg",
        kind: "image/jpeg",
        bytes: include_bytes!("../pictures/shapes.jpg"),
    }]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    #[test]
    fn seconds_are_as_many_as_clocks_add_up() {
        for flag in ["--read-timeout", "--timeout", "--grace"] {
            let parse = |seconds: u64| {
                let line = Line::try_parse_from(["serve", flag, &seconds.to_string()]);
                line.map(|line| line.serve)
            };
            assert!(parse(u32::MAX.into()).is_ok(), "{flag}");
            assert!(parse(u64::MAX).is_err(), "{flag}");
        }
    }

    #[test]
    fn names_and_origins_are_plain() {
        for name in ["bunny", "org/name@main", "gpt-4o"] {
            assert!(served_name(name).is_ok(), "{name}");
        }
        for name in ["", "two words", "a\nb", "q?", "é", &"a".repeat(257)] {
            assert!(served_name(name).is_err(), "{name}");
        }
        for good in [
            "*",
            "https://chat.example",
            "http://localhost:3000",
            "http://[::1]:80",
        ] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "null",
            "chat.example",
            "https://",
            "https://a/",
            "https://*.a",
            "file://a",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
