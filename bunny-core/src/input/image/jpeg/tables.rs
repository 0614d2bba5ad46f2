//! The tables of a scan.

use super::error::Stop;
use super::frame::{Frame, Part, Scan};
use super::huffman::{Codes, Table};
use super::segments::Segments;

/// The Huffman tables that a scan decodes with, by the numbers that its parts give.
#[derive(Debug)]
pub(super) struct Tables {
    dc: Vec<Table>,
    ac: Vec<Table>,
}

impl Tables {
    /// # Errors
    /// A table is missing or damaged.
    pub(super) fn new(segments: &Segments<'_>, frame: &Frame, scan: &Scan) -> Result<Self, Stop> {
        let is_progressive = frame.is_progressive;
        let needs_dc = !is_progressive || scan.first == 0 && scan.high == 0;
        let needs_ac = !is_progressive || scan.first > 0;
        let make = |codes: &[Option<Codes>; 4], needed: bool, number: fn(&Part) -> u8, top: u8| {
            let mut tables: Vec<Table> = (0..4).map(|_| Table::empty()).collect();
            let mut numbers: Vec<usize> =
                scan.parts.iter().map(|part| number(part).into()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            for number in numbers.into_iter().filter(|_| needed) {
                let codes = codes.get(number).and_then(Option::as_ref);
                let codes = codes.ok_or(Stop::MissingTable)?;
                if codes.symbols().iter().any(|symbol| *symbol > top) {
                    return Err(Stop::Huffman);
                }
                tables[number] = Table::new(codes)?;
            }
            Ok(tables)
        };
        Ok(Self {
            dc: make(&segments.dc, needs_dc, |part| part.dc, 15)?,
            ac: make(&segments.ac, needs_ac, |part| part.ac, 255)?,
        })
    }

    #[inline(always)]
    pub(super) fn dc(&self, part: &Part) -> &Table {
        &self.dc[usize::from(part.dc)]
    }

    #[inline(always)]
    pub(super) fn ac(&self, part: &Part) -> &Table {
        &self.ac[usize::from(part.ac)]
    }
}
