//! The keys at given ranks of a set too large to sort: repeated passes count keys by 16 more of
//! their leading bits, until few enough share them to be collected.
//!
//! Counts of several machines add up, so the ranks of a set in pieces are exact.

use serde::{Deserialize, Serialize};

/// What is ranked: a value as an ordered integer, and the row that settles ties.
pub(crate) type Key = (u64, u64);

/// Keys that are collected rather than counted: some megabytes, as they are sent.
const FEW: u64 = 1 << 16;

/// Bits told apart in one pass.
const STEP: u32 = 16;

/// One of the ranks that are looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Target {
    /// The leading bits of the key, as far as they are known; the others are zero.
    prefix: Key,
    known: u32,
    /// The rank among the keys with this prefix.
    rank: u64,
    /// Whether so few keys have it that they are collected.
    few: bool,
    found: Option<Key>,
}

/// The state of a search for keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Select {
    targets: Vec<Target>,
}

/// What one pass over a piece saw: counts or keys, for each target but those that look at the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// How many keys have which next bits, in their order; what nobody has is left out, so that what
    /// is sent of a piece is small.
    counts: Vec<Vec<(u16, u64)>>,
    keys: Vec<Vec<Key>>,
}

impl Seen {
    /// Adds what was seen of another piece.
    pub(crate) fn merge(&mut self, other: Self) {
        for (mine, other) in self.counts.iter_mut().zip(other.counts) {
            mine.extend(other);
            mine.sort_by_key(|(bin, _)| *bin);
            mine.dedup_by(|(bin, count), (first, sum)| {
                let same = bin == first;
                if same {
                    *sum += *count;
                }
                same
            });
        }
        for (mine, other) in self.keys.iter_mut().zip(other.keys) {
            mine.extend(other);
        }
    }
}

fn wide(key: Key) -> u128 {
    u128::from(key.0) << 64 | u128::from(key.1)
}

impl Select {
    /// Looks for the keys at these ranks (from 0, in ascending order of keys) of `count`.
    ///
    /// # Panics
    /// Where a rank is not below `count`.
    pub(crate) fn new(ranks: &[u64], count: u64) -> Self {
        let target = |rank: &u64| {
            assert!(*rank < count, "rank {rank} of {count}");
            Target {
                prefix: (0, 0),
                known: 0,
                rank: *rank,
                few: count <= FEW,
                found: None,
            }
        };
        Self {
            targets: ranks.iter().map(target).collect(),
        }
    }

    /// The keys, once all are found.
    pub(crate) fn found(&self) -> Option<Vec<Key>> {
        self.targets.iter().map(|target| target.found).collect()
    }

    /// The first of the targets that look at the same keys as this one: it looks for all of them.
    fn scout(&self, target: usize) -> usize {
        let sight = |target: &Target| (target.prefix, target.known, target.few);
        let (own, before) = (&self.targets[target], &self.targets[..target]);
        let same = |other: &Target| other.found.is_none() && sight(other) == sight(own);
        before.iter().position(same).unwrap_or(target)
    }

    /// The targets that look for themselves and for others.
    fn scouts(&self) -> Vec<usize> {
        let looks = |at: &usize| self.targets[*at].found.is_none() && self.scout(*at) == *at;
        (0..self.targets.len()).filter(looks).collect()
    }

    /// Begins to look at one piece.
    pub(crate) fn looking(&self) -> Looking<'_> {
        let scouts = self.scouts();
        let counts = |scout: &usize| {
            vec![
                0;
                if self.targets[*scout].few {
                    0
                } else {
                    1 << STEP
                }
            ]
        };
        Looking {
            targets: &self.targets,
            counts: scouts.iter().map(counts).collect(),
            keys: scouts.iter().map(|_| Vec::new()).collect(),
            scouts,
        }
    }

    /// Takes what all pieces saw.
    pub(crate) fn advance(&mut self, mut seen: Seen) {
        let scouts = self.scouts();
        let looked: Vec<Option<usize>> = (0..self.targets.len())
            .map(|at| scouts.iter().position(|scout| *scout == self.scout(at)))
            .collect();
        for (target, looked) in self.targets.iter_mut().zip(looked) {
            let (None, Some(looked)) = (target.found, looked) else {
                continue;
            };
            let (counts, keys) = (&seen.counts[looked], &mut seen.keys[looked]);
            if target.few {
                let (_, key, _) = keys.select_nth_unstable(target.rank as usize);
                target.found = Some(*key);
                continue;
            }
            let mut before = 0;
            let (bin, count) = *counts
                .iter()
                .find(|(_, count)| {
                    let here = target.rank < before + count;
                    if !here {
                        before += count;
                    }
                    here
                })
                .unwrap_or_else(|| unreachable!("the rank is below the count"));
            target.rank -= before;
            let prefix = wide(target.prefix) | u128::from(bin) << (128 - target.known - STEP);
            target.prefix = ((prefix >> 64) as u64, prefix as u64);
            target.known += STEP;
            target.few = count <= FEW;
            if target.known == 128 {
                target.found = Some(target.prefix);
            }
        }
    }
}

/// A pass over one piece.
#[derive(Debug)]
pub(crate) struct Looking<'a> {
    targets: &'a [Target],
    scouts: Vec<usize>,
    counts: Vec<Vec<u64>>,
    keys: Vec<Vec<Key>>,
}

impl Looking<'_> {
    /// Looks at one key.
    pub(crate) fn see(&mut self, key: Key) {
        for (i, scout) in self.scouts.iter().enumerate() {
            let target = &self.targets[*scout];
            let differs = (wide(key) ^ wide(target.prefix)).checked_shr(128 - target.known);
            if differs.unwrap_or(0) != 0 {
                continue;
            }
            if target.few {
                self.keys[i].push(key);
            } else {
                let bin = (wide(key) >> (128 - target.known - STEP)) as u16;
                self.counts[i][usize::from(bin)] += 1;
            }
        }
    }

    /// What this piece held.
    pub(crate) fn seen(self) -> Seen {
        let seen = |counts: Vec<u64>| -> Vec<(u16, u64)> {
            let bins = counts.into_iter().enumerate();
            bins.filter(|(_, count)| *count > 0)
                .map(|(bin, count)| (bin as u16, count))
                .collect()
        };
        Seen {
            counts: self.counts.into_iter().map(seen).collect(),
            keys: self.keys,
        }
    }
}

/// The key at one rank of keys that can be passed over again and again on this machine.
///
/// # Errors
/// Those of a pass.
pub(crate) fn at_rank<E>(
    rank: u64,
    count: u64,
    mut pass: impl FnMut(&mut dyn FnMut(Key)) -> Result<(), E>,
) -> Result<Key, E> {
    let mut select = Select::new(&[rank], count);
    loop {
        if let Some(found) = select.found() {
            return Ok(found[0]);
        }
        let mut looking = select.looking();
        pass(&mut |key| looking.see(key))?;
        let seen = looking.seen();
        select.advance(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_base::random::mix;

    #[test]
    fn ranks_of_pieces_are_those_of_the_sorted_whole() {
        // More than are collected at once, half of them ties in the value.
        let keys: Vec<Key> = (0..3_000_000)
            .map(|row| (if row % 2 == 0 { 7 } else { mix(row) }, row))
            .collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        let ranks = [0, 1, 1_234_567, 1_234_570, 1_499_999, 2_999_998, 2_999_999];
        let mut select = Select::new(&ranks, keys.len() as u64);
        while select.found().is_none() {
            let see = |keys: &[Key]| {
                let mut looking = select.looking();
                keys.iter().for_each(|key| looking.see(*key));
                looking.seen()
            };
            let mut seen = see(&keys[..1000]);
            seen.merge(see(&keys[1000..]));
            select.advance(seen);
        }
        let expected: Vec<Key> = ranks.iter().map(|rank| sorted[*rank as usize]).collect();
        assert_eq!(select.found().unwrap(), expected);
        let mut few = keys[..10].to_vec();
        few.sort_unstable();
        let found = at_rank(5, 10, |see| {
            keys[..10].iter().for_each(|key| see(*key));
            Ok::<_, ()>(())
        });
        assert_eq!(found, Ok(few[5]));
    }
}
