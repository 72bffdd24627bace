//! Cases in the training phase: distributions over many draws.

use super::deterministic::compare_scales;
use super::{Case, Manifest, Tensor, Tolerance, quantizer_of};
use crate::{Codes, Phase, Quantized, Quantizer, Scratch, stream};

/// We draw this many times as often as the reference, so that its noise is the only one that counts.
const MORE: usize = 8;

/// What many draws of one tensor gave, per element.
struct Tally {
    draws: usize,
    /// Counts of the codes -1, 0 and 1 (smaller and larger ones with them).
    counts: Vec<[u32; 3]>,
    sums: Vec<f64>,
    lowest: Vec<f32>,
    highest: Vec<f32>,
    /// Of the last draw.
    scales: Vec<f32>,
}

/// Compares distribution, scale and gradient.
pub(super) fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    let quantizer = quantizer_of(case)?;
    let x = manifest.tensor(case, "x")?;
    let reference_draws =
        case.field("draws").and_then(serde_json::Value::as_u64).filter(|d| (1..=1 << 20).contains(d));
    let reference_draws = reference_draws.ok_or("no usable `draws`")? as usize;
    let tally = draw(&quantizer, &x, reference_draws * MORE)?;
    let n = reference_draws as f64;

    for (place, name) in ["p_minus", "p_zero", "p_plus"].into_iter().enumerate() {
        // Against the formula 5 standard deviations, against an estimate 7; plus three events.
        let exact = format!("{name}_exact");
        for (tensor, deviations) in [(exact.as_str(), 5.0), (name, 7.0)] {
            if !case.has_tensor(tensor) {
                continue;
            }
            for (i, &p) in manifest.tensor(case, tensor)?.data.iter().enumerate() {
                let p = f64::from(p);
                let got = f64::from(tally.counts.get(i).ok_or("probabilities of other length")?[place])
                    / tally.draws as f64;
                // An estimate of a rare event may well be 0: the larger of the two tells its spread.
                let spread = if tensor == name { p.max(got) } else { p };
                let bound = deviations * (spread * (1.0 - spread)).max(0.0).sqrt() / n.sqrt() + 3.0 / n;
                if (got - p).abs() > bound {
                    return Err(format!(
                        "{name}[{i}]: {got:.5}, {tensor} {p:.5} +- {bound:.5} at x = {}",
                        x.data[i]
                    ));
                }
            }
        }
    }
    let random_scale = case.field("scale_is_random").and_then(serde_json::Value::as_bool) == Some(true);
    if case.has_tensor("scale") && !random_scale {
        let reference = manifest.tensor(case, "scale")?;
        compare_scales(&quantizer, &tally.scales, reference.data, Tolerance::of(case, "scale")?)?;
    }
    compare_moments(manifest, case, &x, &tally)?;
    compare_gradient(manifest, case, &quantizer, &x, &tally)?;
    Ok(format!("{} draws of {quantizer}", tally.draws))
}

fn draw(quantizer: &Quantizer, x: &Tensor<'_>, draws: usize) -> Result<Tally, String> {
    let n = x.data.len();
    let mut tally = Tally {
        draws,
        counts: vec![[0; 3]; n],
        sums: vec![0.0; n],
        lowest: vec![f32::INFINITY; n],
        highest: vec![f32::NEG_INFINITY; n],
        scales: Vec::new(),
    };
    let (mut values, mut codes, mut scratch) = (vec![0f32; n], vec![0i32; n], Scratch::new());
    let mut rng = stream::stream(0, stream::Purpose::Test, &[]);
    for _ in 0..draws {
        let out = Quantized {
            values: &mut values,
            codes: Codes::I32(&mut codes),
            scales: &mut tally.scales,
            scratch: &mut scratch,
        };
        quantizer
            .quantize(x.data, &x.shape, Phase::Training, Some(&mut rng), out)
            .map_err(|e| e.to_string())?;
        for (i, (&value, &code)) in values.iter().zip(&codes).enumerate() {
            tally.counts[i][(code.signum() + 1) as usize] += 1;
            tally.sums[i] += f64::from(value);
            tally.lowest[i] = tally.lowest[i].min(value);
            tally.highest[i] = tally.highest[i].max(value);
        }
    }
    Ok(tally)
}

fn compare_moments(manifest: &Manifest, case: &Case, x: &Tensor<'_>, tally: &Tally) -> Result<(), String> {
    // A code seen in none of the reference's draws still has some probability: three events' worth, as for the probabilities.
    let reference_draws = (tally.draws / MORE) as f64;
    let mean = manifest.tensor(case, "mean")?;
    let deviation = manifest.tensor(case, "std")?;
    let (lowest, highest) = (manifest.tensor(case, "ymin")?, manifest.tensor(case, "ymax")?);
    let codes_only = case.text("mode")? == "codes_only";
    let neighbours_only = case.text("mode")? == "moments";
    for (i, &x) in x.data.iter().enumerate() {
        let at = |t: &Tensor<'_>| t.data.get(i).map(|&v| f64::from(v)).ok_or("moments of other length");
        let step = f64::from(tally.highest[i] - tally.lowest[i]);
        let (got, want) = (tally.sums[i] / tally.draws as f64, at(&mean)?);
        let bound = 5.0 * at(&deviation)? / reference_draws.sqrt() + 1e-5 + 3.0 / reference_draws * step;
        if !codes_only && (got - want).abs() > bound {
            return Err(format!("mean[{i}]: {got:.6}, reference {want:.6} +- {bound:.6} at x = {x}"));
        }
        // Rare events may be on one side only, but where two neighbouring codes are all there is, none lies further out.
        let slack = 1e-5 + 1e-5 * want.abs() + f64::from(tally.scales.first().copied().unwrap_or(0.0));
        let inside = at(&lowest)? >= f64::from(tally.lowest[i]) - slack
            && at(&highest)? <= f64::from(tally.highest[i]) + slack;
        if neighbours_only && !inside {
            return Err(format!(
                "range[{i}]: {}..{} drawn, reference {}..{} at x = {x}",
                tally.lowest[i],
                tally.highest[i],
                at(&lowest)?,
                at(&highest)?
            ));
        }
    }
    Ok(())
}

fn compare_gradient(
    manifest: &Manifest,
    case: &Case,
    quantizer: &Quantizer,
    x: &Tensor<'_>,
    tally: &Tally,
) -> Result<(), String> {
    let (g, dx) = (manifest.tensor(case, "g")?, manifest.tensor(case, "dx")?);
    let tolerance = Tolerance::of(case, "dx")?;
    let mut slopes = vec![0f32; x.data.len()];
    quantizer
        .slopes(x.data, &x.shape, Phase::Training, &tally.scales, &mut Scratch::new(), &mut slopes)
        .map_err(|e| e.to_string())?;
    // `binary` rounds relative to each channel's largest magnitude, through which QKeras differentiates: at that element the
    // gradient is that of one particular draw.
    let channels = x.shape.last().copied().unwrap_or(1).max(1);
    let random = matches!(quantizer, Quantizer::Binary(q) if q.use_stochastic_rounding);
    let peak = |i: usize| {
        let column = x.data.iter().skip(i % channels).step_by(channels);
        column.fold(0f32, |m, v| m.max(v.abs())) == x.data[i].abs()
    };
    for (i, ((&slope, &g), &want)) in slopes.iter().zip(g.data).zip(dx.data).enumerate() {
        let agrees = tolerance.allows(f64::from(slope * g), f64::from(want), f64::from(x.data[i]));
        // The clip of tanh and sigmoid follows the rounding: within a step of it the gradient is that draw's, on or off.
        let edge = matches!(quantizer, Quantizer::Squash(_)) && (want == 0.0 || slope == 0.0) && {
            let (low, high) = (quantizer.min() as f32, quantizer.max() as f32);
            tally.lowest[i] == low || tally.highest[i] == high
        };
        let excused = edge || random && peak(i);
        if !agrees && !excused {
            return Err(format!("dx[{i}]: {:e}, reference {want:e} at x = {:e}", slope * g, x.data[i]));
        }
    }
    Ok(())
}
