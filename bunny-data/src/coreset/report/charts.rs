//! The report as one page: no script, no outside file, charts as inline SVG.

use std::fmt::Write;

use super::Report;
use crate::coreset::histogram::{Cosines, Sizes};
use crate::coreset::options::{Order, Window};
use crate::coreset::stages::windows::Ranked;
use crate::html;

/// What charts and warnings look like.
const STYLE: &str = "svg.chart{width:100%;height:auto}svg.chart rect{fill:#9db4c8}\
svg.chart rect.in{fill:#c2410c}svg.chart text{font-size:11px}\
.warning{border-left:4px solid #c2410c;padding-left:.8rem}";

/// One bar of a chart.
struct Bar {
    label: String,
    count: u64,
    inside: bool,
}

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = format!(
        "Coreset: {} of {} rows",
        grouped(report.written.rows),
        grouped(report.scanned.rows)
    );
    let mut body = String::new();
    for warning in report.warnings() {
        let _ = writeln!(body, "<p class=\"warning\">{}</p>", html::escape(&warning));
    }
    body.push_str(
        "<table><tr><th>after</th><th>rows</th><th>of the set</th><th>the paper's rows</th>\
         <th>of 2.05 billion</th></tr>\n",
    );
    for step in report.steps() {
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{:.3} %</td><td>{} M</td><td>{:.3} %</td></tr>",
            step.name,
            grouped(step.kept),
            100.0 * step.fraction,
            (step.paper_kept / 1e6).round(),
            100.0 * step.paper_fraction,
        );
    }
    body.push_str("</table>\n");
    let reduced = &report.reduced;
    let _ = writeln!(
        body,
        "<h2>Clusters</h2><p>{} clusters, the largest of {} rows.</p>{}",
        grouped(report.clusters),
        grouped(reduced.clusters.greatest),
        chart(
            "Rows in a cluster, against clusters",
            &sizes(&reduced.clusters)
        ),
    );
    let _ = writeln!(
        body,
        "<h2>Groups of duplicates</h2><p>{} groups, the largest of {} rows; {} rows have the same \
         bits as one before them.</p>{}",
        grouped(reduced.kept),
        grouped(reduced.components.greatest),
        grouped(reduced.identical),
        chart(
            "Rows in a group, against groups",
            &sizes(&reduced.components)
        ),
    );
    let _ = writeln!(
        body,
        "<h2>Image and text</h2><p>{}</p>{}",
        window(&report.score),
        chart(
            "Cosine of image and text, against rows",
            &cosines(&report.score, report.options.windows.score)
        ),
    );
    let _ = writeln!(
        body,
        "<h2>Image and centroid</h2><p>{}</p>{}",
        window(&report.centroid),
        chart(
            "Cosine of image and centroid, against rows",
            &cosines(&report.centroid, report.options.windows.centroid)
        ),
    );
    if let Ok(options) = serde_json::to_string_pretty(&report.options) {
        let _ = writeln!(
            body,
            "<h2>Options</h2><pre>{}</pre>",
            html::escape(&options)
        );
    }
    html::page(&title, STYLE, &body)
}

fn window(ranked: &Ranked) -> String {
    let kept = format!(
        "{} of {} rows kept",
        grouped(ranked.kept),
        grouped(ranked.rows)
    );
    match ranked.bounds {
        [Some(from), Some(to)] => format!("{kept}, from {from:.4} to {to:.4} (orange)."),
        [Some(from), None] => format!("{kept}, from {from:.4} on (orange)."),
        _ => format!("{kept}."),
    }
}

fn sizes(sizes: &Sizes) -> Vec<Bar> {
    sizes
        .counts
        .iter()
        .enumerate()
        .map(|(bin, count)| Bar {
            label: match bin {
                0 => "0".to_owned(),
                _ => grouped(1 << (bin - 1)),
            },
            count: *count,
            inside: false,
        })
        .collect()
}

/// The lowest and the highest value of a window of ranks; where it takes in the last rank, that end
/// is open.
fn bounds(ranked: &Ranked, window: Option<Window>) -> Option<(f64, f64)> {
    let from = ranked.bounds[0]?;
    let open = match window?.order {
        Order::Descending => f64::NEG_INFINITY,
        Order::Ascending => f64::INFINITY,
    };
    let to = ranked.bounds[1].unwrap_or(open);
    Some((from.min(to), from.max(to)))
}

/// The bars of the values that occur; those within the window stand out.
fn cosines(ranked: &Ranked, window: Option<Window>) -> Vec<Bar> {
    let counts = &ranked.values.counts;
    let used = |count: &u64| *count > 0;
    let (Some(first), Some(last)) = (counts.iter().position(used), counts.iter().rposition(used))
    else {
        return Vec::new();
    };
    let bounds = bounds(ranked, window);
    (first..=last)
        .map(|bin| {
            let floor = Cosines::floor(bin);
            Bar {
                label: format!("{floor:.3}"),
                count: counts[bin],
                inside: bounds
                    .is_some_and(|(low, high)| floor + Cosines::width() > low && floor <= high),
            }
        })
        .collect()
}

/// A bar chart.
fn chart(title: &str, bars: &[Bar]) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 180.0;
    let greatest = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    if greatest == 0 {
        return "<p>Nothing to show.</p>".to_owned();
    }
    let step = WIDTH / bars.len() as f64;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><title>{title}</title>\
         <text x=\"0\" y=\"12\">{title}; the highest bar is {}</text>",
        HEIGHT + 40.0,
        grouped(greatest)
    );
    // About ten labels, whatever the number of bars.
    let labelled = bars.len().div_ceil(10);
    for (i, bar) in bars.iter().enumerate() {
        let height = HEIGHT * bar.count as f64 / greatest as f64;
        let _ = write!(
            svg,
            "<rect{} x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\">\
             <title>{}: {}</title></rect>",
            if bar.inside { " class=\"in\"" } else { "" },
            i as f64 * step,
            HEIGHT + 20.0 - height,
            (step - 0.5).max(0.5),
            bar.label,
            grouped(bar.count)
        );
        if i % labelled == 0 {
            let _ = write!(
                svg,
                "<text x=\"{:.2}\" y=\"{}\">{}</text>",
                i as f64 * step,
                HEIGHT + 34.0,
                bar.label
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_up_to_the_last_rank_colours_all_beyond_its_first() {
        let mut ranked = Ranked::default();
        for value in [0.102, 0.202, 0.302] {
            ranked.values.add(value);
        }
        let coloured = |ranked: &Ranked, order| {
            let window = Window {
                order,
                ..Window::new(5000, 10_000)
            };
            let bars = cosines(ranked, Some(window));
            bars.iter()
                .filter(|bar| bar.count > 0)
                .map(|bar| bar.inside)
                .collect::<Vec<_>>()
        };
        ranked.bounds = [Some(0.202), None];
        assert_eq!(coloured(&ranked, Order::Descending), [true, true, false]);
        assert_eq!(coloured(&ranked, Order::Ascending), [false, true, true]);
        // Where each cluster is ranked apart, no value bounds the window.
        ranked.bounds = [None; 2];
        assert_eq!(coloured(&ranked, Order::Descending), [false; 3]);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(2_053_332_591), "2,053,332,591");
    }
}
