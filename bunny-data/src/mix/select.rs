//! Which records of each source a mix uses.

use std::collections::BTreeMap;

use rayon::prelude::*;

use bunny_base::machine_memory;

use super::{Filter, Mix, Part, Source, Take};
use crate::error::Result;
use crate::order::shuffled;
use crate::record::Record;
use bunny_base::random::mix_all;

/// Memory where the system does not say how much there is.
const LARGE_MACHINE: u64 = 1 << 40;

impl Mix {
    /// Works out the parts of the mix; notes where a replaced part has another size than expected.
    pub(super) fn select(&mut self) -> Result<()> {
        let mut chosen = Vec::with_capacity(self.sources.len());
        for at in 0..self.sources.len() {
            let spec = self.sources[at].spec.clone();
            let mut picks = match &spec.filter {
                Some(filter) => self.sources[at].matching(filter, None)?,
                None => (0..self.sources[at].file.len() as u32).collect(),
            };
            if let Some(replace) = &spec.replace {
                let out = self.sources[at].matching(&replace.filter, Some(&picks))?;
                self.compare(
                    &spec.name,
                    "records replaced",
                    replace.expect.as_ref(),
                    out.len(),
                );
                picks.retain(|pick| out.binary_search(pick).is_err());
            }
            let key = mix_all(&[self.recipe.seed, at as u64]);
            let picks = match spec.take {
                None => picks,
                Some(Take::First(count)) => picks[..count.min(picks.len())].to_vec(),
                Some(Take::Random(count)) => sample(&picks, count, key),
                Some(Take::Fraction(part)) => {
                    sample(&picks, (picks.len() as f64 * part).round() as usize, key)
                }
            };
            let count = (picks.len() as f64 * spec.repeat.unwrap_or(1.0)).round();
            let count = self.fitting(&spec.name, count)?;
            chosen.push(repeat(&picks, count, mix_all(&[key, 1])));
        }
        if let Some(total) = self.recipe.total {
            let weights: Vec<f64> = self
                .sources
                .iter()
                .map(|source| source.spec.weight.unwrap_or(0.0))
                .collect();
            let total = self.fitting("total", total as f64)?;
            for (at, count) in shares(total, &weights).into_iter().enumerate() {
                if count > 0 && chosen[at].is_empty() {
                    return Err(self
                        .recipe
                        .wrong(&self.sources[at].spec.name, "has no record to draw"));
                }
                chosen[at] = repeat(
                    &chosen[at],
                    count,
                    mix_all(&[self.recipe.seed, at as u64, 2]),
                );
            }
        }
        // A source that replaces stands behind what it completes, not in its own place.
        let position = |name: &str| {
            self.sources
                .iter()
                .position(|source| source.spec.name == name)
        };
        let by: Vec<Option<usize>> = self
            .sources
            .iter()
            .map(|source| {
                source
                    .spec
                    .replace
                    .as_ref()
                    .and_then(|replace| position(&replace.by))
            })
            .collect();
        for at in 0..self.sources.len() {
            if by.contains(&Some(at)) {
                continue;
            }
            for source in std::iter::once(at).chain(by[at]) {
                self.parts.push(Part {
                    source,
                    picks: std::mem::take(&mut chosen[source]),
                });
            }
        }
        Ok(())
    }
}

impl Mix {
    /// A number of records, unless their numbers alone would not fit this machine's memory.
    fn fitting(&self, field: &str, count: f64) -> Result<usize> {
        // Four bytes a record, held twice while they are repeated and put together.
        let most = machine_memory().unwrap_or(LARGE_MACHINE) / (2 * size_of::<u32>() as u64);
        // What a process may take can be less than what the machine has.
        let fits = || {
            Vec::<u32>::new()
                .try_reserve_exact(2 * count as usize)
                .is_ok()
        };
        if count > most as f64 || !fits() {
            return Err(self.recipe.wrong(
                field,
                "asks for more records than this machine could number in its memory",
            ));
        }
        Ok(count as usize)
    }
}

impl Source {
    /// The numbers of the records that `filter` lets through, among `picks` or among all.
    fn matching(&self, filter: &Filter, picks: Option<&[u32]>) -> Result<Vec<u32>> {
        let count = picks.map_or(self.file.len(), <[u32]>::len);
        let pick = |at: usize| picks.map_or(at as u32, |picks| picks[at]);
        let kept: Vec<Option<u32>> = (0..count)
            .into_par_iter()
            .map(|at| {
                let record = self.record(pick(at) as usize)?;
                Ok(filter.allows(&record).then_some(pick(at)))
            })
            .collect::<Result<_>>()?;
        Ok(kept.into_iter().flatten().collect())
    }

    /// How many records have their first picture below each folder; `""` is those without one.
    pub(super) fn count_roots(&self) -> Result<BTreeMap<String, usize>> {
        (0..self.file.len())
            .into_par_iter()
            .try_fold(BTreeMap::new, |mut roots, at| {
                let record = self.record(at)?;
                *roots.entry(root(&record).to_owned()).or_default() += 1;
                Ok(roots)
            })
            .try_reduce(BTreeMap::new, |mut roots, others| {
                for (root, count) in others {
                    *roots.entry(root).or_default() += count;
                }
                Ok(roots)
            })
    }
}

/// The first folder of a record's first picture.
fn root(record: &Record) -> &str {
    match record.images().first() {
        Some(path) => path.split_once('/').map_or(".", |(root, _)| root),
        None => "",
    }
}

/// Whether a record's first picture lies below a folder, `coco` or `coco/train2017/`; as in
/// [`root`], `.` is where names without a folder lie, and `""` stands for no picture.
fn is_below(record: &Record, folder: &str) -> bool {
    match (record.images().first(), folder) {
        (None, folder) => folder.is_empty(),
        (Some(path), ".") => !path.contains('/'),
        (Some(path), folder) => path
            .strip_prefix(folder.trim_end_matches('/'))
            .is_some_and(|rest| !folder.is_empty() && rest.starts_with('/')),
    }
}

impl Filter {
    /// Whether a record is let through.
    pub fn allows(&self, record: &Record) -> bool {
        let has = |field: &String| match field.as_str() {
            "id" => !record.id.is_empty(),
            "image" => record.image.is_some(),
            "conversations" => true,
            other => record.extra.contains_key(other),
        };
        self.image
            .is_none_or(|image| image == record.image.is_some())
            && self
                .image_root
                .as_ref()
                .is_none_or(|folder| is_below(record, folder))
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| record.id.starts_with(prefix))
            && self.has.as_ref().is_none_or(has)
            && !self.lacks.as_ref().is_some_and(has)
            && self
                .min_turns
                .is_none_or(|turns| record.conversations.len() >= turns)
            && self
                .max_turns
                .is_none_or(|turns| record.conversations.len() <= turns)
            && self.max_words.is_none_or(|words| record.words() <= words)
    }
}

/// `count` of the picks by chance, in their own order; all of them when there are fewer.
fn sample(picks: &[u32], count: usize, key: u64) -> Vec<u32> {
    let len = picks.len() as u64;
    let mut places: Vec<u64> = (0..len.min(count as u64))
        .map(|at| shuffled(at, len, key))
        .collect();
    places.sort_unstable();
    places
        .into_iter()
        .map(|place| picks[place as usize])
        .collect()
}

/// `count` of the picks: all of them as often as that holds them whole, then a sample of the rest.
fn repeat(picks: &[u32], count: usize, key: u64) -> Vec<u32> {
    if picks.is_empty() {
        return Vec::new();
    }
    let mut repeated = picks.repeat(count / picks.len());
    repeated.extend(sample(picks, count % picks.len(), key));
    repeated
}

/// Shares `total` out by weight, exactly: what rounding down leaves goes to the largest remainders.
fn shares(total: usize, weights: &[f64]) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| total as f64 * weight / sum)
        .collect();
    let mut shares: Vec<usize> = exact.iter().map(|share| share.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|a, b| {
        exact[*b]
            .fract()
            .total_cmp(&exact[*a].fract())
            .then(a.cmp(b))
    });
    let left = total.saturating_sub(shares.iter().sum());
    for at in by_remainder.into_iter().take(left) {
        shares[at] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_follow_the_weights() {
        assert_eq!(shares(10, &[1.0, 1.0, 1.0]), [4, 3, 3]);
        assert_eq!(shares(1000, &[0.7, 0.2, 0.1]), [700, 200, 100]);
        assert_eq!(shares(5, &[0.0, 3.0]), [0, 5]);
    }

    #[test]
    fn samples_are_distinct_ordered_and_seeded() {
        let picks: Vec<u32> = (0..1000).map(|pick| pick * 3).collect();
        let sampled = sample(&picks, 100, 5);
        assert_eq!(sampled.len(), 100);
        assert!(sampled.is_sorted_by(|a, b| a < b) && sampled.iter().all(|pick| pick % 3 == 0));
        assert_ne!(sampled, sample(&picks, 100, 6));
        assert_eq!(sample(&picks, 5000, 5), picks);
    }

    #[test]
    fn repeats_are_whole_passes_and_a_sample() {
        assert_eq!(repeat(&[4, 5], 4, 0), [4, 5, 4, 5]);
        let repeated = repeat(&[1, 2, 3, 4], 6, 0);
        assert_eq!(repeated[..4], [1, 2, 3, 4]);
        assert!(repeated[4] < repeated[5]);
        assert!(repeat(&[], 6, 0).is_empty());
    }
}
