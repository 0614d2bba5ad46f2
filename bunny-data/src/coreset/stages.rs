//! The stages of a selection, a file each, named as the stage is called in progress reports.

pub(crate) mod assign;
pub(crate) mod duplicates;
pub(crate) mod kmeans;
pub(crate) mod output;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod windows;
