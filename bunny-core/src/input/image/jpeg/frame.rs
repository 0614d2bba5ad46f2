//! How a picture is divided: components, their blocks, and the units that scans go by.

use super::error::Stop;

/// Coefficients of a block, row by row.
pub(super) type Block = [i16; 64];

/// What `SOF` says.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) is_progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors.
    pub(super) max_h: usize,
    pub(super) max_v: usize,
}

/// A plane of samples.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors: of `max_h` columns it has `h`, of `max_v` rows `v`.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Which quantisation table it names.
    pub(super) table: u8,
    /// Samples.
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Component {
    pub(super) fn blocks_wide(&self) -> usize {
        self.width.div_ceil(8)
    }

    pub(super) fn blocks_high(&self) -> usize {
        self.height.div_ceil(8)
    }
}

impl Frame {
    /// Nothing is allocated by the size yet.
    pub(super) fn read(head: &[u8; 6], components: &[[u8; 3]], marker: u8) -> Result<Self, Stop> {
        let [bits, h1, h0, w1, w0, count] = *head;
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        if bits != 8 {
            return Err(Stop::Unsupported("JPEG of other than 8 bits"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Stop::Unsupported("JPEG of other than 1, 3 or 4 components"));
        }
        let mut components: Vec<Component> = components
            .iter()
            .map(|&[id, sampling, table]| Component {
                id,
                h: usize::from(sampling >> 4),
                v: usize::from(sampling & 15),
                table,
                width: 0,
                height: 0,
            })
            .collect();
        if components
            .iter()
            .any(|c| !(1..=4).contains(&c.h) || !(1..=4).contains(&c.v))
        {
            return Err(Stop::Sampling);
        }
        let max_h = components.iter().map(|c| c.h).max().unwrap_or(1);
        let max_v = components.iter().map(|c| c.v).max().unwrap_or(1);
        for component in &mut components {
            if max_h % component.h != 0 || max_v % component.v != 0 {
                return Err(Stop::Sampling);
            }
            component.width = (width * component.h).div_ceil(max_h);
            component.height = (height * component.v).div_ceil(max_v);
        }
        Ok(Self {
            width,
            height,
            is_progressive: marker == 0xc2,
            components,
            max_h,
            max_v,
        })
    }

    /// Units in a row of the interleaved picture.
    pub(super) fn units_wide(&self) -> usize {
        self.width.div_ceil(8 * self.max_h)
    }

    /// Rows of units.
    pub(super) fn units_high(&self) -> usize {
        self.height.div_ceil(8 * self.max_v)
    }
}

/// What `SOS` says.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) parts: Vec<Part>,
    /// The coefficients in it, in zigzag order.
    pub(super) first: u8,
    pub(super) last: u8,
    /// The bit before the one that it refines; 0 where it begins.
    pub(super) high: u8,
    /// The lowest bit in it.
    pub(super) low: u8,
}

/// A component in a scan.
#[derive(Debug)]
pub(super) struct Part {
    /// Its place in the frame.
    pub(super) component: usize,
    /// Which tables it names.
    pub(super) dc: u8,
    pub(super) ac: u8,
}

impl Scan {
    /// Components come in the frame's order, of which some may be left out.
    pub(super) fn read(parts: &[[u8; 2]], tail: [u8; 3], frame: &Frame) -> Result<Self, Stop> {
        let [first, last, bits] = tail;
        let mut scan = Self {
            parts: Vec::with_capacity(parts.len()),
            first,
            last,
            high: bits >> 4,
            low: bits & 15,
        };
        for (place, &[id, tables]) in parts.iter().enumerate() {
            let mut candidates = frame.components.iter().enumerate().skip(place);
            let found = candidates.find(|(_, component)| component.id == id);
            let (component, _) = found.ok_or(Stop::Components)?;
            if scan.parts.iter().any(|part| part.component == component) {
                return Err(Stop::Components);
            }
            scan.parts.push(Part {
                component,
                dc: tables >> 4,
                ac: tables & 15,
            });
        }
        let components = scan
            .parts
            .iter()
            .map(|part| &frame.components[part.component]);
        let blocks: usize = components.map(|component| component.h * component.v).sum();
        if parts.len() > 1 && blocks > 10 {
            return Err(Stop::Sampling);
        }
        Ok(scan)
    }
}
