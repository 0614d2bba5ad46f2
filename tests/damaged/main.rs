//! Damaged files of every kind into the readers of all crates: none panics, none takes a second or
//! memory that the file does not warrant, and what is refused is refused in one plain line.
//!
//! 100,000 inputs in all, or `BUNNY_FUZZ_INPUTS`, the same ones every time unless `BUNNY_FUZZ_SEED` is
//! given. An input that goes wrong is left in the folder of temporary files, and its name is told.

mod damage;
mod data;
mod driver;
mod evaluation;
mod models;
mod pictures;
mod training;
mod weights;
