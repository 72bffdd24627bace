//! What a layer does to the quantizer it is given: effective quantizer, clip, initializer, refusals.

use serde_json::Value;

use super::Case;
use crate::{Codes, Phase, QuantizeError, Quantized, Quantizer, Scratch, stream};

/// Compares every row of the table.
pub(super) fn check(case: &Case) -> Result<String, String> {
    let table = case.field("table").and_then(Value::as_array).ok_or("no `table`")?;
    for row in table {
        let given = row.get("given").and_then(Value::as_str).ok_or("a row without `given`")?;
        row_agrees(row, given).map_err(|why| format!("{given}: {why}"))?;
    }
    Ok(format!("{} rows", table.len()))
}

fn row_agrees(row: &Value, given: &str) -> Result<(), String> {
    let parse = |text: &str| -> Result<Option<Quantizer>, String> {
        if text == "None" {
            Ok(None)
        } else {
            text.parse().map(Some).map_err(|e: crate::ParseError| e.to_string())
        }
    };
    let bias = parse(given)?;
    let kernel = bias.clone().map(Quantizer::for_kernel);
    let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or(format!("no `{name}`"));
    if parse(text("kernel_effective")?)? != kernel {
        return Err(format!("kernel quantizer {kernel:?}, reference {}", text("kernel_effective")?));
    }
    if parse(text("bias_effective")?)? != bias {
        return Err(format!("bias quantizer {bias:?}, reference {}", text("bias_effective")?));
    }
    for (name, ours) in [("kernel_clip", &kernel), ("bias_clip", &bias)] {
        let clip = ours.as_ref().and_then(Quantizer::weight_clip).map(|c| vec![-c, c]);
        let want: Option<Vec<f64>> =
            row.get(name).and_then(Value::as_array).map(|a| a.iter().filter_map(Value::as_f64).collect());
        if clip != want {
            return Err(format!("{name} {clip:?}, reference {want:?}"));
        }
    }
    for (name, ours) in [
        ("kernel_quantizer_max", kernel.as_ref().map(Quantizer::max)),
        ("kernel_quantizer_min", kernel.as_ref().map(Quantizer::min)),
    ] {
        let want = row.get(name).and_then(Value::as_f64);
        if ours != want {
            return Err(format!("{name} {ours:?}, reference {want:?}"));
        }
    }
    let scaled = kernel.as_ref().is_some_and(Quantizer::scales_initializer);
    let initializer = if scaled { "QInitializer" } else { "HeNormal" };
    if text("kernel_initializer")? != initializer {
        return Err(format!("kernel initializer {initializer}, reference {}", text("kernel_initializer")?));
    }
    for (name, phase) in
        [("call_learning_phase_0", Phase::Inference), ("call_learning_phase_1", Phase::Training)]
    {
        let outcome = kernel.as_ref().map_or(Ok(()), |q| apply(q, phase));
        let agrees = match text(name)? {
            "ok" => outcome.is_ok(),
            "AssertionError" => matches!(outcome, Err(QuantizeError::Unsupported { .. })),
            other => return Err(format!("{name}: unknown outcome `{other}`")),
        };
        if !agrees {
            return Err(format!("{name}: {outcome:?}, reference {}", text(name)?));
        }
    }
    Ok(())
}

/// Quantizes a small kernel.
fn apply(quantizer: &Quantizer, phase: Phase) -> Result<(), QuantizeError> {
    let mut rng = stream::stream(0, stream::Purpose::Test, &[]);
    let mut x = [0f32; 24];
    stream::fill_normal(&mut rng, &mut x);
    let mut values = [0f32; 24];
    let out = Quantized {
        values: &mut values,
        codes: Codes::Skip,
        scales: &mut Vec::new(),
        scratch: &mut Scratch::new(),
    };
    quantizer.quantize(&x, &[6, 4], phase, Some(&mut rng), out)
}
