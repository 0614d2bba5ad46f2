//! The benchmarks: their names, and what is known of their files.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::Question;
use crate::suites;

/// A benchmark of the paper. MME gives two of its eleven figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Benchmark {
    /// MME: yes or no, fourteen categories.
    Mme,
    /// MMBench, English, dev.
    MmbenchDev,
    /// MMBench, English, test.
    MmbenchTest,
    /// SEED-Bench-1, pictures and videos.
    SeedBench,
    /// MMMU, validation.
    MmmuVal,
    /// MMMU, test.
    MmmuTest,
    /// VQAv2, test-dev.
    Vqav2,
    /// GQA, testdev-balanced.
    Gqa,
    /// ScienceQA, test.
    ScienceQa,
    /// POPE.
    Pope,
}

/// Where the files come from that ship with the reference.
pub(crate) const REFERENCE_FILES: &str =
    "it ships with BAAI-DCAI/Bunny on github.com, in the folder eval";

/// Who scores what is not scored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Where the file goes.
    pub address: &'static str,
    /// Which of its phases.
    pub phase: &'static str,
}

impl Benchmark {
    /// Every benchmark, in the order of the paper's table.
    pub const ALL: [Self; 10] = [
        Self::Mme,
        Self::MmbenchTest,
        Self::MmbenchDev,
        Self::SeedBench,
        Self::MmmuVal,
        Self::MmmuTest,
        Self::Vqav2,
        Self::Gqa,
        Self::ScienceQa,
        Self::Pope,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mme => "mme",
            Self::MmbenchDev => "mmbench-dev",
            Self::MmbenchTest => "mmbench-test",
            Self::SeedBench => "seed-bench",
            Self::MmmuVal => "mmmu-val",
            Self::MmmuTest => "mmmu-test",
            Self::Vqav2 => "vqav2",
            Self::Gqa => "gqa",
            Self::ScienceQa => "scienceqa",
            Self::Pope => "pope",
        }
    }

    /// The name of its folder: both splits of MMBench share one, and those of MMMU.
    pub fn folder_name(self) -> &'static str {
        match self {
            Self::MmbenchDev | Self::MmbenchTest => "mmbench",
            Self::MmmuVal | Self::MmmuTest => "mmmu",
            other => other.name(),
        }
    }

    /// The most tokens of an answer, as the reference has it.
    pub fn max_new_tokens(self) -> usize {
        if self == Self::ScienceQa { 1024 } else { 128 }
    }

    /// Who scores it, where the right answers are not public or the figure of the paper is another's.
    pub fn server(self) -> Option<Server> {
        let (address, phase) = match self {
            Self::MmbenchDev => ("https://mmbench.opencompass.org.cn/mmbench-submission", "MMBench dev (EN)"),
            Self::MmbenchTest => ("https://mmbench.opencompass.org.cn/mmbench-submission", "MMBench test (EN)"),
            Self::MmmuTest => ("https://eval.ai/web/challenges/challenge-page/2179/overview", "Test"),
            Self::Vqav2 => ("https://eval.ai/web/challenges/challenge-page/830", "Test-Dev"),
            _ => return None,
        };
        Some(Server { address, phase })
    }

    /// Its folder in `data`, which is that folder or holds it.
    ///
    /// # Errors
    /// When neither can be opened.
    pub fn folder(self, data: impl AsRef<std::path::Path>) -> Result<Folder> {
        Folder::of_benchmark(data, self.folder_name())
    }

    /// What it asks, in its own order.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be.
    pub fn questions(self, folder: &Folder) -> Result<Vec<Question>> {
        match self {
            Self::Mme => suites::mme::questions(folder),
            Self::Pope => suites::pope::questions(folder),
            Self::MmmuVal => mmmu(folder, "validation"),
            Self::MmmuTest => mmmu(folder, "test"),
            Self::MmbenchDev | Self::MmbenchTest => {
                Ok(suites::mmbench::Table::read(folder, self)?.questions())
            }
            Self::SeedBench => suites::seed_bench::questions(folder),
            Self::Vqav2 => suites::vqav2::questions(folder),
            Self::Gqa => suites::gqa::questions(folder),
            Self::ScienceQa => suites::scienceqa::questions(folder),
        }
    }
}

fn mmmu(folder: &Folder, split: &str) -> Result<Vec<Question>> {
    let rows = suites::mmmu::rows(folder, split)?;
    Ok(rows.into_iter().map(|row| row.question).collect())
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Benchmark {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|benchmark| benchmark.name() == name);
        found.ok_or_else(|| EvalError::UnknownBenchmark {
            name: name.to_owned(),
        })
    }
}

impl Serialize for Benchmark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
