//! What part of the machine a kernel uses: its rate beside a limit that is measured in the same run.

use std::time::Instant;

use kernels::dispatch::{Path, path};
use kernels::limits::{Limit, clock};
use kernels::ternary::Form;

/// Lines of a table, printed at the end of a bench.
#[derive(Debug)]
pub struct Report {
    text: String,
}

impl Report {
    /// An empty table.
    pub fn new() -> Self {
        let text = "| kernel | GMAC/s | MAC/cycle | limit | of limit |\n|---|---|---|---|---|\n".into();
        Self { text }
    }

    /// The limit of a form of ternary weights, for codes of as many bits as it takes, on the path in force.
    pub fn limit(form: Form) -> Limit {
        match form {
            // Winograd's products are fewer: it may do more than the limit of those it saves.
            Form::Signs => Limit::Count2,
            Form::Lut2 => Limit::Lut2,
            Form::Lut1 => Limit::Lut1,
            _ if path() == Path::Avx512 => Limit::Vnni,
            _ => Limit::Panel8,
        }
    }

    /// What f32 loops are measured by: fused products 8 wide, and 16 wide where the path in force has them.
    pub fn float_limits() -> impl Iterator<Item = Limit> {
        [Limit::Fma, Limit::Fma16]
            .into_iter()
            .filter(|limit| limit.path() != Path::Avx512 || path() == Path::Avx512)
    }

    /// Times `call`, of `macs` multiply-accumulates, and the limit and the clock just before: the fastest of each.
    /// Does nothing where a bench only checks that it runs.
    pub fn add(&mut self, name: &str, limit: Limit, macs: usize, mut call: impl FnMut()) {
        if std::env::args().any(|arg| arg == "--test") || !std::env::args().any(|arg| arg == "--bench") {
            return;
        }
        let (hz, Some(most)) = (clock(), limit.measure()) else { return };
        call();
        let mut best = f64::INFINITY;
        let since = Instant::now();
        for _ in 0..20_000 {
            let start = Instant::now();
            call();
            best = best.min(start.elapsed().as_secs_f64());
            if since.elapsed().as_secs_f64() > 0.05 {
                break;
            }
        }
        let rate = macs as f64 / best;
        self.text += &format!(
            "| {name} | {:.1} | {:.1} | {} | {:.0} % |\n",
            rate / 1e9,
            rate / hz,
            limit.name(),
            100.0 * rate / most
        );
    }

    /// Prints the table, if it has lines.
    pub fn print(&self) {
        if self.text.lines().count() > 2 {
            println!("\n{}", self.text);
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}
