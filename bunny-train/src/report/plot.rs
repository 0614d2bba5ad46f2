//! The curves of a run as one SVG.

use std::fmt::Write;

use crate::run::metrics::StepMetrics;

/// A panel's frame, and what is around it for titles and numbers.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 28.0;
const COLUMNS: usize = 2;

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
        "tokens per second",
        &[("tokens", "#2563eb", |step| Some(step.tokens_per_second))],
    ),
];

/// The curves of a run's steps: loss, gradient norm, learning rates and speed.
///
/// A panel's height is that of all values but the largest in a hundred, as at a run's first steps;
/// those stand at its upper edge.
pub fn svg(steps: &[StepMetrics]) -> String {
    let rows = PANELS.len().div_ceil(COLUMNS);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        COLUMNS as f64 * (LEFT + WIDTH) + LEFT / 2.0,
        rows as f64 * (TOP + HEIGHT + BOTTOM),
    );
    for (at, panel) in PANELS.iter().enumerate() {
        let left = LEFT + (at % COLUMNS) as f64 * (LEFT + WIDTH);
        let top = TOP + (at / COLUMNS) as f64 * (TOP + HEIGHT + BOTTOM);
        draw(&mut svg, panel, steps, left, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, (title, curves): &Panel, steps: &[StepMetrics], left: f64, top: f64) {
    let curves: Vec<_> = curves
        .iter()
        .map(|(name, colour, value)| (*name, *colour, points(steps, *value)))
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    let (right, bottom) = (left + WIDTH, top + HEIGHT);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n\
         <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>",
        top - 10.0
    );
    let all = || curves.iter().flat_map(|(_, _, points)| points);
    let (Some(x), Some(y)) = (
        Axis::over(all().map(|point| point.0), 0),
        Axis::over(all().map(|point| point.1), all().count() / 100),
    ) else {
        return;
    };
    let x = x.whole();
    let across = |value: f64| left + WIDTH * x.share(value);
    let up = |value: f64| bottom - HEIGHT * y.share(value);
    for tick in y.ticks() {
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {0:.1}H{right}\" stroke=\"#ddd\"/>\n\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            up(tick),
            left - 6.0,
            up(tick) + 4.0,
            y.label(tick),
        );
    }
    for tick in x.ticks() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            across(tick),
            bottom + 15.0,
            x.label(tick),
        );
    }
    let mut legend = right;
    for (name, colour, points) in &curves {
        let mut path = String::new();
        for (x, y) in points {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{:.1} {:.1}", across(*x), up(*y));
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-linejoin=\"round\"/>"
        );
        // One curve needs no name but the panel's.
        if curves.len() > 1 {
            let _ = writeln!(
                svg,
                "<text x=\"{legend}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
                top - 10.0
            );
            legend -= 70.0;
        }
    }
}

/// A curve's points, without those that no axis has a place for.
fn points(steps: &[StepMetrics], value: fn(&StepMetrics) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = steps
        .iter()
        .filter_map(|step| Some((step.step as f64, value(step)?)));
    points.filter(|(_, value)| value.is_finite()).collect()
}

/// What an axis spans, and how far apart its numbers are.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Over all values but the `beyond` largest; `None` over none.
    fn over(values: impl Iterator<Item = f64>, beyond: usize) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let low = *values.first()?;
        let high = values[values.len() - 1 - beyond.min(values.len() - 1)];
        // One value alone has a span, too.
        let high = if high > low {
            high
        } else {
            low + low.abs().max(1e-9) / 2.0
        };
        // About four numbers, of those that people count in.
        let wanted = (high - low) / 4.0;
        let decade = 10f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade);
        let step = step.into_iter().find(|step| *step >= wanted)?;
        Some(Self { low, high, step })
    }

    /// With whole numbers alone.
    fn whole(self) -> Self {
        let step = self.step.max(1.0);
        Self { step, ..self }
    }

    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        // Quotients that should be whole are so within rounding.
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        let step = self.step;
        (first..=last).map(move |tick| tick as f64 * step)
    }

    /// A number with the digits that tell it from its neighbours.
    fn label(&self, tick: f64) -> String {
        let decade = |value: f64| value.abs().log10().floor() as i32;
        let digits = -decade(self.step);
        if tick == 0.0 || digits <= 3 {
            let digits = if tick == 0.0 {
                0
            } else {
                digits.max(0) as usize
            };
            return format!("{tick:.digits$}");
        }
        let digits = (decade(tick) + digits).max(0) as usize;
        format!("{tick:.digits$e}")
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
            tflops_per_second: None,
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
        assert!(svg.contains("M64.0 40.0L274.0 135.0L484.0 230.0"), "{svg}");
        assert!(
            !svg.contains(">eval<"),
            "a curve without points is left out"
        );
        for label in [">4.0<", ">2.5<", ">1<", ">3<"] {
            assert!(svg.contains(label), "{label} in {svg}");
        }
    }

    #[test]
    fn a_few_huge_values_do_not_flatten_the_rest() {
        let mut steps: Vec<_> = (1..=300).map(|at| step(at, 2.0)).collect();
        steps[0].loss = 1e6;
        steps[299].loss = 1.0;
        let svg = svg(&steps);
        assert!(svg.contains("M64.0 40.0L65.4 40.0"), "{svg}");
        assert!(svg.contains("L484.0 230.0"));
    }

    #[test]
    fn numbers_have_the_digits_that_tell_them_apart() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            let axis = Axis::over([low, high].into_iter(), 0).unwrap();
            axis.ticks().map(|tick| axis.label(tick)).collect()
        };
        assert_eq!(labels(0.0, 1.5e-3), ["0", "5e-4", "1.0e-3", "1.5e-3"]);
        assert_eq!(labels(0.3, 1.0), ["0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(1.0, 7720.0), ["2000", "4000", "6000"]);
    }

    #[test]
    fn a_run_without_steps_has_empty_panels() {
        assert_eq!(svg(&[]).matches("<path").count(), 4);
    }
}
