//! What every work file carries: a hash of each of its blocks, behind what it holds.
//!
//! ```text
//! payload   hash × ⌈payload / 64 KiB⌉   length of the payload   "bunnysum"
//! ```
//! A bit that a disk, a memory or a network has turned over is told when the block it lies in is
//! read, so a reader of some rows looks at their blocks alone.

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::map::{map_file, release};
use super::{Opened, Store};
use crate::error::{DataError, Result, WorkFault};
use crate::fast_hash::fast_hash;
use bunny_base::random::mix_all;

/// Bytes of a block.
const BLOCK: usize = 1 << 16;

/// What a work file ends with.
const MAGIC: u64 = u64::from_le_bytes(*b"bunnysum");

/// Bytes behind the hashes: the payload's length and the magic word.
const TRAILER: usize = 16;

/// Hashes of blocks of bytes that come piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// The bytes of the block under way.
    block: Vec<u8>,
    hashes: Vec<u64>,
    length: u64,
}

impl Sums {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while self.block.len() + bytes.len() >= BLOCK {
            let (now, later) = bytes.split_at(BLOCK - self.block.len());
            if self.block.is_empty() {
                self.hashes.push(fast_hash(now));
            } else {
                self.block.extend_from_slice(now);
                self.hashes.push(fast_hash(&self.block));
                self.block.clear();
            }
            bytes = later;
        }
        self.block.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        if !self.block.is_empty() {
            self.hashes.push(fast_hash(&self.block));
            self.block.clear();
        }
    }

    /// One word for all bytes, the same as [`whole`] gives.
    pub(crate) fn word(mut self) -> u64 {
        self.end();
        mix_all(&self.hashes)
    }

    /// What follows the bytes in a work file.
    pub(super) fn tail(mut self) -> Vec<u8> {
        self.end();
        let mut tail: Vec<u8> = bytemuck::cast_slice(&self.hashes).to_vec();
        tail.extend_from_slice(&self.length.to_le_bytes());
        tail.extend_from_slice(&MAGIC.to_le_bytes());
        tail
    }
}

/// One word for bytes that are all there.
pub(crate) fn whole(bytes: &[u8]) -> u64 {
    let hashes: Vec<u64> = bytes.chunks(BLOCK).map(fast_hash).collect();
    mix_all(&hashes)
}

/// A mapped work file.
#[derive(Debug)]
pub(crate) struct WorkFile {
    opened: Opened,
    map: Mmap,
    /// Bytes of the payload.
    length: usize,
}

impl WorkFile {
    /// Maps a work file; what it holds is yet to be checked.
    pub(crate) fn open(store: &dyn Store, key: &str) -> Result<Self> {
        Self::of(store.open_partly(key)?)
    }

    /// Maps a work file and checks all of it.
    pub(crate) fn whole(store: &dyn Store, key: &str) -> Result<Self> {
        let file = Self::of(store.open(key)?)?;
        file.check(0..file.length)?;
        Ok(file)
    }

    fn of(opened: Opened) -> Result<Self> {
        let broken = || DataError::work(&opened.path, WorkFault::Broken);
        let held = opened.len()?;
        if held < TRAILER as u64 {
            return Err(broken());
        }
        opened.need(held - TRAILER as u64..held)?;
        let map = map_file(&opened)?;
        let at = map.len() - TRAILER;
        let word = |at: usize| bytemuck::pod_read_unaligned::<u64>(&map[at..at + 8]);
        let length = word(at);
        let expected = length
            .div_ceil(BLOCK as u64)
            .checked_mul(8)
            .and_then(|hashes| hashes.checked_add(length));
        if word(at + 8) != MAGIC || expected != Some(at as u64) {
            return Err(broken());
        }
        Ok(Self {
            opened,
            map,
            length: length as usize,
        })
    }

    /// Makes sure that some bytes of the payload are there.
    pub(crate) fn need(&self, bytes: Range<usize>) -> Result<()> {
        self.opened.need(bytes.start as u64..bytes.end as u64)
    }

    /// What messages call it.
    pub(crate) fn path(&self) -> &Path {
        &self.opened.path
    }

    /// What it holds.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.map[..self.length]
    }

    /// The map, of which the payload is the beginning.
    pub(crate) fn into_map(self) -> (PathBuf, Mmap) {
        (self.opened.path, self.map)
    }

    /// The map, of which the payload is the beginning.
    pub(crate) fn map(&self) -> &Mmap {
        &self.map
    }

    /// Fails unless the blocks that some bytes of the payload lie in are as they were written. Their
    /// pages are let go again.
    pub(crate) fn check(&self, bytes: Range<usize>) -> Result<()> {
        const RELEASED: usize = 64 * BLOCK;
        let blocks = bytes.start / BLOCK..bytes.end.min(self.length).div_ceil(BLOCK);
        let hashes = self.length + 8 * blocks.start..self.length + 8 * blocks.end;
        self.need(blocks.start * BLOCK..self.length.min(blocks.end * BLOCK))?;
        self.need(hashes)?;
        for block in blocks.clone() {
            let start = block * BLOCK;
            let held = &self.payload()[start..self.length.min(start + BLOCK)];
            let at = self.length + 8 * block;
            let hash: u64 = bytemuck::pod_read_unaligned(&self.map[at..at + 8]);
            if fast_hash(held) != hash {
                return Err(DataError::work(self.path(), WorkFault::Flipped));
            }
            if start % RELEASED == RELEASED - BLOCK && blocks.len() > 128 {
                release(&self.map, start + BLOCK - RELEASED..start + BLOCK);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, Folders, WORK};

    #[test]
    fn every_flipped_bit_of_a_work_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folders::new(dir.path(), dir.path());
        let key = format!("{WORK}/x");
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
            let bytes: Vec<u8> = (0..length).map(|i| ((i * 31) >> 3) as u8).collect();
            store::fill(&store, &key, |file| {
                // In pieces of all lengths.
                let (mut rest, mut piece) = (&bytes[..], 1);
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(piece.min(rest.len()));
                    file.put(now)?;
                    (rest, piece) = (later, 3 * piece % 70_001);
                }
                Ok(())
            })
            .unwrap();
            let file = WorkFile::whole(&store, &key).unwrap();
            assert_eq!(file.payload(), bytes);
            drop(file);
            let mut sums = Sums::default();
            sums.update(&bytes);
            assert_eq!(sums.word(), whole(&bytes));

            let path = dir.path().join("x");
            let good = std::fs::read(&path).unwrap();
            let step = (good.len() / 199).max(1);
            for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                std::fs::write(&path, bad).unwrap();
                let error = WorkFile::whole(&store, &key).unwrap_err();
                assert!(matches!(error, DataError::Work { .. }), "{at}: {error}");
            }
            for end in [0, good.len() / 2, good.len() - 1] {
                std::fs::write(&path, &good[..end]).unwrap();
                assert!(WorkFile::whole(&store, &key).is_err(), "{end} bytes");
            }
            std::fs::write(&path, &good).unwrap();
        }
    }

    #[test]
    fn a_reader_of_some_bytes_does_not_mind_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folders::new(dir.path(), dir.path());
        let key = format!("{WORK}/x");
        store::fill(&store, &key, |file| file.put(&[7; 4 * BLOCK])).unwrap();
        let path = dir.path().join("x");
        let mut bad = std::fs::read(&path).unwrap();
        bad[2 * BLOCK + 5] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let file = WorkFile::open(&store, &key).unwrap();
        file.check(0..2 * BLOCK).unwrap();
        file.check(3 * BLOCK..4 * BLOCK).unwrap();
        for range in [
            0..4 * BLOCK,
            2 * BLOCK..2 * BLOCK + 1,
            2 * BLOCK - 1..2 * BLOCK + 1,
        ] {
            assert!(file.check(range).is_err());
        }
    }
}
