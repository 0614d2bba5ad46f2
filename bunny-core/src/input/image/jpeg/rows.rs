//! Rows of blocks to rows of pixels.

use super::color::{Colors, Planes};
use super::frame::Frame;
use super::level::Level;
use super::transform::Samples;
use super::upsample::Upsampling;

/// Makes the picture from rows of units.
#[derive(Debug)]
pub(super) struct Rows {
    colors: Colors,
    planes: Vec<Plane>,
    height: usize,
    /// Rows of the picture in a row of units.
    unit: usize,
    /// Rows of units that are complete.
    complete: usize,
    /// `[height, width, 3]`.
    picture: Vec<u8>,
    width: usize,
    scratch: Box<Planes>,
}

/// The rows of a component that are in work.
#[derive(Debug)]
struct Plane {
    upsampling: Upsampling,
    width: usize,
    height: usize,
    stride: usize,
    /// Rows in a row of units.
    unit: usize,
    /// `[1 + unit, stride]`: the last row of the row of units before, then those in work.
    samples: Vec<u8>,
    sums: Vec<u16>,
    out: Vec<u8>,
}

impl Rows {
    pub(super) fn new(frame: &Frame, colors: Colors) -> Self {
        let planes = frame.components.iter().map(|component| {
            let stride = frame.units_wide() * component.h * 8;
            let unit = component.v * 8;
            Plane {
                upsampling: Upsampling::of(component, frame),
                width: component.width,
                height: component.height,
                stride,
                unit,
                samples: vec![0; stride * (1 + unit)],
                sums: vec![0; component.width],
                out: vec![0; component.width * frame.max_h / component.h],
            }
        });
        Self {
            colors,
            planes: planes.collect(),
            height: frame.height,
            unit: frame.max_v * 8,
            complete: 0,
            picture: Vec::with_capacity(frame.width * frame.height * 3),
            width: frame.width,
            scratch: Box::new([[0; _]; 3]),
        }
    }

    /// Puts a block of the row of units in work in its place; `row` is counted in that row.
    #[inline(always)]
    pub(super) fn put(&mut self, component: usize, row: usize, column: usize, block: &Samples) {
        let plane = &mut self.planes[component];
        let at = (1 + row * 8) * plane.stride + column * 8;
        let rows = plane.samples[at..].chunks_mut(plane.stride);
        for (out, row) in rows.zip(block.as_chunks::<8>().0) {
            out[..8].copy_from_slice(row);
        }
    }

    /// The row of units in work is complete: makes the rows of pixels up to its last but one, which
    /// may have a part of what comes below.
    pub(super) fn complete(&mut self, level: Level) {
        match level {
            Level::Plain => self.make_rows(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level was found on this processor.
            Level::Avx2 => unsafe { self.make_rows_avx2() },
        }
        for plane in &mut self.planes {
            plane.samples.copy_within(plane.unit * plane.stride.., 0);
        }
        self.complete += 1;
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn make_rows_avx2(&mut self) {
        self.make_rows();
    }

    #[inline(always)]
    fn make_rows(&mut self) {
        let from = (self.complete * self.unit).saturating_sub(1);
        let to = (self.complete + 1) * self.unit;
        let to = if to < self.height {
            to - 1
        } else {
            self.height
        };
        for y in from..to {
            let mut samples: [&[u8]; 4] = [&[]; 4];
            for (samples, plane) in samples.iter_mut().zip(&mut self.planes) {
                *samples = plane.row(y, self.complete * plane.unit);
            }
            let start = self.picture.len();
            self.picture.resize(start + self.width * 3, 0);
            self.colors
                .convert(samples, &mut self.scratch, &mut self.picture[start..]);
        }
    }

    pub(super) fn into_picture(self) -> Vec<u8> {
        self.picture
    }
}

impl Plane {
    /// The samples for a row of the picture. `first` is the first of the component's rows in work.
    #[inline(always)]
    fn row(&mut self, y: usize, first: usize) -> &[u8] {
        let (near, far) = self.upsampling.rows(y, self.height);
        let row = |row: usize| &self.samples[(1 + row - first) * self.stride..][..self.width];
        if self.upsampling == Upsampling::Whole {
            return row(near);
        }
        self.upsampling
            .make(row(near), row(far), y, &mut self.sums, &mut self.out);
        &self.out
    }
}
