//! `ternion train`: the study's first stages for one recipe.
use anyhow::Result;
use experiments::stage::Stage;

use crate::End;
use crate::cli::{ReproduceArgs, TrainArgs};

pub(crate) fn run(args: TrainArgs) -> Result<End> {
    super::reproduce::run(&ReproduceArgs {
        profile: Some(args.profile),
        recipe: vec![args.recipe],
        data: args.data,
        out: args.out,
        seed: args.seed,
        only: vec![Stage::Data, Stage::Train, Stage::Evaluate],
        shard: None,
        dry_run: false,
        json: args.json,
        threads: args.threads,
    })
}
