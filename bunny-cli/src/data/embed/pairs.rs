//! What embeddings are made from: flags of `data embed`, and keys of the table `[embed]` of what
//! `data condense` follows.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const BATCH: NonZeroUsize = NonZeroUsize::new(64).unwrap();
const PART_FILES: NonZeroUsize = NonZeroUsize::new(10).unwrap();

fn batch() -> NonZeroUsize {
    BATCH
}

fn part_files() -> NonZeroUsize {
    PART_FILES
}

// One text for a flag's help and its key's.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairsArgs {
    /// The pictures: tar files as img2dataset and webdataset write them (a folder of them, one, or
    /// `shards/{00000..00231}.tar`), a folder of pictures with KEY.txt or KEY.json beside them, or
    /// Parquet files that hold pictures
    #[arg(long, value_name = "PATH")]
    pub images: PathBuf,
    /// Records that name pictures in --images and say their captions, as pretrain.json
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// The model: a folder, or `org/name[@revision]` on the hub
    #[arg(long, short)]
    pub model: String,
    /// Pairs that are encoded together
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    #[serde(default = "batch")]
    pub batch: NonZeroUsize,
    /// Tar files to one file of embeddings, which is what a run that is ended may lose; ten thousand
    /// pictures that lie in a folder count for one
    #[arg(long, value_name = "N", default_value_t = PART_FILES)]
    #[serde(default = "part_files")]
    pub part_files: NonZeroUsize,
    /// The first pairs alone
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroU64>,
}
