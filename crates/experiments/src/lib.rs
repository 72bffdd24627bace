//! Recipes (TOML), cached stages, results (JSONL), report.
#![forbid(unsafe_code)]
pub mod recipe;
