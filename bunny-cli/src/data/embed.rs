//! `bunny-cli data embed`: pictures and captions to the embeddings that `data coreset` selects by.

mod encoder;
mod pairs;

use std::{
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, bail};
use bunny_core::{
    checkpoint::{OpenPair, Wanted},
    model::pair::{Pair, describe_pair},
};
use bunny_data::embed::{
    EmbedOptions, EmbedReport, EmbedSource, SourceOptions, embed, is_embeddings,
};
use burn::tensor::backend::Backend;

use crate::{
    Format,
    args::{BackendArgs, MemoryArgs},
    backend::{Numbers, Work},
    eval::of_folder,
    files::OutputFolder,
    load::folder,
    progress::{Pairs, tell},
};
use encoder::PairEncoder;

pub use pairs::PairsArgs;

/// Makes embeddings of pictures and captions, from which `data coreset` selects.
///
/// The model is a CLIP or a SigLIP as transformers saves one, or what stage `contrastive` of `train`
/// left. Pictures and captions are prepared as that model's own are. Written is what clip-retrieval
/// writes: img_emb/, text_emb/ and metadata/, rows of 16-bit numbers of length 1, in the order of the
/// files. Pictures that are broken or have no caption are left out, counted, and listed in stats/.
///
/// An interrupted run goes on where it was when it is started again. The same pictures, model and
/// options give the same files.
///
/// Example: bunny-cli data embed --images laion/ --model openai/clip-vit-large-patch14 --out embedded/
#[derive(Debug, clap::Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    pairs: PairsArgs,
    /// The folder to write: new, empty, or one of these embeddings that is not finished
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace embeddings of other pictures, of another model or with other options
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The embedding of a source that is open, whatever the backend.
struct Embedding<'a> {
    args: &'a EmbedArgs,
    source: EmbedSource,
    open: OpenPair,
    fingerprint: String,
}

impl Work for Embedding<'_> {
    type Output = EmbedReport;

    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<EmbedReport> {
        let Self {
            args,
            source,
            open,
            fingerprint,
        } = self;
        let precision = numbers.precision::<B>(&device, open.stored_format())?;
        if numbers.is_in_main_memory() {
            let bytes = precision.bytes(&describe_pair(&open.config));
            let what = format!("a pair of towers of {precision}");
            args.memory.require(&what, bytes, "take another --dtype")?;
        }
        let pair = Pair::<B>::load(&open.config, &open.weights, precision, &device)?;
        let encoder = PairEncoder {
            pair,
            fingerprint: format!("{fingerprint}, {precision} on {}", numbers.backend()),
            tokenizer: open.tokenizer,
            processor: open.image_processor,
        };
        let options = EmbedOptions {
            batch: args.pairs.batch.get(),
            limit: args.pairs.limit.map(NonZeroU64::get),
            force: args.force,
        };
        let bar = Pairs::new();
        let told = |at: bunny_data::embed::EmbedProgress| bar.show(at.part, at.parts, at.pairs);
        Ok(embed(&source, &args.out, &encoder, &options, &told)?)
    }
}

/// Runs the verb.
///
/// # Errors
/// When the pictures or the model cannot be opened, --out holds something else, or a file cannot be
/// written.
pub fn run(args: EmbedArgs) -> Result<()> {
    let start = Instant::now();
    let report = args.embed()?;
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    print(&report, start.elapsed().as_secs_f64());
    println!(
        "\nto select from them   bunny-cli data coreset --embeddings {} --out DIR",
        word(&args.out)
    );
    Ok(())
}

impl EmbedArgs {
    /// Of these pairs into a folder, whatever it is printed as.
    pub fn new(
        pairs: PairsArgs,
        out: PathBuf,
        force: bool,
        memory: MemoryArgs,
        backend: BackendArgs,
    ) -> Self {
        Self {
            pairs,
            out,
            force,
            memory,
            backend,
            format: Format::Text,
        }
    }

    /// Embeds.
    ///
    /// # Errors
    /// As [`run`].
    pub fn embed(&self) -> Result<EmbedReport> {
        if self.backend.weights.is_some() {
            bail!(
                "--weights is for language models: --vision-weights int8 is for both towers of a pair"
            );
        }
        let backend = self.backend.without_cache()?;
        let source = SourceOptions {
            records: self.pairs.records.clone(),
            part_files: self.pairs.part_files.get(),
        };
        let source = EmbedSource::open(&self.pairs.images, &source)?;
        let model = folder(&self.pairs.model, Wanted::Model)?;
        let embedding = Embedding {
            source,
            open: OpenPair::open(&model)?,
            fingerprint: of_folder(&model)?,
            args: self,
        };
        // What is made from what is looked at before anything is written over.
        let _folder = OutputFolder::take(&self.out, self.force || is_embeddings(&self.out))?;
        let report = backend.run(embedding)?;
        if report.counts.is_none() {
            bail!("{}: not all of it is there", self.out.display());
        }
        Ok(report)
    }
}

/// Says what came of it.
pub fn print(report: &EmbedReport, seconds: f64) {
    let Some(counts) = &report.counts else {
        return;
    };
    println!(
        "{} pairs, {} numbers each, in {seconds:.1} s",
        counts.pairs, report.dims
    );
    for (count, what) in [
        (counts.broken, "pictures are broken: stats/ lists them"),
        (counts.without_caption, "pictures have no caption"),
        (counts.without_picture, "captions have no picture"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    for picture in &report.broken {
        tell(format_args!("{}: {}", picture.image_path, picture.problem));
    }
}

fn word(path: &Path) -> String {
    crate::shell::word(&path.to_string_lossy()).to_string()
}
