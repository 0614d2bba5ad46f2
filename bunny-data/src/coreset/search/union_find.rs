//! Sets that are joined from many threads at once; the outcome depends on the joins alone, not on
//! their order.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::pairs::Sink;

/// A forest over `0..n` in which every root is the least of its set.
#[derive(Debug)]
pub(crate) struct UnionFind<'a> {
    parents: &'a [AtomicU32],
}

impl<'a> UnionFind<'a> {
    /// Every element alone. Overwrites `parents`.
    pub(crate) fn new(parents: &'a mut [u32]) -> Self {
        for (i, parent) in parents.iter_mut().enumerate() {
            *parent = i as u32;
        }
        let cells: *const [u32] = parents;
        // SAFETY: AtomicU32 has the layout of u32, and the exclusive borrow is given up for 'a.
        let parents = unsafe { &*(cells as *const [AtomicU32]) };
        Self { parents }
    }

    /// The least element of the set, as far as joins have gone.
    pub(crate) fn find(&self, mut element: u32) -> u32 {
        loop {
            let parent = self.parents[element as usize].load(Relaxed);
            if parent == element {
                return element;
            }
            let grandparent = self.parents[parent as usize].load(Relaxed);
            // Parents only ever fall, so a stale write of a grandparent still leads to the root.
            if grandparent != parent {
                let _ = self.parents[element as usize].compare_exchange(
                    parent,
                    grandparent,
                    Relaxed,
                    Relaxed,
                );
            }
            element = grandparent;
        }
    }

    /// Joins two sets.
    pub(crate) fn join(&self, a: u32, b: u32) {
        let (mut a, mut b) = (self.find(a), self.find(b));
        while a != b {
            let (low, high) = (a.min(b), a.max(b));
            // The higher root goes below the lower one, unless another thread was faster.
            if self.parents[high as usize]
                .compare_exchange(high, low, Relaxed, Relaxed)
                .is_ok()
            {
                return;
            }
            (a, b) = (self.find(low), self.find(high));
        }
    }
}

/// Similar rows are joined.
impl Sink for UnionFind<'_> {
    fn pair(&self, a: u32, b: u32) {
        self.join(a, b);
    }

    fn known(&self, a: u32, b: u32) -> bool {
        self.find(a) == self.find(b)
    }

    fn set(&self, unit: u32) -> Option<u32> {
        Some(self.find(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn sets_are_the_same_from_many_threads() {
        let n = 20_000_u32;
        let pairs: Vec<(u32, u32)> = (0..n)
            .map(|i| {
                (
                    i,
                    (bunny_base::random::mix(u64::from(i)) % u64::from(n)) as u32,
                )
            })
            .filter(|(i, _)| i % 3 == 0)
            .collect();
        // The plain version: labels spread until nothing changes.
        let mut expected: Vec<u32> = (0..n).collect();
        loop {
            let mut changed = false;
            for (a, b) in &pairs {
                let low = expected[*a as usize].min(expected[*b as usize]);
                for end in [a, b] {
                    changed |= expected[*end as usize] != low;
                    expected[*end as usize] = low;
                }
            }
            if !changed {
                break;
            }
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(7)
            .build()
            .unwrap();
        for _ in 0..5 {
            let mut parents = vec![0; n as usize];
            let sets = UnionFind::new(&mut parents);
            pool.install(|| pairs.par_iter().for_each(|(a, b)| sets.join(*a, *b)));
            let found: Vec<u32> = (0..n).map(|i| sets.find(i)).collect();
            assert_eq!(found, expected);
        }
    }
}
