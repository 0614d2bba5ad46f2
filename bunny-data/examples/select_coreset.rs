//! Selects a coreset with the paper's options, within a given amount of memory.
//!
//! ```text
//! cargo run --release -p bunny-data --example select_coreset -- EMBEDDINGS OUT 2048
//! ```
//! The last argument is the memory in MiB. Tells on stderr when each stage begins, and prints the
//! steps as one JSON line.

use std::time::Instant;

use bunny_data::coreset::engine::Local;
use bunny_data::coreset::{
    CoresetOptions, Division, OutputOptions, Paths, Progress, TileSize, Worker, select,
};

/// Says when a stage begins.
struct Clock(Instant);

impl Progress for Clock {
    fn begin(&self, stage: &str, total: u64) {
        let seconds = self.0.elapsed().as_secs_f64();
        eprintln!("{seconds:8.1} s  {stage} ({total})");
    }

    fn advance(&self, _units: u64) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [embeddings, out, mebibytes] = &args[..] else {
        return Err("usage: select_coreset EMBEDDINGS OUT MEBIBYTES".into());
    };
    let worker = Worker {
        memory: mebibytes.parse::<u64>()? << 20,
        tile: TileSize::default(),
        progress: &Clock(Instant::now()),
    };
    let paths = Paths {
        embeddings: embeddings.into(),
        out: out.into(),
        work: None,
        keep_work: false,
        force: false,
        division: Division::default(),
    };
    let engine = Local::new(None, worker)?;
    let (options, outputs) = (CoresetOptions::default(), OutputOptions::default());
    let report = select(&engine, &paths, &options, &outputs)?;
    println!("{}", serde_json::to_string(&report.steps())?);
    Ok(())
}
