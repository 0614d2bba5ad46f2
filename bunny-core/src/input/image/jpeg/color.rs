//! Samples to RGB.

use super::frame::Frame;

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

impl Colors {
    /// libjpeg's guess: JFIF has YCbCr, Adobe's segment tells, and else the components' names do.
    pub(super) fn of(frame: &Frame, has_jfif: bool, adobe: Option<u8>) -> Self {
        let ids: Vec<u8> = frame
            .components
            .iter()
            .map(|component| component.id)
            .collect();
        match (ids.as_slice(), adobe) {
            ([_], _) => Self::Grey,
            ([_, _, _], _) if has_jfif => Self::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => Self::Rgb,
            ([_, _, _], _) => Self::YCbCr,
            (_, None | Some(0)) => Self::Cmyk,
            _ => Self::Ycck,
        }
    }

    /// Converts a row.
    #[inline(always)]
    pub(super) fn convert(self, samples: [&[u8]; 4], planes: &mut Planes, out: &mut [u8]) {
        let (pixels, _) = out.as_chunks_mut::<3>();
        for (number, pixels) in pixels.chunks_mut(CHUNK).enumerate() {
            let part = number * CHUNK..number * CHUNK + pixels.len();
            let [first, second, third, fourth] =
                samples.map(|samples| samples.get(part.clone()).unwrap_or_default());
            match self {
                Self::Grey => interleave([first; 3], pixels),
                Self::Rgb => interleave([first, second, third], pixels),
                Self::YCbCr => {
                    to_rgb([first, second, third], planes);
                    interleave(planes.each_ref().map(|plane| &plane[..]), pixels);
                }
                Self::Cmyk => {
                    for (plane, inks) in planes.iter_mut().zip([first, second, third]) {
                        for ((out, ink), light) in plane.iter_mut().zip(inks).zip(fourth) {
                            *out = print(255 - *ink, *light);
                        }
                    }
                    interleave(planes.each_ref().map(|plane| &plane[..]), pixels);
                }
                Self::Ycck => {
                    to_rgb([first, second, third], planes);
                    for plane in planes.iter_mut() {
                        for (ink, light) in plane.iter_mut().zip(fourth) {
                            *ink = print(*ink, *light);
                        }
                    }
                    interleave(planes.each_ref().map(|plane| &plane[..]), pixels);
                }
            }
        }
    }
}

/// Pixels that are converted at once.
const CHUNK: usize = 512;

/// Scratch: red, green and blue of as many pixels.
pub(super) type Planes = [[u8; CHUNK]; 3];

#[inline(always)]
fn interleave([red, green, blue]: [&[u8]; 3], pixels: &mut [[u8; 3]]) {
    let count = pixels.len();
    let (red, green, blue) = (&red[..count], &green[..count], &blue[..count]);
    for i in 0..count {
        pixels[i] = [red[i], green[i], blue[i]];
    }
}

/// Full-range BT.601 from YCbCr, with 16 bits behind the point and halves rounded up.
///
/// Whole parts are taken out of the factors, so that the rest has no more than 16 bits.
#[inline(always)]
fn to_rgb([y, cb, cr]: [&[u8]; 3], [red, green, blue]: &mut Planes) {
    const fn fixed(value: f64) -> i32 {
        (value * 65536.0 + 0.5) as i32
    }
    const ONE: i32 = 1 << 16;
    let centred = |value: u8| i16::from(value) - 128;
    let clamp = |value: i16| value.clamp(0, 255) as u8;
    // The product with a factor below one half, rounded.
    let scaled =
        |value: i16, factor: i32| (((i32::from(2 * value) * factor) >> 16) as i16 + 1) >> 1;
    let count = y.len();
    let (y, cb, cr) = (&y[..count], &cb[..count], &cr[..count]);
    let (red, green, blue) = (&mut red[..count], &mut green[..count], &mut blue[..count]);
    for i in 0..count {
        let cr = centred(cr[i]);
        red[i] = clamp(i16::from(y[i]) + cr + scaled(cr, fixed(1.40200) - ONE));
    }
    for i in 0..count {
        let (cb, cr) = (centred(cb[i]), centred(cr[i]));
        let rest = i32::from(cr) * (ONE - fixed(0.71414)) - i32::from(cb) * fixed(0.34414);
        green[i] = clamp(i16::from(y[i]) - cr + ((rest + ONE / 2) >> 16) as i16);
    }
    for i in 0..count {
        let cb = centred(cb[i]);
        blue[i] = clamp(i16::from(y[i]) + 2 * cb + scaled(cb, fixed(1.77200) - 2 * ONE));
    }
}

/// Pillow's: what black leaves, less the ink's share of it. Files have all inks inverted, as Adobe's
/// programs write them; `light` is black's.
#[inline(always)]
fn print(ink: u8, light: u8) -> u8 {
    let product = u32::from(ink) * u32::from(light) + 128;
    light - (((product >> 8) + product) >> 8) as u8
}
