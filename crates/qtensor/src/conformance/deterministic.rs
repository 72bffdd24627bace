//! Cases in the inference phase: values, scales, gradients and ranges.

use super::{Case, Manifest, Tolerance, quantizer_of};
use crate::{Codes, Phase, Quantized, Quantizer, Scratch};

/// Compares everything the case holds.
pub(super) fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    let quantizer = quantizer_of(case)?;
    let x = manifest.tensor(case, "x")?;
    let n = x.data.len();
    let mut values = vec![0f32; n];
    let (mut scales, mut scratch) = (Vec::new(), Scratch::new());
    let out =
        Quantized { values: &mut values, codes: Codes::Skip, scales: &mut scales, scratch: &mut scratch };
    quantizer.quantize(x.data, &x.shape, Phase::Inference, None, out).map_err(|e| e.to_string())?;

    let fragile = if case.has_tensor("fragile") { Some(manifest.tensor(case, "fragile")?) } else { None };
    let skip = |i: usize| fragile.as_ref().is_some_and(|f| f.data.get(i) == Some(&1.0));
    let compare = |name: &str, got: &[f32]| -> Result<(), String> {
        let reference = manifest.tensor(case, name)?;
        let tolerance = Tolerance::of(case, name)?;
        if reference.data.len() != got.len() {
            return Err(format!("{name}: {} elements, reference has {}", got.len(), reference.data.len()));
        }
        for (i, (&got, &want)) in got.iter().zip(reference.data).enumerate() {
            if !skip(i) && !tolerance.allows(f64::from(got), f64::from(want), f64::from(x.data[i])) {
                return Err(format!("{name}[{i}]: {got:e}, reference {want:e} at x = {:e}", x.data[i]));
            }
        }
        Ok(())
    };

    // QKeras evaluates b + (q - b); so must we where |b| dwarfs q.
    let as_qkeras: Vec<f32> =
        x.data.iter().zip(&values).map(|(&x, &q)| quantizer.qkeras_value(Phase::Inference, x, q)).collect();
    compare("y", &as_qkeras)?;
    if case.has_tensor("g") && case.has_tensor("dx") {
        let g = manifest.tensor(case, "g")?;
        let mut slopes = vec![0f32; n];
        quantizer
            .slopes(x.data, &x.shape, Phase::Inference, &scales, &mut scratch, &mut slopes)
            .map_err(|e| e.to_string())?;
        let dx: Vec<f32> = slopes.iter().zip(g.data).map(|(s, g)| s * g).collect();
        compare("dx", &dx)?;
    }
    if case.has_tensor("scale") {
        let reference = manifest.tensor(case, "scale")?;
        compare_scales(&quantizer, &scales, reference.data, Tolerance::of(case, "scale")?)?;
    }
    let (lowest, highest) = quantizer.qkeras_range(&scales);
    for (name, ours) in [("min", lowest), ("max", highest)] {
        if let Some(want) = case.field(name).and_then(serde_json::Value::as_f64)
            && (ours - want).abs() > 3e-6 * want.abs()
        {
            return Err(format!("{name}(): {ours}, reference {want}"));
        }
    }
    Ok(format!("{n} values of {quantizer}"))
}

/// Compares with QKeras' `scale` attribute; a single scale stands for all.
pub(super) fn compare_scales(
    quantizer: &Quantizer,
    scales: &[f32],
    reference: &[f32],
    tolerance: Tolerance,
) -> Result<(), String> {
    let count = scales.len().max(reference.len());
    if [scales.len(), reference.len()].iter().any(|&n| n != 1 && n != count) {
        return Err(format!("scale: {} of them, reference has {}", scales.len(), reference.len()));
    }
    for i in 0..count {
        let ours = quantizer.qkeras_scale(scales[i.min(scales.len() - 1)]);
        let want = reference[i.min(reference.len() - 1)];
        if !tolerance.allows(f64::from(ours), f64::from(want), 0.0) {
            return Err(format!("scale[{i}]: {ours:e}, reference {want:e}"));
        }
    }
    Ok(())
}
