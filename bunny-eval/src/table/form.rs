//! A table as Markdown, LaTeX, a page, or JSON.

use super::{Entry, Published, Row, Table};
use crate::html;
use crate::named::named;

/// How a table is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableForm {
    /// Pipes, for a README.
    #[default]
    Markdown,
    /// Rows of a `tabular`, for a paper.
    Latex,
    /// A page that needs nothing but itself.
    Html,
    /// For programs.
    Json,
}

impl TableForm {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Markdown, Self::Latex, Self::Html, Self::Json];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Latex => "latex",
            Self::Html => "html",
            Self::Json => "json",
        }
    }
}

named!(TableForm, UnknownForm);

/// No table is written so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no table is written as `{0}`: take one of markdown, latex, html, json")]
pub struct UnknownForm(pub String);

/// A line of a table: its name and what stands in its columns.
struct Line {
    name: String,
    kind: Kind,
    cells: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Peer,
    Own,
    Published,
    Difference,
}

/// What stands for a figure that is not known.
const DASH: &str = "–";

impl Table {
    /// The table as text.
    ///
    /// # Errors
    /// When it cannot be told as JSON.
    pub fn written(&self, form: TableForm) -> serde_json::Result<String> {
        Ok(match form {
            TableForm::Markdown => self.markdown(),
            TableForm::Latex => self.latex(),
            TableForm::Html => self.page(),
            TableForm::Json => self.json()?,
        })
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.peers.iter().map(peer).collect();
        for row in &self.rows {
            lines.push(Line {
                name: row.label.name.clone(),
                kind: Kind::Own,
                cells: row.entries.iter().map(cell).collect(),
            });
            if let Some(published) = &row.published {
                lines.push(Line {
                    name: format!("{} (published)", published.name),
                    kind: Kind::Published,
                    cells: published
                        .figures
                        .iter()
                        .map(|figure| figure_or_dash(*figure))
                        .collect(),
                });
                lines.push(Line {
                    name: "difference".to_owned(),
                    kind: Kind::Difference,
                    cells: differences(row),
                });
            }
        }
        lines
    }

    fn footnotes(&self) -> Vec<String> {
        let entries = || {
            self.rows
                .iter()
                .flat_map(|row| row.entries.iter().flatten())
        };
        let mut notes = vec![format!(
            "Scored by the rules of {}; in brackets 95 % intervals, those of a difference with the \
             published figure taken as it is.",
            self.convention
        )];
        if entries().any(|entry| entry.from_server) {
            notes.push("* as the benchmark's server returned it.".to_owned());
        }
        if entries().any(|entry| entry.partial) {
            notes.push("† only the first questions were asked.".to_owned());
        }
        if self
            .peers
            .iter()
            .any(|peer| !peer.measured_by_the_authors.is_empty())
        {
            notes.push("§ measured by the paper's authors.".to_owned());
        }
        notes
    }

    fn markdown(&self) -> String {
        let headings: Vec<&str> = self.columns.iter().map(|column| column.heading).collect();
        let mut text = format!(
            "| model | {} |\n|---|{}\n",
            headings.join(" | "),
            "---:|".repeat(headings.len())
        );
        for line in self.lines() {
            let name = match line.kind {
                Kind::Own => format!("**{}**", escaped_pipe(&line.name)),
                _ => escaped_pipe(&line.name),
            };
            // A star would begin an emphasis.
            let cells = line.cells.join(" | ").replace('*', "\\*");
            text.push_str(&format!("| {name} | {cells} |\n"));
        }
        for note in self.footnotes() {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    fn latex(&self) -> String {
        let heading = |text: &str| match text.split_once('^') {
            Some((name, of)) => format!("{name}$^{{\\mathrm{{{of}}}}}$"),
            None => text.to_owned(),
        };
        let headings: Vec<String> = self
            .columns
            .iter()
            .map(|column| heading(column.heading))
            .collect();
        let mut text = format!(
            "\\begin{{tabular}}{{l{}}}\n\\hline\nModel & {} \\\\\n\\hline\n",
            "r".repeat(headings.len()),
            headings.join(" & ")
        );
        for line in self.lines() {
            let cells: Vec<String> = line.cells.iter().map(|cell| latex(cell)).collect();
            let name = match line.kind {
                Kind::Own => format!("\\textbf{{{}}}", latex(&line.name)),
                _ => latex(&line.name),
            };
            text.push_str(&format!("{name} & {} \\\\\n", cells.join(" & ")));
        }
        text.push_str("\\hline\n\\end{tabular}\n");
        for note in self.footnotes() {
            text.push_str(&format!("% {note}\n"));
        }
        text
    }

    fn page(&self) -> String {
        let heading = |text: &str| match text.split_once('^') {
            Some((name, of)) => format!(
                "<th>{}<sup>{}</sup></th>",
                html::escape(name),
                html::escape(of)
            ),
            None => format!("<th>{}</th>", html::escape(text)),
        };
        let headings: String = self
            .columns
            .iter()
            .map(|column| heading(column.heading))
            .collect();
        let mut body = format!("<table><thead><tr><th>model</th>{headings}</tr></thead><tbody>\n");
        for line in self.lines() {
            let class = match line.kind {
                Kind::Peer => "peer",
                Kind::Own => "own",
                Kind::Published => "published",
                Kind::Difference => "difference",
            };
            let cells: String = line
                .cells
                .iter()
                .map(|cell| format!("<td>{}</td>", html::escape(cell)))
                .collect();
            body.push_str(&format!(
                "<tr class=\"{class}\"><td>{}</td>{cells}</tr>\n",
                html::escape(&line.name)
            ));
        }
        body.push_str("</tbody></table>\n");
        for note in self.footnotes() {
            body.push_str(&format!("<p>{}</p>\n", html::escape(&note)));
        }
        html::page("Results", &body)
    }

    fn json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        for (at, row) in self.rows.iter().enumerate() {
            value["rows"][at]["differences"] = serde_json::to_value(row.differences())?;
        }
        Ok(value.to_string())
    }
}

fn peer(published: &Published) -> Line {
    let mark = |(at, figure): (usize, &Option<f64>)| {
        let own = published.measured_by_the_authors.contains(&at);
        format!("{}{}", figure_or_dash(*figure), if own { "§" } else { "" })
    };
    Line {
        name: published.name.clone(),
        kind: Kind::Peer,
        cells: published.figures.iter().enumerate().map(mark).collect(),
    }
}

fn cell(entry: &Option<Entry>) -> String {
    let Some(entry) = entry else {
        return DASH.to_owned();
    };
    let mut text = format!("{:.1}", entry.value);
    text.push_str(if entry.from_server { "*" } else { "" });
    text.push_str(if entry.partial { "†" } else { "" });
    if let Some(interval) = entry.interval {
        text.push_str(&format!(" [{:.1}, {:.1}]", interval.low, interval.high));
    }
    text
}

fn figure_or_dash(figure: Option<f64>) -> String {
    figure.map_or_else(|| DASH.to_owned(), |figure| format!("{figure:.1}"))
}

fn differences(row: &Row) -> Vec<String> {
    let told = row
        .differences()
        .into_iter()
        .map(|difference| match difference {
            None => DASH.to_owned(),
            Some(difference) => {
                let mut text = format!("{:+.1}", difference.value);
                if let Some(interval) = difference.interval {
                    text.push_str(&format!(" [{:+.1}, {:+.1}]", interval.low, interval.high));
                }
                text
            }
        });
    told.collect()
}

fn escaped_pipe(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Text as LaTeX sets it.
fn latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '\\' => escaped.push_str("\\textbackslash{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '–' => escaped.push_str("--"),
            '§' => escaped.push_str("\\S{}"),
            '†' => escaped.push_str("\\dag{}"),
            '\n' | '\r' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}
