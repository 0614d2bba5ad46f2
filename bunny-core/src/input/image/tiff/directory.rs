//! What has to be known of a TIFF before the decoder reads it: it believes what the tags say of
//! sizes, and it refuses palettes.

use std::borrow::Cow;

use tiff::tags::Tag;

use crate::input::image::ImageError;
use crate::input::image::decode::DecodeOptions;

/// The kind of 16-bit values.
const SHORT: u16 = 3;

/// The tags of the first page, as far as they have to be known.
#[derive(Default)]
pub(super) struct Directory {
    tags: Vec<Entry>,
    is_little: bool,
}

struct Entry {
    tag: u16,
    /// 1 to 16, which tells the size of a value.
    kind: u16,
    count: u32,
    /// The value, if it is a single one of at most 32 bits; else where it lies.
    value: u32,
    /// Where in the file the value stands.
    at: usize,
}

impl Directory {
    /// `None` if the file ends before it.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        const ENTRY: usize = 12;
        let is_little = bytes.starts_with(b"II");
        let short = |at: usize| {
            let pair = *bytes.get(at..)?.first_chunk()?;
            Some(if is_little {
                u16::from_le_bytes(pair)
            } else {
                u16::from_be_bytes(pair)
            })
        };
        let long = |at: usize| {
            let four = *bytes.get(at..)?.first_chunk()?;
            Some(if is_little {
                u32::from_le_bytes(four)
            } else {
                u32::from_be_bytes(four)
            })
        };
        let start = usize::try_from(long(4)?).ok()?;
        let count = usize::from(short(start)?);
        let tags = (0..count).map(|number| {
            let at = start + 2 + ENTRY * number;
            let (tag, kind) = (short(at)?, short(at + 2)?);
            let value = if kind == SHORT {
                short(at + 8)?.into()
            } else {
                long(at + 8)?
            };
            Some(Entry {
                tag,
                kind,
                count: long(at + 4)?,
                value,
                at: at + 8,
            })
        });
        Some(Self {
            tags: tags.collect::<Option<_>>()?,
            is_little,
        })
    }

    fn value(&self, tag: Tag) -> Option<u32> {
        self.tags
            .iter()
            .find(|entry| entry.tag == tag.to_u16())
            .map(|entry| entry.value)
    }

    /// Refuses sizes beyond the limits, and tags that are longer than the file.
    pub(super) fn check(&self, file: usize, options: DecodeOptions) -> Result<(), ImageError> {
        if let (Some(width), Some(height)) =
            (self.value(Tag::ImageWidth), self.value(Tag::ImageLength))
        {
            options.check(width, height)?;
        }
        for Entry {
            tag, kind, count, ..
        } in &self.tags
        {
            let size: u64 = match kind {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16.. => 8,
                _ => 1,
            };
            if size * u64::from(*count) > file as u64 {
                return Err(ImageError::decode(format!(
                    "TIFF tag {tag} is longer than the file"
                )));
            }
        }
        Ok(())
    }

    /// A file that has a palette is shown to the decoder as grey, so that it gives the indices:
    /// with `PhotometricInterpretation` changed from 3 to 1.
    pub(super) fn as_indices<'b>(&self, bytes: &'b [u8]) -> (Cow<'b, [u8]>, bool) {
        const PALETTE: u32 = 3;
        let is_palette = |entry: &&Entry| {
            entry.tag == Tag::PhotometricInterpretation.to_u16() && entry.value == PALETTE
        };
        let Some(Entry {
            kind: SHORT, at, ..
        }) = self.tags.iter().find(is_palette)
        else {
            return (Cow::Borrowed(bytes), false);
        };
        let mut grey = bytes.to_vec();
        grey[if self.is_little { *at } else { at + 1 }] = 1;
        (Cow::Owned(grey), true)
    }
}
