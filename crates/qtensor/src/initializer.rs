//! QKeras' `QInitializer`: initial weights large enough that a fixed-scale quantizer does not round them all to zero.
//! Source: QKeras 0.9.0 `qlayers.QInitializer`. A layer uses it when its kernel quantizer has no auto scale
//! ([`Quantizer::scales_initializer`]).

use crate::error::QuantizeError;
use crate::stream::ChaCha8Rng;
use crate::{Codes, Phase, Quantized, Quantizer, Scratch};

/// The factor by which the initializer's *variance* must grow, given a first draw `x` of `shape` from it; `None` if the draw
/// is wide enough as it is. Draw again with the larger variance, then [`clip`].
///
/// The draw is too narrow if its standard deviation is below max() / 2^bits. The factor is max(1, sum q^2 / sum q x), or
/// max() / rms(x) if every element rounds to zero.
///
/// # Errors
/// Those of [`Quantizer::quantize`] in [`Phase::Inference`]; `bernoulli` needs the stream.
pub fn variance_factor(
    quantizer: &Quantizer,
    x: &[f32],
    shape: &[usize],
    rng: Option<&mut ChaCha8Rng>,
) -> Result<Option<f64>, QuantizeError> {
    let count = x.len().max(1) as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    let narrowest = quantizer.max() / f64::from(1u32 << quantizer.bits().min(31));
    if x.is_empty() || narrowest <= variance.sqrt() {
        return Ok(None);
    }
    let mut values = vec![0f32; x.len()];
    let out = Quantized {
        values: &mut values,
        codes: Codes::Skip,
        scales: &mut Vec::new(),
        scratch: &mut Scratch::new(),
    };
    quantizer.quantize(x, shape, Phase::Inference, rng, out)?;
    let (mut squares, mut products, mut power) = (0.0, 0.0, 0.0);
    for (&q, &x) in values.iter().zip(x) {
        let (q, x) = (f64::from(q), f64::from(x));
        squares += q * q;
        products += q * x;
        power += x * x;
    }
    let factor = if squares > 0.0 { squares / products } else { quantizer.max() / (power / count).sqrt() };
    // A draw of exact zeros has no width to scale.
    Ok(factor.is_finite().then(|| factor.max(1.0)))
}

/// Clips initial weights to [-max(), max()].
pub fn clip(quantizer: &Quantizer, x: &mut [f32]) {
    let bound = quantizer.max() as f32;
    for v in x {
        *v = v.clamp(-bound, bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Purpose, fill_normal, stream};

    #[test]
    fn narrow_draws_are_widened_until_they_survive() {
        let q: Quantizer = "quantized_bits(4, 0, 1, alpha=1)".parse().unwrap();
        let mut x = vec![0f32; 4000];
        fill_normal(&mut stream(1, Purpose::Test, &[]), &mut x);
        assert_eq!(variance_factor(&q, &x, &[4000], None), Ok(None));
        // 0.05 is below 1/16 and some elements survive; 0.001 rounds to zero altogether.
        let mut narrow: Vec<f32> = x.iter().map(|v| v * 0.05).collect();
        let factor = variance_factor(&q, &narrow, &[4000], None).unwrap().unwrap();
        assert!((1.0..3.0).contains(&factor), "{factor}");
        narrow.iter_mut().for_each(|v| *v *= 0.02);
        let factor = variance_factor(&q, &narrow, &[4000], None).unwrap().unwrap();
        assert!((factor - 1000.0).abs() < 50.0, "{factor}");
        assert_eq!(variance_factor(&q, &[0.0; 8], &[8], None), Ok(None));
        clip(&q, &mut x);
        assert!(x.iter().all(|v| v.abs() <= 1.0));
    }
}
