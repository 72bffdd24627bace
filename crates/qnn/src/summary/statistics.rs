//! What quantization does to a kernel, as the inference phase sees it.

use qtensor::{Codes, Phase, Quantized, Quantizer, Scratch};
use serde::Serialize;

use crate::QnnError;
use crate::model::Model;

/// Statistics of one quantized kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelStatistics {
    /// Smallest and largest latent weight.
    pub latent: [f32; 2],
    /// Smallest and largest scale (one per output channel, or a single one).
    pub scale: [f32; 2],
    /// Share of codes that are zero.
    pub sparsity: f64,
    /// Share of each code, smallest code first, for kernels of at most 2 bits.
    pub codes: Vec<(i32, f64)>,
    /// `10 log10(sum w^2 / sum (q - w)^2)`, in decibels; absent where the error is zero.
    pub sqnr_db: Option<f64>,
    /// Share of latent weights at the bound of the weight clip, if there is one.
    pub clipped: Option<f64>,
}

impl KernelStatistics {
    pub(super) fn of(model: &Model, layer: &str, quantizer: &Quantizer) -> Result<Self, QnnError> {
        let name = format!("{layer}/kernel");
        let wrong = |reason: &str| QnnError::Wiring { layer: layer.to_owned(), reason: reason.to_owned() };
        let kernel = model.param(&name).ok_or_else(|| wrong("has no kernel"))?;
        let n = kernel.values.len();
        let (mut values, mut codes, mut scales) = (vec![0f32; n], vec![0i32; n], Vec::new());
        let out = Quantized {
            values: &mut values,
            codes: Codes::I32(&mut codes),
            scales: &mut scales,
            scratch: &mut Scratch::new(),
        };
        quantizer
            .quantize(&kernel.values, &kernel.shape, Phase::Inference, None, out)
            .map_err(|source| QnnError::Quantize { layer: layer.to_owned(), source })?;
        let share = |count: usize| count as f64 / n.max(1) as f64;
        let (mut power, mut noise) = (0f64, 0f64);
        for (&w, &q) in kernel.values.iter().zip(&values) {
            power += f64::from(w) * f64::from(w);
            noise += (f64::from(q) - f64::from(w)).powi(2);
        }
        let mut distribution = Vec::new();
        if quantizer.bits() <= 2 {
            let (low, high) = codes.iter().fold((0, 0), |(l, h), &c| (l.min(c), h.max(c)));
            let of = |code: i32| share(codes.iter().filter(|&&c| c == code).count());
            distribution = (low..=high).map(|code| (code, of(code))).collect();
        }
        let clip = quantizer.weight_clip().map(|c| c as f32);
        Ok(Self {
            latent: range(&kernel.values),
            scale: range(&scales),
            sparsity: share(codes.iter().filter(|&&c| c == 0).count()),
            codes: distribution,
            sqnr_db: (noise > 0.0).then(|| 10.0 * (power / noise).log10()),
            clipped: clip.map(|c| share(kernel.values.iter().filter(|w| w.abs() >= c).count())),
        })
    }
}

fn range(values: &[f32]) -> [f32; 2] {
    let fold = |f: fn(f32, f32) -> f32| values.iter().copied().reduce(f).unwrap_or(0.0);
    [fold(f32::min), fold(f32::max)]
}
