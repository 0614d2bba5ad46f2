//! A spreadsheet of one sheet: the same bytes for the same cells.

use std::fmt::Write as _;
use std::io::{self, Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Blank,
    Number(f64),
    Text(String),
}

/// The most characters that a cell can hold; what is beyond is cut, as openpyxl does.
const LONGEST: usize = 32_767;

const PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
         <Override PartName=\"/xl/workbook.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml\"/>\
         <Override PartName=\"/xl/worksheets/sheet1.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml\"/>\
         </Types>",
    ),
    (
        "_rels/.rels",
        "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
         <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/>\
         </Relationships>",
    ),
    (
        "xl/workbook.xml",
        "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" \
         xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\">\
         <sheets><sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
    ),
    (
        "xl/_rels/workbook.xml.rels",
        "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
         <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/>\
         </Relationships>",
    ),
];
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";

/// The file of a sheet, and how many characters no spreadsheet can hold: each became a space.
pub(crate) fn write(rows: &[Vec<Cell>]) -> io::Result<(Vec<u8>, usize)> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in PARTS {
        zip.start_file(name, options)?;
        zip.write_all(DECLARATION.as_bytes())?;
        zip.write_all(content.as_bytes())?;
    }
    let (sheet, replaced) = sheet(rows);
    zip.start_file("xl/worksheets/sheet1.xml", options)?;
    zip.write_all(sheet.as_bytes())?;
    Ok((zip.finish()?.into_inner(), replaced))
}

fn sheet(rows: &[Vec<Cell>]) -> (String, usize) {
    let mut xml = format!(
        "{DECLARATION}<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>"
    );
    let mut replaced = 0;
    // Writing to a String cannot fail.
    for (at, row) in rows.iter().enumerate() {
        let _ = write!(xml, "<row r=\"{}\">", at + 1);
        for (column, cell) in row.iter().enumerate() {
            let place = format!("{}{}", letters(column), at + 1);
            match cell {
                Cell::Blank => {}
                Cell::Number(number) => {
                    let _ = write!(xml, "<c r=\"{place}\"><v>{number}</v></c>");
                }
                // Text in its place, not a formula, whatever it begins with.
                Cell::Text(text) => {
                    let _ = write!(
                        xml,
                        "<c r=\"{place}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">"
                    );
                    for character in text.chars().take(LONGEST) {
                        replaced += usize::from(push(&mut xml, character));
                    }
                    xml.push_str("</t></is></c>");
                }
            }
        }
        xml.push_str("</row>");
    }
    xml.push_str("</sheetData></worksheet>");
    (xml, replaced)
}

/// Appends a character; whether XML has none such, and it became a space.
fn push(xml: &mut String, character: char) -> bool {
    match character {
        '&' => xml.push_str("&amp;"),
        '<' => xml.push_str("&lt;"),
        '>' => xml.push_str("&gt;"),
        // Bare, it would be read as a line feed.
        '\r' => xml.push_str("&#13;"),
        '\t' | '\n' => xml.push(character),
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
            xml.push(' ');
            return true;
        }
        other => xml.push(other),
    }
    false
}

/// A column's name: A, B, …, Z, AA, …
fn letters(column: usize) -> String {
    let mut name = String::new();
    let mut rest = column + 1;
    while rest > 0 {
        rest -= 1;
        name.insert(0, char::from(b'A' + (rest % 26) as u8));
        rest /= 26;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_as_in_a_spreadsheet() {
        let named: Vec<String> = [0, 25, 26, 27, 701, 702].map(letters).into();
        assert_eq!(named, ["A", "Z", "AA", "AB", "ZZ", "AAA"]);
    }

    #[test]
    fn text_is_text_and_what_xml_lacks_becomes_a_space() {
        let text = |text: &str| vec![vec![Cell::Text(text.to_owned())]];
        let (xml, replaced) = sheet(&text("=1+1 <&>\r\n\u{0}x\u{1b}"));
        assert!(xml.contains(">=1+1 &lt;&amp;&gt;&#13;\n x </t>"), "{xml}");
        assert_eq!(replaced, 2);
        let (xml, _) = sheet(&text(&"é".repeat(LONGEST + 5)));
        assert_eq!(xml.matches('é').count(), LONGEST);
    }

    #[test]
    fn the_same_cells_are_the_same_bytes() {
        let rows = vec![vec![
            Cell::Number(241.0),
            Cell::Blank,
            Cell::Text("A".to_owned()),
        ]];
        assert_eq!(write(&rows).unwrap(), write(&rows).unwrap());
    }
}
