//! `ternion report`: the report again, from results alone.
use anyhow::Result;

use crate::End;
use crate::cli::ReportArgs;

pub(crate) fn run(args: &ReportArgs) -> Result<End> {
    let path = experiments::report::write(&args.out, args.profile.map(Into::into))?;
    println!("{}", path.display());
    Ok(End::Done)
}
