//! The report as one page: no script, no outside file, charts as inline SVG.

use std::fmt::Write;

use super::samples::{self, Cards};
use super::{Report, flags};
use crate::coreset::histogram::{Cosines, Sizes};
use crate::coreset::options::{Order, Window};
use crate::coreset::stages::windows::Ranked;
use crate::html;

/// What charts and warnings look like.
const STYLE: &str = "svg.chart{width:100%;height:auto}svg.chart rect{fill:#9db4c8}\
svg.chart rect.in{fill:#c2410c}svg.chart text{font-size:11px}\
.warning{border-left:4px solid #c2410c;padding-left:.8rem}\
svg.chart line{stroke:currentColor;stroke-opacity:.2}div.row{display:flex;flex-wrap:wrap;gap:.6rem;\
border-top:1px solid #8884;padding:.6rem 0}div.row figure{margin:0;width:136px;font-size:12px;\
overflow-wrap:anywhere}div.row img{max-width:128px}div.stays{outline:2px solid #c2410c;\
outline-offset:2px}div.goes{opacity:.75}";

/// One bar of a chart.
struct Bar {
    /// What it counts.
    label: String,
    /// What stands below its left edge.
    tick: Option<String>,
    count: u64,
    inside: bool,
}

/// How the heights of bars grow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Ten times as many are one step higher.
    Logarithmic,
}

/// What a chart says of its axes.
struct Axes {
    across: &'static str,
    up: &'static str,
    scale: Scale,
}

/// The whole page.
pub(super) fn page(report: &Report, cards: &Cards) -> String {
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
            &Axes {
                across: "rows in a cluster",
                up: "clusters",
                scale: Scale::Linear,
            },
            &sizes(&reduced.clusters)
        ),
    );
    let _ = writeln!(
        body,
        "<h2>Groups of duplicates</h2><p>{} groups, the largest of {} rows; {} rows have the same \
         bits as one before them.</p>{}{}",
        grouped(reduced.kept),
        grouped(reduced.components.greatest),
        grouped(reduced.identical),
        chart(
            &Axes {
                across: "rows in a group",
                up: "groups",
                scale: Scale::Logarithmic,
            },
            &sizes(&reduced.components)
        ),
        samples::groups(&reduced.joined, cards),
    );
    let _ = writeln!(
        body,
        "<h2>Image and text</h2><p>{}</p>{}{}",
        window(&report.score),
        chart(
            &Axes {
                across: "cosine of image and text",
                up: "rows",
                scale: Scale::Linear,
            },
            &cosines(&report.score, report.options.windows.score)
        ),
        samples::seats(&report.score, cards),
    );
    let _ = writeln!(
        body,
        "<h2>Image and centroid</h2><p>{}</p>{}{}",
        window(&report.centroid),
        chart(
            &Axes {
                across: "cosine of image and centroid",
                up: "rows",
                scale: Scale::Linear,
            },
            &cosines(&report.centroid, report.options.windows.centroid)
        ),
        samples::seats(&report.centroid, cards),
    );
    let _ = writeln!(
        body,
        "<h2>Options</h2><p>Marked is what was set to something else than the default.</p>{}",
        flags::table(&report.options)
    );
    html::page(&title, &format!("{STYLE}{}", flags::STYLE), &body)
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
    let used = |count: &u64| *count > 0;
    let first = sizes.counts.iter().position(used).unwrap_or(0);
    let bars = sizes.counts.iter().enumerate().skip(first);
    bars.map(|(bin, count)| {
        let least = if bin == 0 { 0 } else { 1_u64 << (bin - 1) };
        let label = match bin {
            0 | 1 => least.to_string(),
            _ => format!("{} to {}", grouped(least), grouped(2 * least - 1)),
        };
        Bar {
            label,
            tick: Some(grouped(least)),
            count: *count,
            inside: false,
        }
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
    // Bins are 0.005 wide: about ten ticks, at 0.01, 0.05 or 0.1.
    let (every, decimals) = match last - first {
        0..=20 => (2, 2),
        21..=100 => (10, 2),
        _ => (20, 1),
    };
    (first..=last)
        .map(|bin| {
            let floor = Cosines::floor(bin);
            Bar {
                label: format!("{floor:.3} to {:.3}", floor + Cosines::width()),
                tick: bin
                    .is_multiple_of(every)
                    .then(|| format!("{floor:.decimals$}")),
                count: counts[bin],
                inside: bounds
                    .is_some_and(|(low, high)| floor + Cosines::width() > low && floor <= high),
            }
        })
        .collect()
}

/// The heights that are marked on an axis up to `greatest`, in order.
fn ticks(greatest: u64, scale: Scale) -> Vec<u64> {
    match scale {
        // 1, 2 or 5 times a power of ten apart.
        Scale::Linear => {
            let mut steps = (0..19).flat_map(|power| [1, 2, 5].map(|by| by * 10_u64.pow(power)));
            let step = steps.find(|step| greatest / step <= 5).unwrap_or(greatest);
            (0..=greatest / step).map(|tick| tick * step).collect()
        }
        Scale::Logarithmic => (0..20)
            .map(|power| 10_u64.pow(power))
            .take_while(|tick| *tick <= greatest)
            .collect(),
    }
}

/// A bar chart with its axes.
fn chart(axes: &Axes, bars: &[Bar]) -> String {
    /// The space of the bars, and of what stands on their left, above and below them.
    const WIDTH: f64 = 700.0;
    const HEIGHT: f64 = 180.0;
    const LEFT: f64 = 100.0;
    const TOP: f64 = 24.0;
    const BELOW: f64 = 40.0;
    let greatest = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    if greatest == 0 {
        return "<p>Nothing to show.</p>".to_owned();
    }
    let height = |count: u64| {
        HEIGHT
            * match axes.scale {
                Scale::Linear => count as f64 / greatest as f64,
                // One is a little above nothing.
                Scale::Logarithmic if count == 0 => 0.0,
                Scale::Logarithmic => {
                    (1.0 + 10.0 * count as f64).log10() / (1.0 + 10.0 * greatest as f64).log10()
                }
            }
    };
    let step = WIDTH / bars.len() as f64;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\"><title>{up} by {across}</title>\
         <text x=\"0\" y=\"12\">{up}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{across}</text>",
        LEFT + WIDTH + 10.0,
        TOP + HEIGHT + BELOW,
        LEFT + WIDTH,
        TOP + HEIGHT + 34.0,
        up = axes.up,
        across = axes.across,
    );
    for tick in ticks(greatest, axes.scale) {
        let y = TOP + HEIGHT - height(tick);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            y + 4.0,
            grouped(tick)
        );
    }
    // Ticks of many bars do not run into each other.
    let ticked = bars.iter().filter(|bar| bar.tick.is_some()).count();
    let thin = ticked.div_ceil(12).max(1);
    let mut number = 0;
    for (i, bar) in bars.iter().enumerate() {
        let (x, tall) = (LEFT + i as f64 * step, height(bar.count));
        let _ = write!(
            svg,
            "<rect{} x=\"{x:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\">\
             <title>{}: {}</title></rect>",
            if bar.inside { " class=\"in\"" } else { "" },
            TOP + HEIGHT - tall,
            (step - 0.5).max(0.5),
            bar.label,
            grouped(bar.count)
        );
        if let Some(tick) = &bar.tick {
            if number % thin == 0 {
                let _ = write!(
                    svg,
                    "<text x=\"{x:.2}\" y=\"{}\">{tick}</text>",
                    TOP + HEIGHT + 14.0
                );
            }
            number += 1;
        }
    }
    svg.push_str("</svg>");
    svg
}

/// A number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
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
    fn axes_are_marked_at_round_numbers() {
        assert_eq!(ticks(1, Scale::Linear), [0, 1]);
        assert_eq!(ticks(7, Scale::Linear), [0, 2, 4, 6]);
        assert_eq!(ticks(12_345, Scale::Linear), [0, 5000, 10_000]);
        assert_eq!(ticks(999_999_999, Scale::Linear).len(), 5);
        assert_eq!(ticks(u64::MAX, Scale::Linear).len(), 4);
        assert_eq!(ticks(1500, Scale::Logarithmic), [1, 10, 100, 1000]);
        let mut counts = Sizes::default();
        for size in [1, 1, 3, 900] {
            counts.add(size);
        }
        let bars = sizes(&counts);
        let label = |bar: &Bar| bar.label.clone();
        assert_eq!(label(&bars[0]), "1");
        assert_eq!(label(&bars[1]), "2 to 3");
        assert_eq!(label(&bars[9]), "512 to 1,023");
        let axes = Axes {
            across: "rows in a group",
            up: "groups",
            scale: Scale::Logarithmic,
        };
        let svg = chart(&axes, &bars);
        for text in [">groups</text>", ">rows in a group</text>", ">512</text>"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(2_053_332_591), "2,053,332,591");
    }
}
