//! The footprint as a text table.

use core::fmt;

use super::Footprint;

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.layers.iter().map(|l| l.name.len()).max().unwrap_or(0).max(8);
        writeln!(f, "{}", self.network)?;
        writeln!(
            f,
            "{:name$}  {:>9}  {:>10}  {:>10}  {:>10}  {:>12}",
            "layer", "precision", "weights", "B, 2 bit", "B, 1.6 bit", "MAC"
        )?;
        for l in &self.layers {
            let precision = format!("{:?}", l.precision).to_lowercase();
            writeln!(
                f,
                "{:name$}  {precision:>9}  {:>10}  {:>10}  {:>10}  {:>12}",
                l.name, l.weights, l.bytes, l.bytes_base3, l.macs
            )?;
        }
        let tables = self.table_bytes;
        writeln!(f, "{:name$}  {:>9}  {:>10}  {tables:>10}  {tables:>10}", "tables", "", "")?;
        writeln!(
            f,
            "{:name$}  {:>9}  {:>10}  {:>10}  {:>10}  {:>12}",
            "flash",
            "",
            self.layers.iter().map(|l| l.weights).sum::<u64>(),
            self.flash(),
            self.flash_base3(),
            self.macs.total()
        )?;
        if let Some(image) = self.image_bytes {
            writeln!(f, "model image {image} B")?;
        }
        writeln!(
            f,
            "RAM {} B: arena {}, logits {}; MAC ternary {}, int8 {}, float {}",
            self.ram.peak(),
            self.ram.arena,
            self.ram.logits,
            self.macs.ternary,
            self.macs.int8,
            self.macs.float
        )
    }
}
