//! The benchmarks' own files: questions, options, right answers.

pub(crate) mod gqa;
pub(crate) mod loader;
pub(crate) mod mmbench;
pub(crate) mod mme;
pub(crate) mod mmmu;
pub(crate) mod parquet;
pub(crate) mod pope;
pub(crate) mod scienceqa;
pub(crate) mod seed_bench;
pub(crate) mod vqav2;

use crate::benchmark::Benchmark;
use crate::error::Result;
use crate::folder::Folder;
use crate::question::Question;

/// Where the files come from that ship with the reference.
pub(crate) const REFERENCE_FILES: &str =
    "it ships with BAAI-DCAI/Bunny on github.com, in the folder eval";

/// The folder of a benchmark in `data`, which is that folder or holds it.
///
/// # Errors
/// When neither can be opened.
pub fn folder(benchmark: Benchmark, data: impl AsRef<std::path::Path>) -> Result<Folder> {
    Folder::of_benchmark(data, benchmark.folder_name())
}

/// What a benchmark asks, in its own order.
///
/// # Errors
/// When a file is missing or is not what it should be.
pub fn questions(benchmark: Benchmark, folder: &Folder) -> Result<Vec<Question>> {
    let mmmu = |split| {
        let rows = mmmu::rows(folder, split)?;
        Ok(rows.into_iter().map(|row| row.question).collect())
    };
    match benchmark {
        Benchmark::Mme => mme::questions(folder),
        Benchmark::MmbenchDev | Benchmark::MmbenchTest => {
            Ok(mmbench::Table::read(folder, benchmark)?.questions())
        }
        Benchmark::SeedBench => seed_bench::questions(folder),
        Benchmark::MmmuVal => mmmu("validation"),
        Benchmark::MmmuTest => mmmu("test"),
        Benchmark::Vqav2 => vqav2::questions(folder),
        Benchmark::Gqa => gqa::questions(folder),
        Benchmark::ScienceQa => scienceqa::questions(folder),
        Benchmark::Pope => pope::questions(folder),
    }
}
