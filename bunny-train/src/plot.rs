//! The curves of a run as one SVG.

use std::fmt::Write;

use crate::metrics::StepMetrics;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 56.0;

/// A curve: its name, its colour, and its value at a step.
type Curve = (&'static str, &'static str, fn(&StepMetrics) -> Option<f64>);

/// A panel: its title and its curves.
type Panel = (&'static str, &'static [Curve]);

const PANELS: [Panel; 4] = [
    (
        "loss",
        &[
            ("train", "#2563eb", |step| Some(step.loss)),
            ("eval", "#dc2626", |step| step.eval_loss),
        ],
    ),
    (
        "gradient norm",
        &[("norm", "#2563eb", |step| Some(step.grad_norm))],
    ),
    (
        "learning rate",
        &[
            ("language", "#2563eb", |step| Some(step.learning_rate)),
            ("projector", "#dc2626", |step| {
                Some(step.projector_learning_rate)
            }),
        ],
    ),
    (
        "tokens a second",
        &[("tokens", "#2563eb", |step| Some(step.tokens_per_second))],
    ),
];

/// The curves of a run's steps: loss, gradient norm, learning rates and speed.
pub fn svg(steps: &[StepMetrics]) -> String {
    let (columns, rows) = (2, PANELS.len().div_ceil(2));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        columns as f64 * (WIDTH + MARGIN) + MARGIN,
        rows as f64 * (HEIGHT + MARGIN) + MARGIN,
    );
    for (at, panel) in PANELS.iter().enumerate() {
        let left = MARGIN + (at % columns) as f64 * (WIDTH + MARGIN);
        let top = MARGIN + (at / columns) as f64 * (HEIGHT + MARGIN);
        draw(&mut svg, panel, steps, left, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, (title, curves): &Panel, steps: &[StepMetrics], left: f64, top: f64) {
    let points = |value: fn(&StepMetrics) -> Option<f64>| {
        let points = steps
            .iter()
            .filter_map(move |step| Some((step.step as f64, value(step)?)));
        points.filter(|(_, value)| value.is_finite())
    };
    let all = curves.iter().flat_map(|(_, _, value)| points(*value));
    let bounds = all.fold(None, |bounds: Option<[f64; 4]>, (x, y)| {
        let [x0, x1, y0, y1] = bounds.unwrap_or([x, x, y, y]);
        Some([x0.min(x), x1.max(x), y0.min(y), y1.max(y)])
    });
    let (right, bottom) = (left + WIDTH - MARGIN, top + HEIGHT - 24.0);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n\
         <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>",
        top - 8.0
    );
    let Some([x0, x1, y0, y1]) = bounds else {
        return;
    };
    let across = |x: f64| left + (right - left) * (x - x0) / (x1 - x0).max(1e-300);
    let up = |y: f64| bottom - (bottom - top) * (y - y0) / (y1 - y0).max(1e-300);
    let _ = writeln!(
        svg,
        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"end\">{y1:.3e}</text>\n\
         <text x=\"{0}\" y=\"{bottom}\" text-anchor=\"end\">{y0:.3e}</text>\n\
         <text x=\"{left}\" y=\"{2}\">{x0}</text>\n\
         <text x=\"{right}\" y=\"{2}\" text-anchor=\"end\">step {x1}</text>",
        left - 4.0,
        top + 8.0,
        bottom + 14.0,
    );
    for (at, (name, colour, value)) in curves.iter().enumerate() {
        let mut path = String::new();
        for (x, y) in points(*value) {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{:.1} {:.1}", across(x), up(y));
        }
        if path.is_empty() {
            continue;
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            left + 90.0 + 70.0 * at as f64,
            top - 8.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::StageKind;

    fn step(step: u64, loss: f64) -> StepMetrics {
        StepMetrics {
            stage: StageKind::Pretrain,
            step,
            epoch: 0.0,
            loss,
            learning_rate: 1e-3,
            projector_learning_rate: 1e-3,
            grad_norm: 1.0,
            tokens: 1,
            answer_tokens: 1,
            samples_per_second: 1.0,
            tokens_per_second: 1.0,
            data_wait: 0.0,
            seconds: 1.0,
            memory: None,
            eval_loss: None,
        }
    }

    #[test]
    fn a_falling_loss_is_a_falling_line_between_the_axes() {
        let svg = svg(&[step(1, 4.0), step(2, 3.0), step(3, 2.0)]);
        // Top left, middle, bottom right of the first panel.
        assert!(svg.contains("M56.0 56.0L258.0 154.0L460.0 252.0"), "{svg}");
        assert!(
            !svg.contains(">eval<"),
            "a curve without points is left out"
        );
        assert_eq!(svg.matches("</text>").count(), 4 * 5 + 5);
    }

    #[test]
    fn a_run_without_steps_has_empty_panels() {
        assert_eq!(svg(&[]).matches("<path").count(), 4);
    }
}
