//! What is known of each benchmark's files: where they come from, how many, their hashes, licence.

use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::benchmark::Benchmark;

/// A file or folder of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedFile {
    /// Its path in the benchmark's folder; a folder ends in a slash.
    pub name: &'static str,
    /// What it holds.
    pub holds: &'static str,
    /// Where it comes from.
    pub from: &'static str,
    /// Its id as a blob of git, which `git hash-object FILE` prints too, where it is known.
    pub blob: Option<&'static str>,
}

/// What is known of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its full name and split.
    pub title: &'static str,
    /// How many questions it asks, where it is known for sure.
    pub questions: Option<usize>,
    /// How many pictures they are about, where it is known for sure.
    pub pictures: Option<usize>,
    /// Its files.
    pub files: &'static [PublishedFile],
    /// What its makers allow, in their words' sense; read theirs before you use it.
    pub licence: &'static str,
    /// The figures of the paper's table that it gives.
    pub figures: &'static str,
}

const BUNNY: &str = "github.com/BAAI-DCAI/Bunny, in eval/";

const fn file(
    name: &'static str,
    holds: &'static str,
    from: &'static str,
    blob: Option<&'static str>,
) -> PublishedFile {
    PublishedFile {
        name,
        holds,
        from,
        blob,
    }
}

const MME: [PublishedFile; 2] = [
    file(
        "bunny_mme.jsonl",
        "questions",
        BUNNY,
        Some("988f43beaee428201dbec6d89e61fa2872ff99a6"),
    ),
    file(
        "MME_Benchmark_release_version/",
        "pictures, and beside them the right answers",
        "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation",
        None,
    ),
];
const MMBENCH_FROM: &str = "github.com/open-compass/MMBench, the link that it calls legacy";
const MMBENCH_DEV: [PublishedFile; 1] = [file(
    "MMBench_DEV_EN_legacy.tsv",
    "questions, pictures and right answers",
    MMBENCH_FROM,
    None,
)];
const MMBENCH_TEST: [PublishedFile; 1] = [file(
    "MMBench_TEST_EN_legacy.tsv",
    "questions and pictures",
    MMBENCH_FROM,
    None,
)];
const SEED_FROM: &str = "github.com/AILab-CVC/SEED-Bench, DATASET.md";
const SEED: [PublishedFile; 4] = [
    file(
        "bunny-seed-bench.jsonl",
        "questions",
        BUNNY,
        Some("32b225a3c310e5a7c5bdb90e3af0e49f07543593"),
    ),
    file(
        "SEED-Bench.json",
        "right answers",
        BUNNY,
        Some("7ebe8584b8e5d0b28436db76df549c5c4f577dce"),
    ),
    file(
        "SEED-Bench-image/",
        "pictures, their names without an ending",
        SEED_FROM,
        None,
    ),
    file(
        "SEED-Bench-video-image/",
        "a middle frame of each video, taken by Bunny's extract_video_frames.py",
        SEED_FROM,
        None,
    ),
];
const MMMU_FROM: &str = "huggingface.co/datasets/MMMU/MMMU";
const MMMU_VAL: [PublishedFile; 2] = [
    file(
        "MMMU/",
        "questions and pictures: 30 folders of Parquet, validation-*",
        MMMU_FROM,
        None,
    ),
    file(
        "answer_dict_val.json",
        "right answers",
        BUNNY,
        Some("a47441b6a228db1e1a11c875a11e0423d0101b5f"),
    ),
];
const MMMU_TEST: [PublishedFile; 1] = [file(
    "MMMU/",
    "questions and pictures: 30 folders of Parquet, test-*",
    MMMU_FROM,
    None,
)];
const VQAV2: [PublishedFile; 3] = [
    file(
        "bunny_vqav2_mscoco_test-dev2015.jsonl",
        "questions",
        BUNNY,
        Some("9318e09898d2697bb2fccdd0e9a59965ea10e7fa"),
    ),
    file(
        "bunny_vqav2_mscoco_test2015.jsonl",
        "the whole test set, which a submission covers",
        BUNNY,
        None,
    ),
    file(
        "test2015/",
        "pictures",
        "images.cocodataset.org/zips/test2015.zip",
        None,
    ),
];
const GQA: [PublishedFile; 3] = [
    file(
        "bunny_gqa_testdev_balanced.jsonl",
        "questions",
        BUNNY,
        Some("c6523fe500910679e7acfb2beb32646fe6433e07"),
    ),
    file(
        "testdev_balanced_questions.json",
        "right answers",
        BUNNY,
        Some("fdb3c9c2a2a2c20397c98cae1e062b4ab412c963"),
    ),
    file(
        "images/",
        "pictures",
        "downloads.cs.stanford.edu/nlp/data/gqa/images.zip",
        None,
    ),
];
const SQA_FROM: &str = "scienceqa.github.io";
const SQA: [PublishedFile; 4] = [
    file(
        "bunny_test_CQM-A.json",
        "questions",
        BUNNY,
        Some("605d1f400a3dcde4288a9d1972817089a6dcfced"),
    ),
    file("problems.json", "right answers", SQA_FROM, None),
    file(
        "pid_splits.json",
        "which questions are the test",
        SQA_FROM,
        None,
    ),
    file("test/", "pictures", SQA_FROM, None),
];
const POPE_FROM: &str = "github.com/AoiDragon/POPE at commit e3e39262, output/coco";
const POPE: [PublishedFile; 5] = [
    file(
        "bunny_pope_test.jsonl",
        "questions",
        BUNNY,
        Some("a4c91b8bba9b32975a3352af62ceb495239fe731"),
    ),
    file(
        "coco/coco_pope_random.json",
        "right answers",
        POPE_FROM,
        Some("a8dd9bbc2fb4c424d9902b89612128801b104ac2"),
    ),
    file(
        "coco/coco_pope_popular.json",
        "right answers",
        POPE_FROM,
        Some("97ebfd7a3cd5d43ec0f1d604635a1fe96b3c936a"),
    ),
    file(
        "coco/coco_pope_adversarial.json",
        "right answers",
        POPE_FROM,
        Some("65ccf25e16370b4145ba507be45fa085c0763490"),
    ),
    file(
        "val2014/",
        "pictures",
        "images.cocodataset.org/zips/val2014.zip",
        None,
    ),
];
const COCO: &str = "questions CC BY 4.0; pictures of COCO under the terms of Flickr";

impl Benchmark {
    /// What is known of its files.
    pub fn facts(self) -> Facts {
        let facts = |title, questions, pictures, files, licence, figures| Facts {
            title,
            questions,
            pictures,
            files,
            licence,
            figures,
        };
        match self {
            Self::Mme => facts(
                "MME",
                Some(2374),
                Some(1187),
                &MME,
                "academic research only, no commercial use, not to be passed on without its makers' approval",
                "MME^P, MME^C",
            ),
            Self::MmbenchDev => facts(
                "MMBench dev (English), legacy",
                None,
                None,
                &MMBENCH_DEV,
                "CC BY 4.0",
                "MMB^D",
            ),
            Self::MmbenchTest => facts(
                "MMBench test (English), legacy",
                None,
                None,
                &MMBENCH_TEST,
                "CC BY 4.0",
                "MMB^T",
            ),
            Self::SeedBench => facts(
                "SEED-Bench-1",
                Some(19_242),
                None,
                &SEED,
                "CC BY-NC 4.0",
                "SEED (pictures and videos)",
            ),
            Self::MmmuVal => facts(
                "MMMU validation",
                Some(900),
                None,
                &MMMU_VAL,
                "Apache-2.0",
                "MMMU^V",
            ),
            Self::MmmuTest => facts(
                "MMMU test",
                Some(10_500),
                None,
                &MMMU_TEST,
                "Apache-2.0",
                "MMMU^T",
            ),
            Self::Vqav2 => facts(
                "VQAv2 test-dev",
                Some(107_394),
                Some(36_807),
                &VQAV2,
                COCO,
                "VQAv2",
            ),
            Self::Gqa => facts(
                "GQA testdev-balanced",
                Some(12_578),
                Some(398),
                &GQA,
                "CC BY 4.0",
                "GQA",
            ),
            Self::ScienceQa => facts(
                "ScienceQA test",
                Some(4241),
                Some(2017),
                &SQA,
                "CC BY-NC-SA 4.0",
                "SQA^I",
            ),
            Self::Pope => facts(
                "POPE",
                Some(8910),
                Some(500),
                &POPE,
                "labels MIT; pictures of COCO under the terms of Flickr",
                "POPE",
            ),
        }
    }
}

/// The id of some bytes as a blob of git.
pub fn blob_id(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_id_is_gits() {
        // `git hash-object`, of nothing and of "what is up, doc?".
        assert_eq!(blob_id(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(
            blob_id(b"what is up, doc?"),
            "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
        );
    }

    #[test]
    fn every_known_hash_is_one() {
        for benchmark in Benchmark::ALL {
            for file in benchmark.facts().files {
                let is_hash = |blob: &str| {
                    blob.len() == 40 && blob.bytes().all(|byte| byte.is_ascii_hexdigit())
                };
                assert!(file.blob.is_none_or(is_hash), "{benchmark}: {}", file.name);
            }
        }
    }
}
