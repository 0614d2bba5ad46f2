//! An approximate search for many centroids: they are grouped by k-means themselves, and only the
//! nearest groups are searched. Deterministic like the exact one, and measured against it.

use super::lloyd;
use super::nearest::{Nearest, Plain, Workspace};
use crate::coreset::centroids::Centroids;
use crate::coreset::options::Start;
use crate::coreset::worker::TileSize;

/// Rounds of k-means over the centroids.
const ITERATIONS: usize = 10;

/// Centroids in groups of about the square root of their number.
#[derive(Debug)]
pub(crate) struct TwoLevel {
    groups: Nearest,
    members: Vec<Group>,
    all: Nearest,
    dims: usize,
    probes: usize,
}

#[derive(Debug)]
struct Group {
    centroids: Vec<u32>,
    nearest: Nearest,
}

impl TwoLevel {
    pub(crate) fn new(centroids: &Centroids, probes: usize, tile: TileSize) -> Self {
        let dims = centroids.dims();
        let rows = Plain {
            values: centroids.values(),
            dims,
        };
        let count = centroids.len().isqrt().max(1);
        let mut centres = lloyd::start(&rows, count, centroids.geometry(), Start::Random, 0);
        for _ in 0..ITERATIONS {
            centres = lloyd::iterate(&rows, &centres, tile);
        }
        let labels = Nearest::new(&centres, tile).assign_all(&rows);
        let mut members = Vec::new();
        let mut kept = Vec::new();
        for group in 0..count {
            let here: Vec<u32> = (0..labels.len() as u32)
                .filter(|c| labels[*c as usize] as usize == group)
                .collect();
            if here.is_empty() {
                continue;
            }
            let values = here.iter().flat_map(|c| centroids.row(*c as usize));
            let values = Centroids::new(values.copied().collect(), dims, centroids.geometry());
            kept.extend_from_slice(centres.row(group));
            members.push(Group {
                nearest: Nearest::new(&values, tile),
                centroids: here,
            });
        }
        let groups = Nearest::new(&Centroids::new(kept, dims, centroids.geometry()), tile);
        Self {
            groups,
            members,
            all: Nearest::new(centroids, tile),
            dims,
            probes,
        }
    }

    /// The exact search over the same centroids.
    pub(crate) fn exact(&self) -> &Nearest {
        &self.all
    }

    /// The nearest centroid, among those of the nearest groups, of each of `rows`.
    pub(crate) fn assign(&self, rows: &[f32], labels: &mut [u32], work: &mut Workspace) {
        let dims = self.dims;
        let probes = self.groups.nearest(rows, self.probes, work);
        let per_row = probes.len() / labels.len();
        let mut visits: Vec<(u32, u32)> = probes
            .iter()
            .enumerate()
            .map(|(i, group)| (*group, (i / per_row) as u32))
            .collect();
        visits.sort_unstable();
        let mut best = vec![f64::NEG_INFINITY; labels.len()];
        let mut gathered = Vec::new();
        let mut found = Vec::new();
        for visit in visits.chunk_by(|a, b| a.0 == b.0) {
            let group = &self.members[visit[0].0 as usize];
            gathered.clear();
            for (_, row) in visit {
                let row = *row as usize;
                gathered.extend_from_slice(&rows[row * dims..(row + 1) * dims]);
            }
            found.resize(visit.len(), 0);
            group.nearest.assign(&gathered, &mut found, work);
            for ((_, row), label) in visit.iter().zip(&found) {
                let row = *row as usize;
                let centroid = group.centroids[*label as usize];
                let score = self
                    .all
                    .score(&rows[row * dims..(row + 1) * dims], centroid as usize);
                if score > best[row] || (score == best[row] && centroid < labels[row]) {
                    best[row] = score;
                    labels[row] = centroid;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coreset::options::Geometry;

    #[test]
    fn all_groups_searched_is_the_exact_search() {
        let dims = 6;
        let value = |i: usize| {
            (bunny_base::random::mix_all(&[4, i as u64]) >> 40) as f32 / (1 << 24) as f32
        };
        let centroids = Centroids::new(
            (0..90 * dims).map(value).collect(),
            dims,
            Geometry::Euclidean,
        );
        let rows: Vec<f32> = (1000..1000 + 200 * dims).map(value).collect();
        let all = TwoLevel::new(&centroids, 9, TileSize::default());
        let mut exact = vec![0; 200];
        let mut labels = vec![0; 200];
        let mut work = Workspace::default();
        all.exact().assign(&rows, &mut exact, &mut work);
        all.assign(&rows, &mut labels, &mut work);
        assert_eq!(labels, exact);
        // One group finds most of them, and never a centroid out of the list.
        TwoLevel::new(&centroids, 1, TileSize::default()).assign(&rows, &mut labels, &mut work);
        let agreeing = labels.iter().zip(&exact).filter(|(a, b)| a == b).count();
        assert!((100..200).contains(&agreeing), "{agreeing} of 200");
    }
}
