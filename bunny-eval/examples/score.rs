//! Scores a file of answers: `cargo run -p bunny-eval --example score -- pope eval answers.jsonl`.

use std::error::Error;
use std::time::Instant;

use bunny_eval::score::Suite;
use bunny_eval::{Benchmark, Convention, folder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [benchmark, data, answers, rest @ ..] = &arguments[..] else {
        return Err("usage: score BENCHMARK DATA ANSWERS [CONVENTION]".into());
    };
    let benchmark: Benchmark = benchmark.parse()?;
    let convention: Convention = match rest {
        [name, ..] => name.parse()?,
        [] => Convention::default(),
    };

    let started = Instant::now();
    let suite = Suite::read(benchmark, folder(benchmark, data)?)?;
    let report = suite.score(&suite.answers(answers)?, convention)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    eprintln!("{:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
