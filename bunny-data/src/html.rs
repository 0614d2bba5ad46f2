//! The frame and the few parts that every page of this crate is made of.

use std::fmt::Write;
use std::path::Path;

pub(crate) use bunny_base::escape::for_html as escape;

/// What a page about a file is called.
pub(crate) fn title(file: &Path) -> String {
    let name = file.file_name().map_or(file, Path::new);
    name.display().to_string()
}

/// A page that needs nothing but itself; `style` is what it has beyond the others.
pub(crate) fn page(title: &str, style: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
         <style>{STYLE}{style}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n",
        title = escape(title)
    )
}

/// Rows of a name and a count, with a bar each.
pub(crate) fn bars(rows: &[(String, u64)]) -> String {
    const WIDTH: u64 = 360;
    const ROW: usize = 20;
    let most = rows
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut svg = format!(
        "<svg width=\"760\" height=\"{}\" role=\"img\">\n",
        rows.len() * ROW + 4
    );
    for (at, (name, count)) in rows.iter().enumerate() {
        let (top, middle) = (at * ROW + 3, at * ROW + 16);
        let width = (WIDTH as u128 * u128::from(*count) / u128::from(most)) as u64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"250\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect x=\"258\" y=\"{top}\" width=\"{}\" height=\"15\"/>\
             <text x=\"{}\" y=\"{middle}\">{count}</text>",
            escape(name),
            width.max(u64::from(*count > 0)),
            264 + width
        );
    }
    svg + "</svg>\n"
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}\
svg text{font-size:12px;fill:currentColor}svg rect{fill:#b8603a}table{border-collapse:collapse}\
td,th{padding:.1em 1em .1em 0;text-align:right}td:first-child,th:first-child{text-align:left}\
article{border-top:1px solid #ccc;padding:1em 0;overflow:hidden}article img{float:right;margin:0 0 1em 1em}\
p.turn{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4em 0}p.turn b{color:#b8603a}\
.note{color:#a00}@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        let page = page(
            "<script>",
            "",
            &bars(&[("a\"<b>&'".to_owned(), 3), ("none".to_owned(), 0)]),
        );
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        assert!(page.contains("a&quot;&lt;b&gt;&amp;&#39;"));
    }
}
