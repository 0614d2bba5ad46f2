//! Statistics for people: as text, and as a page with plots.

use std::fmt::Write;

use bunny_base::escape::for_terminal;

use super::{Count, Distribution, Stats};
use crate::html;

impl Stats {
    /// A page that needs nothing but itself, its plots drawn in SVG.
    pub fn to_html(&self) -> String {
        let mut body = format!("<p>{} records", self.records);
        // Here and below: writing to a String cannot fail.
        if self.unreadable > 0 {
            let _ = write!(
                body,
                ", <span class=\"note\">{} of them unreadable</span>",
                self.unreadable
            );
        }
        body.push_str("</p>\n");
        let modality: Vec<(String, u64)> = self
            .modality_rows()
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count as u64))
            .collect();
        for (title, rows) in [
            ("Pictures of a record", modality),
            ("What ids start with", rows(&self.id_prefixes)),
            ("Folder of the first picture", rows(&self.image_roots)),
        ] {
            let _ = write!(body, "<h2>{title}</h2>\n{}", html::bars(&rows));
        }
        for (title, distribution) in self.distributions() {
            let bars: Vec<(String, u64)> = distribution
                .histogram
                .iter()
                .map(|bin| {
                    (
                        if bin.from == bin.to {
                            bin.from.to_string()
                        } else {
                            format!("{} to {}", bin.from, bin.to)
                        },
                        bin.count as u64,
                    )
                })
                .collect();
            let _ = write!(
                body,
                "<h2>{title}</h2>\n<table><tr><th>mean</th><th>min</th><th>median</th><th>90 %</th><th>99 %</th><th>max</th></tr>\
                 <tr><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr></table>\n{}",
                distribution.mean,
                distribution.min,
                distribution.p50,
                distribution.p90,
                distribution.p99,
                distribution.max,
                html::bars(&bars)
            );
        }
        if let Some(pictures) = &self.pictures {
            let _ = writeln!(
                body,
                "<p>{} distinct pictures, {} looked at, {} of these missing or unreadable.</p>",
                pictures.distinct, pictures.sampled, pictures.unreadable
            );
        }
        html::page(&html::title(&self.file), "", &body)
    }

    /// Some lines for a terminal.
    pub fn to_text(&self) -> String {
        let file = html::title(&self.file);
        let mut text = format!("{}: {} records", for_terminal(&file), self.records);
        if self.unreadable > 0 {
            let _ = write!(text, " ({} unreadable)", self.unreadable);
        }
        text.push('\n');
        let mut table = |title: &str, rows: Vec<(String, usize)>| {
            let _ = writeln!(text, "\n{title}");
            for (name, count) in rows {
                let name = for_terminal(&name);
                let part = 100.0 * count as f64 / self.records.max(1) as f64;
                let _ = writeln!(text, "  {name:<32} {count:>10}  {part:>5.1} %");
            }
        };
        table(
            "pictures of a record",
            self.modality_rows()
                .map(|(name, count)| (name.to_owned(), count))
                .to_vec(),
        );
        let named = |counts: &[Count]| {
            counts
                .iter()
                .map(|count| (count.name.clone(), count.count))
                .collect()
        };
        table("what ids start with", named(&self.id_prefixes));
        table("folder of the first picture", named(&self.image_roots));
        let _ = writeln!(
            text,
            "\n{:<34} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "mean", "min", "median", "90 %", "99 %", "max"
        );
        for (title, d) in self.distributions() {
            let _ = writeln!(
                text,
                "{title:<34} {:>9.1} {:>8} {:>8} {:>8} {:>8} {:>8}",
                d.mean, d.min, d.p50, d.p90, d.p99, d.max
            );
        }
        if let Some(pictures) = &self.pictures {
            let _ = writeln!(
                text,
                "\n{} distinct pictures, {} looked at, {} of these missing or unreadable",
                pictures.distinct, pictures.sampled, pictures.unreadable
            );
        }
        text
    }

    fn modality_rows(&self) -> [(&'static str, usize); 3] {
        let modality = &self.modality;
        [
            ("none", modality.text),
            ("one", modality.one_picture),
            ("several", modality.several_pictures),
        ]
    }

    fn distributions(&self) -> Vec<(&'static str, &Distribution)> {
        let mut all = vec![
            ("turns of a record", &self.turns),
            ("words of a record", &self.words),
            ("words of its answers", &self.answer_words),
        ];
        all.extend(
            self.tokens
                .iter()
                .map(|tokens| ("tokens of a record", tokens)),
        );
        if let Some(pictures) = &self.pictures {
            all.push(("width of a picture", &pictures.width));
            all.push(("height of a picture", &pictures.height));
            all.push(("longer side, % of the shorter", &pictures.aspect));
        }
        all
    }
}

fn rows(counts: &[Count]) -> Vec<(String, u64)> {
    counts
        .iter()
        .map(|count| (count.name.clone(), count.count as u64))
        .collect()
}
