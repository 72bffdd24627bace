//! The summary as text.

use std::fmt;

use super::{LayerSummary, Summary};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w, c] = self.input;
        writeln!(f, "{}: input {h}x{w}x{c} ({})", self.network, self.input_type)?;
        let head = ["layer", "kind", "reads", "output", "type", "parameters", "bits", "MACs", "quantizer"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.layers.iter().map(row));
        align(f, &rows, &[5, 6, 7])?;
        writeln!(
            f,
            "{} parameters ({} trainable, {:.1} KB), kernels {:.1} KB, {} MACs",
            grouped(self.parameters),
            grouped(self.trainable),
            self.parameter_bits as f64 / 8192.0,
            self.kernel_bits as f64 / 8192.0,
            grouped(self.macs)
        )?;
        if self.layers.iter().all(|l| l.statistics.is_none()) {
            return Ok(());
        }
        writeln!(f, "\nquantized kernels")?;
        let head = ["layer", "latent", "scale", "zeros", "codes", "SQNR dB", "at clip"];
        let mut rows = vec![head.map(str::to_owned)];
        for layer in &self.layers {
            let Some(s) = &layer.statistics else { continue };
            let between = |[a, b]: [f32; 2]| format!("{a:.4} .. {b:.4}");
            let codes: Vec<String> =
                s.codes.iter().map(|(code, share)| format!("{code}: {:.1} %", 100.0 * share)).collect();
            rows.push([
                layer.name.clone(),
                between(s.latent),
                between(s.scale),
                format!("{:.1} %", 100.0 * s.sparsity),
                if codes.is_empty() { "-".into() } else { codes.join(", ") },
                s.sqnr_db.map_or("-".into(), |db| format!("{db:.1}")),
                s.clipped.map_or("-".into(), |c| format!("{:.1} %", 100.0 * c)),
            ]);
        }
        align(f, &rows, &[3, 5, 6])
    }
}

fn row(layer: &LayerSummary) -> [String; 9] {
    let reads: Vec<String> = layer.reads.iter().map(|(name, t)| format!("{name} ({t})")).collect();
    let shape: Vec<String> = layer.output.iter().map(ToString::to_string).collect();
    let or_dash = |n: u64| if n == 0 { "-".to_owned() } else { grouped(n) };
    [
        layer.name.clone(),
        kind(layer),
        reads.join(" + "),
        shape.join("x"),
        layer.output_type.to_string(),
        or_dash(layer.parameters),
        or_dash(u64::from(layer.weight_bits)),
        or_dash(layer.macs),
        quantizers(layer),
    ]
}

/// What the layer is, with a multiplier and a dilation that are not 1.
fn kind(layer: &LayerSummary) -> String {
    let mut text = layer.kind.to_owned();
    if let Some(times) = layer.multiplier.filter(|times| *times != 1) {
        text += &format!(" x{times}");
    }
    if let Some([y, x]) = layer.dilation.filter(|d| *d != [1, 1]) {
        text += &format!(", dilation {y}x{x}");
    }
    text
}

/// The layer's quantizer, and that of its bias if there is one.
fn quantizers(layer: &LayerSummary) -> String {
    let own = layer.quantizer.as_deref().unwrap_or("-");
    layer.bias_quantizer.as_ref().map_or(own.to_owned(), |bias| format!("{own}, bias {bias}"))
}

/// Writes rows in columns, the first row as the head; `right` are the columns of numbers.
fn align<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]], right: &[usize]) -> fmt::Result {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for (i, row) in rows.iter().enumerate() {
        let mut line = String::from(" ");
        for (c, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line.push(' ');
            let pad = " ".repeat(width - cell.chars().count());
            line += &if right.contains(&c) { pad + cell } else { cell.clone() + &pad };
            line.push(' ');
        }
        writeln!(f, "{}", line.trim_end())?;
        if i == 0 {
            writeln!(f, "  {}", "-".repeat(widths.iter().sum::<usize>() + 2 * N - 2))?;
        }
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
