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
