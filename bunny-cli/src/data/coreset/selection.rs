//! What the kept keys depend on: flags of `data coreset`, and keys of the table `[coreset]` of what
//! `data condense` follows.

use std::num::NonZeroU64;
use std::path::PathBuf;

use bunny_data::coreset::{
    ClusterOptions, CoresetOptions, DuplicateOptions, Edge, Geometry, Group, Invalid, Keep, Median,
    MissingImages, Order, Scope, Search, Similarity, Start, Window, WindowOptions,
};
use bunny_data::embeddings::EmbeddingOptions;
use clap::{Args, Command, FromArgMatches};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::choice::{choice, count};

/// The headings of the flags.
const CLUSTERS: &str = "Clusters";
const DUPLICATES: &str = "Step 1: duplicates";
const WINDOWS: &str = "Steps 2 and 3: windows";
pub const FILES: &str = "Files";

// One text for a flag's help and its key's: what a flag is called there, `--start-from`, is renamed in
// the schema.
#[derive(Debug, Clone, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SelectionArgs {
    /// Rows to draw from what the steps leave; all by default
    #[arg(long, value_name = "N|all", default_value = "all", value_parser = sample)]
    pub sample: Draw,
    /// What every draw hangs on
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// What becomes of rows with NaN or zero embeddings
    #[arg(long, default_value = "error", value_parser = choice::<Invalid>(&["error", "drop"]))]
    pub invalid: Invalid,

    /// Clusters to train; by default the paper's 100,000, or as many as leave its 20,533 rows to
    /// each, or those of --start-from
    #[arg(long, value_name = "K", value_parser = count(0..=0xffff_ffff), help_heading = CLUSTERS)]
    pub clusters: Option<u64>,
    /// Use the centroids of this .npy file as they are
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clusters", "start_from"], help_heading = CLUSTERS)]
    pub centroids: Option<PathBuf>,
    /// Start training from the centroids of this .npy file
    #[arg(long, value_name = "FILE", help_heading = CLUSTERS)]
    pub start_from: Option<PathBuf>,
    /// What "near" means
    #[arg(long, default_value = "euclidean", value_parser = choice::<Geometry>(&["euclidean", "spherical"]), help_heading = CLUSTERS)]
    pub geometry: Geometry,
    /// Where training starts
    #[arg(long, default_value = "random", value_parser = choice::<Start>(&["random", "plus-plus"]), help_heading = CLUSTERS)]
    pub start: Start,
    /// Rounds of k-means on one sample, at most
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().iterations, help_heading = CLUSTERS)]
    pub iterations: u32,
    /// Samples to train on, one after the other
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().epochs, help_heading = CLUSTERS)]
    pub epochs: u32,
    /// Rows of a sample for each centroid
    #[arg(long, value_name = "N", default_value_t = ClusterOptions::default().rows_per_centroid, help_heading = CLUSTERS)]
    pub rows_per_centroid: u64,
    /// Search the centroids in two levels, in this many groups: faster and not exact; the report
    /// says how often both agree
    #[arg(long, value_name = "N", help_heading = CLUSTERS)]
    pub probes: Option<u32>,

    /// Rows of a cluster this similar are duplicates
    #[arg(long, value_name = "COSINE", default_value_t = DuplicateOptions::default().threshold, help_heading = DUPLICATES)]
    pub threshold: f64,
    /// Whether the threshold itself is similar enough
    #[arg(long, default_value = "above", value_parser = choice::<Edge>(&["above", "at-least"]), help_heading = DUPLICATES)]
    pub edge: Edge,
    /// What is held against the threshold, and ranked later
    #[arg(long, default_value = "cosine", value_parser = choice::<Similarity>(&["cosine", "dot"]), help_heading = DUPLICATES)]
    pub similarity: Similarity,
    /// What a group of duplicates is: a connected component, or what SemDeDup's rule removes
    #[arg(long, default_value = "components", value_parser = choice::<Group>(&["components", "semdedup"]), help_heading = DUPLICATES)]
    pub group: Group,
    /// Which of a group stays, by distance to the centroid; median by default, far for semdedup
    #[arg(long, value_parser = choice::<Keep>(&["median", "far", "near", "random", "max-score"]), help_heading = DUPLICATES)]
    pub keep: Option<Keep>,
    /// Which of the two middle rows of an even group is its median
    #[arg(long, default_value = "upper", value_parser = choice::<Median>(&["upper", "lower"]), help_heading = DUPLICATES)]
    pub median: Median,

    /// Ranks to keep by the cosine of image and text, in percent, or none to keep all
    #[arg(long, value_name = "FROM-TO", default_value = "40-60", value_parser = range, help_heading = WINDOWS)]
    pub score_window: Range,
    /// Which rank by image and text is 0 %
    #[arg(long, default_value = "descending", value_parser = choice::<Order>(&["descending", "ascending"]), help_heading = WINDOWS)]
    pub score_order: Order,
    /// Ranks to keep by the cosine of image and centroid, in percent, or none to keep all
    #[arg(long, value_name = "FROM-TO", default_value = "15-35", value_parser = range, help_heading = WINDOWS)]
    pub centroid_window: Range,
    /// Which rank by image and centroid is 0 %
    #[arg(long, default_value = "descending", value_parser = choice::<Order>(&["descending", "ascending"]), help_heading = WINDOWS)]
    pub centroid_order: Order,
    /// What is ranked together
    #[arg(long, default_value = "global", value_parser = choice::<Scope>(&["global", "per-cluster"]), help_heading = WINDOWS)]
    pub window_scope: Scope,

    /// The metadata column of the keys; key, uid, image_path or id by default
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    pub key_column: Option<String>,
    /// The metadata column of the captions; caption, text or TEXT by default
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    pub caption_column: Option<String>,
    /// The metadata column of the pictures' addresses; url or URL by default
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    pub url_column: Option<String>,
    /// Take the similarity of image and text from this metadata column
    #[arg(long, value_name = "NAME", help_heading = FILES)]
    pub score_column: Option<String>,
    /// What becomes of kept keys whose image is not there
    #[arg(long, default_value = "error", value_parser = choice::<MissingImages>(&["error", "skip"]), help_heading = FILES)]
    pub missing_images: MissingImages,
}

impl Default for SelectionArgs {
    /// What a command line without any of the flags says.
    fn default() -> Self {
        let none = Self::augment_args(Command::new("")).get_matches_from([""]);
        Self::from_arg_matches(&none).unwrap_or_else(|error| error.exit())
    }
}

impl SelectionArgs {
    /// The options of the library; the arrays or columns of the embeddings have their usual names.
    pub fn options(&self) -> CoresetOptions {
        let window = |range: Range, order| {
            range.0.map(|(from, to)| Window {
                from,
                to,
                order,
                scope: self.window_scope,
            })
        };
        CoresetOptions {
            embeddings: EmbeddingOptions {
                key_column: self.key_column.clone(),
                caption_column: self.caption_column.clone(),
                url_column: self.url_column.clone(),
                score_column: self.score_column.clone(),
                ..EmbeddingOptions::default()
            },
            seed: self.seed,
            invalid: self.invalid,
            clusters: ClusterOptions {
                count: self.clusters,
                centroids: self.centroids.clone(),
                start_from: self.start_from.clone(),
                geometry: self.geometry,
                start: self.start,
                iterations: self.iterations,
                epochs: self.epochs,
                rows_per_centroid: self.rows_per_centroid,
                search: self
                    .probes
                    .map_or(Search::Exact, |probes| Search::TwoLevel { probes }),
            },
            duplicates: DuplicateOptions {
                threshold: self.threshold,
                edge: self.edge,
                similarity: self.similarity,
                group: self.group,
                keep: self.keep,
                median: self.median,
            },
            windows: WindowOptions {
                score: window(self.score_window, self.score_order),
                centroid: window(self.centroid_window, self.centroid_order),
            },
            sample: self.sample.0.map(NonZeroU64::get),
        }
    }
}

/// How many rows are drawn; `None` is all, which a file says by saying nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Draw(Option<NonZeroU64>);

fn sample(text: &str) -> Result<Draw, String> {
    match text {
        "all" => Ok(Draw(None)),
        _ => match text.parse() {
            Ok(rows) => Ok(Draw(Some(rows))),
            _ => Err("a number from 1 on, or all".to_owned()),
        },
    }
}

/// Ranks in basis points; `None` keeps all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Range(Option<(u32, u32)>);

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        range(&text)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        let percent = |points: u32| match (points / 100, points % 100) {
            (whole, 0) => whole.to_string(),
            (whole, part) => format!("{whole}.{part:02}"),
        };
        match range.0 {
            None => "none".to_owned(),
            Some((from, to)) => format!("{}-{}", percent(from), percent(to)),
        }
    }
}

/// `40-60`, with at most two decimals each, or `none`.
fn range(text: &str) -> Result<Range, String> {
    let points = |text: &str| {
        let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 2 {
            return None;
        }
        if !digits(whole) || !digits(decimals) {
            return None;
        }
        format!("{whole}{decimals:0<2}").parse::<u32>().ok()
    };
    if text == "none" {
        return Ok(Range(None));
    }
    let ends = text
        .split_once('-')
        .and_then(|(from, to)| points(from).zip(points(to)));
    match ends {
        Some((from, to)) if from < to && to <= 10_000 => Ok(Range(Some((from, to)))),
        _ => Err("a range of percent as 40-60 or 12.5-37.25, or none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_percent_with_two_decimals() {
        for (text, points, again) in [
            ("40-60", Some((4000, 6000)), "40-60"),
            ("12.5-37.25", Some((1250, 3725)), "12.50-37.25"),
            ("0-100", Some((0, 10_000)), "0-100"),
            ("0.05-5.0", Some((5, 500)), "0.05-5"),
            ("none", None, "none"),
        ] {
            let range = range(text).unwrap();
            assert_eq!(range.0, points);
            assert_eq!(String::from(range), again);
        }
        for wrong in [
            "60-40", "40", "40-101", "1.234-5", "-1-5", "a-b", "40-40", "",
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_flags_and_without_keys_it_is_what_the_library_takes() {
        let library = CoresetOptions::default();
        assert_eq!(SelectionArgs::default().options(), library);
        let keys: SelectionArgs = bunny_data::parse_toml("none.toml", "").unwrap();
        assert_eq!(keys.options(), library);
    }
}
