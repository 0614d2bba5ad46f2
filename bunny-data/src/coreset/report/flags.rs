//! The options of a selection as a table, by the names of their flags.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::coreset::options::{CoresetOptions, Search, Window};
use crate::html;

/// What the table looks like.
pub(super) const STYLE: &str = "table.options td{text-align:left}tr.set{font-weight:600}\
tr.set td:first-child{border-left:4px solid #c2410c;padding-left:.6rem}";

/// A flag, what was said, and what it means to say nothing.
type Flag = (&'static str, Option<String>, &'static str);

/// All flags; those that say something else than the default are marked, with the default beside them.
pub(super) fn table(options: &CoresetOptions) -> String {
    let mut table = String::from("<table class=\"options\">\n");
    let usual = flags(&CoresetOptions::default());
    for ((flag, said, unsaid), (_, default, _)) in flags(options).into_iter().zip(usual) {
        let is_set = said.is_some() && said != default;
        let (class, beside) = match is_set {
            true => {
                let default = default.as_deref().unwrap_or(unsaid);
                (" class=\"set\"", format!("default: {default}"))
            }
            false => ("", String::new()),
        };
        let _ = writeln!(
            table,
            "<tr{class}><td>{flag}</td><td>{}</td><td>{beside}</td></tr>",
            html::escape(said.as_deref().unwrap_or(unsaid))
        );
    }
    table + "</table>\n"
}

fn flags(options: &CoresetOptions) -> Vec<Flag> {
    let CoresetOptions {
        embeddings,
        clusters,
        duplicates,
        windows,
        ..
    } = options;
    let probes = match clusters.search {
        Search::Exact => None,
        Search::TwoLevel { probes } => Some(probes.to_string()),
    };
    let scopes = [windows.score, windows.centroid].into_iter().flatten();
    let mut scopes: Vec<String> = scopes.filter_map(|window| text(&window.scope)).collect();
    scopes.dedup();
    let scope = (!scopes.is_empty()).then(|| scopes.join(", "));
    let order = |window: Option<Window>| text(&window?.order);
    vec![
        ("--sample", text(&options.sample), "all"),
        ("--seed", text(&options.seed), ""),
        ("--invalid", text(&options.invalid), ""),
        ("--clusters", text(&clusters.count), "by the rows there are"),
        ("--centroids", text(&clusters.centroids), "trained"),
        ("--start-from", text(&clusters.start_from), "nothing"),
        ("--geometry", text(&clusters.geometry), ""),
        ("--start", text(&clusters.start), ""),
        ("--iterations", text(&clusters.iterations), ""),
        ("--epochs", text(&clusters.epochs), ""),
        ("--rows-per-centroid", text(&clusters.rows_per_centroid), ""),
        ("--probes", probes, "none: the search is exact"),
        ("--threshold", text(&duplicates.threshold), ""),
        ("--edge", text(&duplicates.edge), ""),
        ("--similarity", text(&duplicates.similarity), ""),
        ("--group", text(&duplicates.group), ""),
        ("--keep", text(&duplicates.keep), "as --group has it"),
        ("--median", text(&duplicates.median), ""),
        ("--score-window", Some(percent(windows.score)), ""),
        ("--score-order", order(windows.score), "without a window"),
        ("--centroid-window", Some(percent(windows.centroid)), ""),
        (
            "--centroid-order",
            order(windows.centroid),
            "without a window",
        ),
        ("--window-scope", scope, "without a window"),
        ("--key-column", text(&embeddings.key_column), "as usual"),
        (
            "--caption-column",
            text(&embeddings.caption_column),
            "as usual",
        ),
        ("--url-column", text(&embeddings.url_column), "as usual"),
        (
            "--score-column",
            text(&embeddings.score_column),
            "none: of the embeddings",
        ),
        ("--image-array", text(&embeddings.image_array), "as usual"),
        ("--text-array", text(&embeddings.text_array), "as usual"),
    ]
}

/// A value as its flag takes it; none where nothing was said.
fn text(value: &impl Serialize) -> Option<String> {
    match serde_json::to_value(value).ok()? {
        Value::Null => None,
        Value::String(text) => Some(text),
        value => Some(value.to_string()),
    }
}

/// A range of ranks as `40-60`, in percent.
fn percent(window: Option<Window>) -> String {
    let percent = |points: u32| f64::from(points) / 100.0;
    match window {
        None => "none".to_owned(),
        Some(window) => format!("{}-{}", percent(window.from), percent(window.to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coreset::options::Order;

    #[test]
    fn what_was_set_is_marked_with_its_default_beside_it() {
        assert!(!table(&CoresetOptions::default()).contains("class=\"set\""));
        let mut options = CoresetOptions {
            sample: Some(20),
            ..CoresetOptions::default()
        };
        options.duplicates.threshold = 0.9;
        options.clusters.start_from = Some("<here>.npy".into());
        options.windows.score = Some(Window {
            order: Order::Ascending,
            ..Window::new(1250, 3725)
        });
        options.windows.centroid = None;
        let page = table(&options);
        let marked: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("<tr class=\"set\">"))
            .collect();
        assert_eq!(
            marked,
            [
                "<td>--sample</td><td>20</td><td>default: all</td></tr>",
                "<td>--start-from</td><td>&lt;here&gt;.npy</td><td>default: nothing</td></tr>",
                "<td>--threshold</td><td>0.9</td><td>default: 0.86</td></tr>",
                "<td>--score-window</td><td>12.5-37.25</td><td>default: 40-60</td></tr>",
                "<td>--score-order</td><td>ascending</td><td>default: descending</td></tr>",
                "<td>--centroid-window</td><td>none</td><td>default: 15-35</td></tr>",
            ]
        );
        for line in [
            "<tr><td>--edge</td><td>above</td><td></td></tr>",
            "<tr><td>--centroid-order</td><td>without a window</td><td></td></tr>",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
    }
}
