//! The benchmarks: their names, and what is known of their files.

use std::fmt;

use serde::Serialize;

use crate::named::named;
use crate::prompt::Template;
use crate::python::strip;

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

    /// Whether pictures are padded to a square where the model's configuration says so: ScienceQA's go
    /// to the processor as they are.
    pub fn pads_pictures(self) -> bool {
        self != Self::ScienceQa
    }

    /// Who scores it, where the right answers are not public or the figure of the paper is another's.
    pub fn server(self) -> Option<Server> {
        let (address, phase) = match self {
            Self::MmbenchDev => (
                "https://mmbench.opencompass.org.cn/mmbench-submission",
                "MMBench dev (EN)",
            ),
            Self::MmbenchTest => (
                "https://mmbench.opencompass.org.cn/mmbench-submission",
                "MMBench test (EN)",
            ),
            Self::MmmuTest => (
                "https://eval.ai/web/challenges/challenge-page/2179/overview",
                "Test",
            ),
            Self::Vqav2 => (
                "https://eval.ai/web/challenges/challenge-page/830",
                "Test-Dev",
            ),
            _ => return None,
        };
        Some(Server { address, phase })
    }

    /// What the reference keeps of an answer: stripped of white space, in two benchmarks of one
    /// end of text, too, and in MMMU of nothing.
    pub fn clean(self, template: Template, answer: &str) -> String {
        match self {
            Self::MmmuVal | Self::MmmuTest => answer.to_owned(),
            Self::MmbenchDev | Self::MmbenchTest | Self::ScienceQa => {
                let answer = strip(answer);
                strip(
                    answer
                        .strip_suffix(template.end_of_text())
                        .unwrap_or(answer),
                )
                .to_owned()
            }
            _ => strip(answer).to_owned(),
        }
    }
}

named!(Benchmark, UnknownBenchmark);

/// No benchmark has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBenchmark(pub String);

impl fmt::Display for UnknownBenchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Benchmark::ALL.map(Benchmark::name);
        write!(f, "there is no benchmark `{}`", self.0)?;
        match bunny_base::nearest(&self.0, names) {
            Some(near) => write!(f, ": did you mean `{near}`? There are ")?,
            None => f.write_str("; there are ")?,
        }
        f.write_str(&names.join(", "))
    }
}

impl std::error::Error for UnknownBenchmark {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_benchmark_is_told_with_the_nearest_one() {
        let told = "seedbench".parse::<Benchmark>().unwrap_err().to_string();
        assert!(told.contains("did you mean `seed-bench`"), "{told}");
        for benchmark in Benchmark::ALL {
            assert_eq!(benchmark.name().parse(), Ok(benchmark));
        }
    }

    // As the reference's scripts do, behind `batch_decode`.
    #[test]
    fn answers_are_kept_as_each_script_keeps_them() {
        let said = " \u{1c}A. </s> </s>\n";
        let kept = |benchmark: Benchmark| benchmark.clean(Template::MiniCpm, said);
        assert_eq!(kept(Benchmark::Mme), "A. </s> </s>");
        assert_eq!(kept(Benchmark::ScienceQa), "A. </s>");
        assert_eq!(kept(Benchmark::MmbenchDev), "A. </s>");
        assert_eq!(kept(Benchmark::MmmuTest), said);
    }
}
