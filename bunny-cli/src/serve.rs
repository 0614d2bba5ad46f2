//! `bunny-cli serve`: an OpenAI-compatible server, and a page to talk in.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bunny_serve::{Limits, Sample, Server};
use burn::tensor::backend::Backend;

use crate::{
    args::{BackendArgs, ModelArgs},
    backend::{Numbers, Work},
    load::BUILTIN,
};

/// What the built-in model is shown as by the page.
const BUILTIN_CARD: &str = "The built-in model knows its small world alone: drawn shapes, numbers and short words. \
    Whatever else it is shown, it will take for these.";

/// Serves a model to OpenAI's clients, and as a page to talk in.
///
/// Answers all requests at once; SIGINT or SIGTERM lets answers under way end, within --grace.
///
/// Example: bunny-cli serve --model BAAI/Bunny-v1_0-3B --port 8000
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port; 0 for any that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// What clients call the model; its own name unless given
    #[arg(long)]
    served_name: Option<String>,
    /// A key that clients must have
    #[arg(long, env = "BUNNY_API_KEY", hide_env_values = true)]
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
    /// Positions of prompts that are read between two tokens of running answers
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Requests that may wait; more are refused
    #[arg(long, default_value_t = 1024)]
    max_queue: usize,
    /// Pictures that a conversation may have
    #[arg(long, default_value_t = 16)]
    max_pictures: usize,
    /// Seconds that an answer may take
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Seconds that running answers have to end once the server was told to stop
    #[arg(long, default_value_t = 10)]
    grace: u64,
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
        let is_builtin = args.model.model == BUILTIN;
        let limits = Limits {
            slots: args.slots.into(),
            chunk: args.chunk as usize,
            queue: args.max_queue,
            pictures: args.max_pictures,
            timeout: Duration::from_secs(args.timeout),
            grace: Duration::from_secs(args.grace),
            api_key: key(args.api_key.as_deref(), args.api_key_file.as_deref())?,
            public_names: args.public_name.clone(),
            card: if is_builtin { BUILTIN_CARD.into() } else { String::new() },
            samples: if is_builtin { samples() } else { Vec::new() },
            ..Limits::default()
        };
        let name = args.served_name.as_deref().unwrap_or(&args.model.model);
        let pipeline = args.model.load::<B>(device, numbers)?;
        let server = Server::bind(SocketAddr::new(args.host, args.port), name, pipeline, limits)?;
        println!("{name} answers at http://{} (Ctrl-C ends it)", server.address());
        Ok(server.run()?)
    }
}

/// The key, from the line of a file where it is not given itself.
fn key(given: Option<&str>, file: Option<&std::path::Path>) -> Result<Option<String>> {
    let key = match (given, file) {
        (Some(key), _) => key.to_string(),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            text.trim().to_string()
        }
        (None, None) => return Ok(None),
    };
    match key.is_empty() {
        true => bail!("the key is empty: give one, or leave --api-key out"),
        false => Ok(Some(key)),
    }
}

/// Pictures that the built-in model knows something of.
fn samples() -> Vec<Sample> {
    vec![Sample {
        name: "shapes.jpg",
        kind: "image/jpeg",
        bytes: include_bytes!("../../examples/pictures/shapes.jpg"),
    }]
}
