//! What QKeras' `print_qstats` counts and we count too: multiply-accumulates, weights, biases and their share of zeros.
//! Energy estimates and accumulator widths of QTools are not ours to give.

use qtensor::conformance::Case;
use serde_json::Value;

use super::compare::Arguments;
use super::layer::kernel_quantizer;
use super::model::Weights;
use super::run;

/// Compares with the case's `qstats`, if it has them.
pub(super) fn check(case: &Case, weights: &Weights) -> Result<String, String> {
    let Some(stats) = case.field("qstats") else { return Ok("no qstats".into()) };
    let operations = stats.get("operations").and_then(Value::as_object).ok_or("no `operations`")?;
    let text = stats.get("print_qstats_text").and_then(Value::as_str).unwrap_or_default();
    let (_, sparsity) = text.split_once("Weight sparsity:").unwrap_or_default();
    let layers = case.field("layers").and_then(Value::as_array).ok_or("no `layers`")?;
    let mut maps = Maps::default();
    maps.read(case)?;
    for layer in layers {
        let arguments = Arguments(layer);
        let name = arguments.text("name").unwrap_or_default();
        let Some(row) = operations.get(name) else { continue };
        let Some(kernel) = weights.kernel(name) else { continue };
        let shape = &weights.shapes[kernel];
        let depthwise = arguments.text("type").is_some_and(|t| t.contains("Depthwise"));
        let bias = weights.bias(name).map_or(0, |b| weights.values[b].len());
        let count = |key: &str| row.get(key).and_then(Value::as_u64).ok_or(format!("no `{key}`"));
        let macs = maps.macs(name, shape, depthwise)?;
        // QKeras counts a depthwise kernel as if it were full: kh * kw * cin * cout.
        let stored: usize = match (depthwise, &shape[..]) {
            (true, &[h, w, c, m]) => h * w * c * c * m,
            _ => shape.iter().product(),
        };
        for (key, ours) in [
            ("number_of_operations", macs),
            ("number_of_weights", stored as u64),
            ("number_of_bias", bias as u64),
        ] {
            if count(key)? != ours {
                return Err(format!("{name}: {key} {ours}, reference {}", count(key)?));
            }
        }
        let quantize = |index: Option<usize>, q: Option<qtensor::Quantizer>| -> Result<Vec<f32>, String> {
            match (index, q) {
                (None, _) => Ok(Vec::new()),
                (Some(i), None) => Ok(weights.values[i].clone()),
                (Some(i), Some(q)) => run::quantize(&q, &weights.values[i], &weights.shapes[i]).map(|q| q.0),
            }
        };
        let mut all = quantize(Some(kernel), kernel_quantizer(&arguments)?)?;
        all.extend(quantize(weights.bias(name), arguments.quantizer("bias_quantizer")?)?);
        let zeros = all.iter().filter(|v| **v == 0.0).count() as f64 / all.len() as f64;
        if let Some(want) = printed(sparsity, name)
            && (zeros - want).abs() > 5.1e-5
        {
            return Err(format!("{name}: sparsity {zeros:.4}, reference {want}"));
        }
    }
    Ok(format!("{} rows of qstats", operations.len()))
}

/// The number printed after `name :`.
fn printed(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.split(':').next().is_some_and(|n| n.trim() == name))?;
    line.split_once(':')?.1.trim().parse().ok()
}

/// Shapes of the layers' outputs, from the case's tensors.
#[derive(Default)]
struct Maps(Vec<(String, Vec<usize>)>);

impl Maps {
    fn read(&mut self, case: &Case) -> Result<(), String> {
        let tensors = case.field("tensors").and_then(Value::as_object).ok_or("no tensors")?;
        for (name, entry) in tensors {
            let Some(layer) = name.strip_prefix("out:") else { continue };
            let shape = entry.get("shape").and_then(Value::as_array).ok_or("no shape")?;
            let shape = shape.iter().filter_map(Value::as_u64).map(|n| n as usize).collect();
            self.0.push((layer.to_owned(), shape));
        }
        Ok(())
    }

    /// Multiply-accumulates per sample: every output position times the kernel (a depthwise one without its multiplier).
    fn macs(&self, layer: &str, kernel: &[usize], depthwise: bool) -> Result<u64, String> {
        let output = self.0.iter().find(|m| m.0 == layer).map(|m| &m.1[..]);
        Ok(match (output.ok_or(format!("no tensor `out:{layer}`"))?, kernel) {
            (&[_, h, w, _], &[kh, kw, c, _]) if depthwise => (h * w * kh * kw * c) as u64,
            (&[_, h, w, _], &[kh, kw, ci, co]) => (h * w * kh * kw * ci * co) as u64,
            (_, kernel) => kernel.iter().product::<usize>() as u64,
        })
    }
}
