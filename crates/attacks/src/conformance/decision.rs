//! Black-box minimum-norm attacks: distances against the libraries' over their seeds.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder};

pub(super) fn hop_skip_jump(_: &Folder, _: &Config<'_>) -> Result<Verdict, String> {
    Ok(Verdict::Skipped("HopSkipJump is not built yet".to_owned()))
}

pub(super) fn boundary(_: &Folder, _: &Config<'_>) -> Result<Verdict, String> {
    Ok(Verdict::Skipped("the Boundary attack is not built yet".to_owned()))
}

pub(super) fn zoo(_: &Folder, _: &Config<'_>) -> Result<Verdict, String> {
    Ok(Verdict::Skipped("ZOO is not built yet".to_owned()))
}
