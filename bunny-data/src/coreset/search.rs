//! Exact searches that the stages are made of: the nearest centroid, the means of clusters, similar
//! pairs and what they join, the keys at given ranks.

pub(crate) mod lloyd;
pub(crate) mod nearest;
pub(crate) mod pairs;
pub(crate) mod ranks;
pub(crate) mod two_level;
pub(crate) mod union_find;
