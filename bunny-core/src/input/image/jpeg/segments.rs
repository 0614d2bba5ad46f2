//! The segments of a file: tables, the frame, the scans.

use super::error::Stop;
use super::frame::{Frame, Scan};
use super::huffman::Codes;
use super::standard;

pub(super) const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
pub(super) const START_OF_SCAN: u8 = 0xda;
/// The first of eight.
pub(super) const RESTART: u8 = 0xd0;
const LAST_RESTART: u8 = 0xd7;
/// Below it no marker is known, but 1.
pub(super) const FIRST_MARKER: u8 = 0xc0;

/// From zigzag order to rows. What lies beyond the last coefficient, where damaged runs end, is the
/// last one.
pub(super) const ZIGZAG: [u8; 128] = {
    let mut order = [63; 128];
    let (mut place, mut diagonal) = (0, 0);
    while diagonal < 15 {
        let mut step = 0;
        while step <= diagonal {
            let (up, down) = (step, diagonal - step);
            // Even diagonals go up.
            let (x, y) = if diagonal % 2 == 0 {
                (up, down)
            } else {
                (down, up)
            };
            if x < 8 && y < 8 {
                order[place] = (y * 8 + x) as u8;
                place += 1;
            }
            step += 1;
        }
        diagonal += 1;
    }
    order
};

/// Reads a file from segment to segment.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    has_scans: bool,
    pub(super) frame: Option<Frame>,
    /// Row by row.
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Codes>; 4],
    pub(super) ac: [Option<Codes>; 4],
    pub(super) restart_interval: u16,
    pub(super) has_jfif: bool,
    /// What Adobe's segment says of the colours.
    pub(super) adobe: Option<u8>,
    /// EXIF data, without the name before it.
    pub(super) exif: Vec<u8>,
}

/// Where reading comes to a stop.
#[derive(Debug)]
pub(super) enum Event {
    /// A scan, and where its data begin.
    Scan(Scan, usize),
    End,
}

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Stop> {
        let mut segments = Self {
            bytes,
            at: 0,
            has_scans: false,
            frame: None,
            quantisation: [None; 4],
            dc: Default::default(),
            ac: Default::default(),
            restart_interval: 0,
            has_jfif: false,
            adobe: None,
            exif: Vec::new(),
        };
        segments.start()?;
        // As in Pillow, another marker follows at once.
        match bytes.get(2) {
            Some(0xff) => Ok(segments),
            Some(_) => Err(Stop::Marker(START_OF_IMAGE)),
            None => Err(Stop::CutOff),
        }
    }

    fn start(&mut self) -> Result<(), Stop> {
        match self.bytes.get(self.at..self.at + 2) {
            Some([0xff, START_OF_IMAGE]) => self.at += 2,
            Some(&[_, marker]) => return Err(Stop::Marker(marker)),
            _ => return Err(Stop::CutOff),
        }
        (self.restart_interval, self.has_jfif, self.adobe) = (0, false, None);
        Ok(())
    }

    /// Fills in what a sequential file may leave out.
    pub(super) fn complete_codes(&mut self) {
        for (table, codes) in self.dc.iter_mut().zip(standard::dc()) {
            table.get_or_insert(codes);
        }
        for (table, codes) in self.ac.iter_mut().zip(standard::ac()) {
            table.get_or_insert(codes);
        }
    }

    /// Reads on from behind the data of a scan.
    pub(super) fn resume(&mut self, at: usize) {
        self.at = at;
    }

    /// Reads up to the next scan or the end.
    pub(super) fn next(&mut self) -> Result<Event, Stop> {
        loop {
            let (marker, at) = next_marker(self.bytes, self.at).ok_or(Stop::CutOff)?;
            self.at = at;
            match marker {
                0xc0..=0xc2 if self.frame.is_none() => self.read_frame(marker)?,
                0xc4 => self.read_codes(marker)?,
                0xc3 => return Err(Stop::Unsupported("lossless JPEG")),
                0xc9..=0xcb => return Err(Stop::Unsupported("JPEG with arithmetic coding")),
                0xc5..=0xc7 | 0xcd..=0xcf => {
                    return Err(Stop::Unsupported("hierarchical JPEG"));
                }
                RESTART..=LAST_RESTART => {}
                // Temporary marker: libjpeg passes over it, Pillow's own reading of the head does not.
                0x01 if self.has_scans => {}
                END_OF_IMAGE if self.has_scans => return Ok(Event::End),
                // Tables alone; the picture follows.
                END_OF_IMAGE if self.frame.is_none() => self.start()?,
                START_OF_SCAN => return self.read_scan(marker),
                0xdb => self.read_quantisation(marker)?,
                0xdd => {
                    let [0, 4, high, low] = *self.take_chunk()? else {
                        return Err(Stop::Length(marker));
                    };
                    self.restart_interval = u16::from_be_bytes([high, low]);
                }
                0xe0..=0xef => self.read_application(marker)?,
                // Arithmetic conditioning, number of lines, comment.
                0xcc | 0xdc | 0xfe => {
                    let length = self.take_length()?;
                    self.take(length)?;
                }
                _ => return Err(Stop::Marker(marker)),
            }
        }
    }

    /// The next bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += count;
        rest.get(..count).ok_or(Stop::CutOff)
    }

    fn take_chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Stop> {
        let bytes = self.take(N)?;
        bytes.first_chunk().ok_or(Stop::CutOff)
    }

    /// The length of a segment without itself; one that does not even count itself is none.
    fn take_length(&mut self) -> Result<usize, Stop> {
        let length = u16::from_be_bytes(*self.take_chunk()?);
        Ok(usize::from(length).saturating_sub(2))
    }

    /// The length of a segment without itself.
    fn take_exact_length(&mut self, marker: u8) -> Result<usize, Stop> {
        let length = u16::from_be_bytes(*self.take_chunk()?);
        usize::from(length)
            .checked_sub(2)
            .ok_or(Stop::Length(marker))
    }

    fn read_frame(&mut self, marker: u8) -> Result<(), Stop> {
        let length = self.take_exact_length(marker)?;
        let head = self.take_chunk::<6>()?;
        let count = usize::from(head[5]);
        if length != 6 + 3 * count {
            return Err(Stop::Length(marker));
        }
        let (components, _) = self.take(3 * count)?.as_chunks();
        self.frame = Some(Frame::read(head, components, marker)?);
        Ok(())
    }

    fn read_scan(&mut self, marker: u8) -> Result<Event, Stop> {
        let frame = self.frame.clone().ok_or(Stop::NoFrame)?;
        let length = self.take_exact_length(marker)?;
        let [count] = *self.take_chunk()?;
        if length != 4 + 2 * usize::from(count) || !(1..=4).contains(&count) {
            return Err(Stop::Length(marker));
        }
        let (parts, _) = self.take(2 * usize::from(count))?.as_chunks();
        let scan = Scan::read(parts, *self.take_chunk()?, &frame)?;
        self.has_scans = true;
        Ok(Event::Scan(scan, self.at))
    }

    fn read_application(&mut self, marker: u8) -> Result<(), Stop> {
        const EXIF: &[u8] = b"Exif\0\0";
        let length = self.take_length()?;
        let segment = self.take(length)?;
        match marker {
            0xe0 if segment.starts_with(b"JFIF\0") && length >= 14 => self.has_jfif = true,
            0xe1 if segment.starts_with(EXIF) && !self.has_scans => {
                self.exif.extend_from_slice(&segment[EXIF.len()..]);
            }
            0xee if segment.starts_with(b"Adobe") && length >= 12 => self.adobe = Some(segment[11]),
            _ => {}
        }
        Ok(())
    }

    fn read_quantisation(&mut self, marker: u8) -> Result<(), Stop> {
        let mut length = self.take_exact_length(marker)?;
        while length > 0 {
            let [head] = *self.take_chunk()?;
            let width = if head >> 4 == 0 { 1 } else { 2 };
            let table = self.quantisation.get(usize::from(head & 15));
            table.ok_or(Stop::MissingTable)?;
            let values = self.take(64 * width)?.chunks_exact(width);
            let mut steps = [0; 64];
            for (value, place) in values.zip(ZIGZAG) {
                let value = value
                    .iter()
                    .fold(0, |value, byte| value << 8 | u16::from(*byte));
                steps[usize::from(place)] = value;
            }
            self.quantisation[usize::from(head & 15)] = Some(steps);
            let used = 1 + 64 * width;
            length = length.checked_sub(used).ok_or(Stop::Length(marker))?;
        }
        Ok(())
    }

    fn read_codes(&mut self, marker: u8) -> Result<(), Stop> {
        let mut length = self.take_exact_length(marker)?;
        while length > 16 {
            let [class, counts @ ..] = *self.take_chunk::<17>()?;
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            let mut symbols = [0; 256];
            let listed = symbols.get_mut(..count).ok_or(Stop::Huffman)?;
            length = (length - 17).checked_sub(count).ok_or(Stop::Huffman)?;
            listed.copy_from_slice(self.take(count)?);
            let tables = if class & 0x10 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            let table = tables
                .get_mut(usize::from(class & !0x10))
                .ok_or(Stop::Huffman)?;
            *table = Some(Codes { counts, symbols });
        }
        if length == 0 {
            Ok(())
        } else {
            Err(Stop::Length(marker))
        }
    }
}

/// The next marker, and where what follows it begins. Bytes that belong to none are passed over.
pub(super) fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        at += bytes[at..].iter().position(|byte| *byte != 0xff)?;
        if bytes[at] != 0 {
            return Some((bytes[at], at + 1));
        }
    }
}
