//! `ternion analyze`: footprint and proof of a trained model's integer program, beside what it is measured against.
use anyhow::{Context, Result};
use deploy::export::{Samples, c};
use deploy::footprint::{MLPERF_TINY, eight_bit_twin};
use deploy::{DeployError, Footprint, Lowered, lower, validate};
use serde_json::{Value, json};

use super::model;
use crate::End;
use crate::cli::AnalyzeArgs;

pub(crate) fn run(args: &AnalyzeArgs) -> Result<End> {
    let name = &args.model.model;
    let model = model::load(name)?;
    let network = &model.network;
    let twin = Footprint::of_network(&eight_bit_twin(network)).context("footprint of the 8-bit twin")?;
    let (footprint, lowered) = match lower(network, &model) {
        Ok(lowered) => {
            let footprint = Footprint::of_program(network, &lowered.program).context("footprint")?;
            (footprint, Ok(lowered))
        }
        Err(reason @ DeployError::Unsupported { .. }) => {
            (Footprint::of_network(network).context("footprint")?, Err(reason))
        }
        Err(error) => return Err(error).with_context(|| format!("lowering {name}")),
    };
    let device = lowered.as_ref().ok().map(device).transpose()?;
    if args.json {
        let proof = match &lowered {
            Ok(lowered) => json!({ "report": lowered.report, "layers": lowered.layers }),
            Err(reason) => json!({ "none": reason.to_string() }),
        };
        let references: Vec<Value> =
            MLPERF_TINY.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
        let all = json!({
            "footprint": footprint, "eight_bit_twin": twin, "mlperf_tiny": references, "c_export": device, "proof": proof,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(End::Done);
    }
    println!("{footprint}");
    if let Some(device) = &device {
        println!("{}", device_line(device));
    }
    println!("\n{}", comparison(&footprint, &twin));
    match &lowered {
        Ok(lowered) => {
            println!("\n{}", lowered.report);
            for (layer, report) in &lowered.layers {
                println!(
                    "  {layer:<20} {:>4} channels {:>10} accumulator values: {} multipliers, {} threshold lists, {} by f32 in integers, {} mismatches",
                    report.channels,
                    report.values,
                    report.multipliers,
                    report.thresholds,
                    report.float_in_integers,
                    report.mismatches
                );
            }
        }
        Err(reason) => println!("\nno integer program: {reason}"),
    }
    Ok(End::Done)
}

/// What the C export holds and reserves, and its code on a Cortex-M4 where the compiler is there to tell.
fn device(lowered: &Lowered) -> Result<Value> {
    let samples = Samples { inputs: Vec::new(), logits: Vec::new() };
    let sizes = match c::write(&lowered.program, &samples) {
        Ok(export) => export.sizes,
        Err(reason) => return Ok(json!({ "none": reason.to_string() })),
    };
    let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
    let code = match validate::code_bytes(&lowered.program, dir.path()) {
        Ok(bytes) => json!(bytes),
        Err(outcome) => json!(outcome.to_string()),
    };
    Ok(json!({ "sizes": sizes, "code_bytes": code }))
}

fn device_line(device: &Value) -> String {
    if let Some(reason) = device.get("none") {
        return format!("no C export: {reason}");
    }
    let size = |name: &str| &device["sizes"][name];
    let code = match device["code_bytes"].as_u64() {
        Some(bytes) => format!("{bytes} B of code on a Cortex-M4"),
        None => format!("code {}", device["code_bytes"].as_str().unwrap_or_default()),
    };
    format!(
        "C export: {} B of weights, {} B of tables, {} B of activations, {} B of working memory; {code}",
        size("weights"),
        size("tables"),
        size("arena"),
        size("scratch")
    )
}

/// Flash and RAM beside the 8-bit twin's, and the files of MLPerf Tiny.
fn comparison(ours: &Footprint, twin: &Footprint) -> String {
    let ratio = |a: u64, b: u64| a as f64 / b as f64;
    let mut text = format!(
        "8-bit twin: weights {} B, flash {} B, RAM {} B; ours takes {:.3} of its weight bytes at 2 bits and {:.3} at 1.6 bits",
        twin.weight_bytes,
        twin.flash(),
        twin.ram.peak(),
        ratio(ours.weight_bytes, twin.weight_bytes),
        ratio(ours.weight_bytes_base3, twin.weight_bytes),
    );
    for (name, bytes) in MLPERF_TINY {
        text +=
            &format!("\nMLPerf Tiny {name}: {bytes} B; ours takes {:.3} of it", ratio(ours.flash(), bytes));
    }
    text
}
