//! `ternion verify-adversarial`: kept examples against a model, without trusting whoever made them.
use anyhow::Result;
use experiments::examples::ExampleSet;
use qnn::Predictor;
use serde_json::json;

use crate::End;
use crate::cli::VerifyAdversarialArgs;

/// Faults that are told one by one.
const TOLD: usize = 20;

pub(crate) fn run(args: &VerifyAdversarialArgs) -> Result<End> {
    let set = ExampleSet::load(&args.file)?;
    let mut model = Predictor::for_codes(&super::eval::load(&args.model)?)?;
    let faults = set.check(&mut model)?;
    let (clean, robust) = set.counts();
    let (n, norm, eps) = (set.len(), set.norm, set.eps);
    if args.json {
        let row = json!({
            "examples": n, "norm": norm, "eps": eps, "clean_correct": clean, "robust": robust, "faults": faults,
        });
        println!("{row}");
    } else {
        println!(
            "{n} examples within {norm} {eps}: {clean} samples predicted rightly, {robust} of them still as examples"
        );
        faults.iter().take(TOLD).for_each(|fault| println!("FAULT {fault}"));
        if faults.len() > TOLD {
            println!("and {} more", faults.len() - TOLD);
        }
        if faults.is_empty() {
            println!("norm, box, label and predictions hold for all");
        }
    }
    Ok(if faults.is_empty() { End::Done } else { End::Failed })
}
