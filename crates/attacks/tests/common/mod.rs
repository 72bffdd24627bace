//! Small models for the tests: an affine one with a closed-form optimum, and a smooth two-layer one.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part")]

use attacks::{Classifier, Differentiable, ModelError};

/// Pseudo-random values in [-1, 1), the same on every machine.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// `z = scale * V tanh(W (x - 1/2))` with optional defects; `hidden` units, image of `[h, w, c]`.
pub struct Net {
    pub shape: [usize; 3],
    pub classes: usize,
    pub hidden: usize,
    pub w: Vec<f32>,
    pub v: Vec<f32>,
    pub scale: f32,
    /// Logits are 3,000 times as large where the input's first value is at most 0.035 from this.
    pub loud_at: f32,
    /// Gradients come back as zeros.
    pub mask: bool,
    /// Answers softmax probabilities.
    pub softmax: bool,
    /// Amplitude of noise added to the logits, different at each call.
    pub sigma: f32,
    pub calls: u64,
}

impl Net {
    pub fn new(shape: [usize; 3], hidden: usize, classes: usize, seed: u64) -> Self {
        let d: usize = shape.iter().product();
        Self {
            shape,
            classes,
            hidden,
            w: noise(hidden * d, seed).iter().map(|v| v * 2.0 / (d as f32).sqrt()).collect(),
            v: noise(classes * hidden, seed + 1).iter().map(|v| v * 3.0).collect(),
            scale: 1.0,
            loud_at: f32::INFINITY,
            mask: false,
            softmax: false,
            sigma: 0.0,
            calls: 0,
        }
    }

    fn forward(&self, x: &[f32], h: &mut [f32], z: &mut [f32]) {
        let d = x.len();
        for (h, w) in h.iter_mut().zip(self.w.chunks_exact(d)) {
            *h = x.iter().zip(w).map(|(x, w)| (x - 0.5) * w).sum::<f32>().tanh();
        }
        for (z, v) in z.iter_mut().zip(self.v.chunks_exact(self.hidden)) {
            *z = self.scale_at(x) * h.iter().zip(v).map(|(h, v)| h * v).sum::<f32>();
        }
    }

    fn scale_at(&self, x: &[f32]) -> f32 {
        if (x[0] - self.loud_at).abs() <= 0.035 { 3000.0 * self.scale } else { self.scale }
    }

    /// This model's own predictions.
    pub fn predictions(&mut self, x: &[f32]) -> Vec<u8> {
        let mut z = vec![0.0; x.len() / self.input_len() * self.classes];
        self.logits(x, &mut z).unwrap();
        z.chunks_exact(self.classes)
            .map(|z| z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u8)
            .collect()
    }

    /// Samples in [0.05, 0.95] with this model's own predictions as labels.
    pub fn samples(&mut self, n: usize, seed: u64) -> (Vec<f32>, Vec<u8>, Vec<u32>) {
        let d = self.input_len();
        let x: Vec<f32> = noise(n * d, seed).iter().map(|v| 0.5 + 0.45 * v).collect();
        let (softmax, sigma) = (self.softmax, self.sigma);
        (self.softmax, self.sigma) = (false, 0.0);
        let labels = self.predictions(&x);
        (self.softmax, self.sigma) = (softmax, sigma);
        (x, labels, (100..100 + n as u32).collect())
    }
}

impl Classifier for Net {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }
    fn classes(&self) -> usize {
        self.classes
    }
    fn input_shape(&self) -> [usize; 3] {
        self.shape
    }
    fn logits(&mut self, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        let mut h = vec![0.0; self.hidden];
        for (x, z) in x.chunks_exact(self.input_len()).zip(out.chunks_exact_mut(self.classes)) {
            self.forward(x, &mut h, z);
            if self.softmax {
                let max = z.iter().copied().fold(f32::MIN, f32::max);
                let total: f32 = z.iter().map(|v| (v - max).exp()).sum();
                z.iter_mut().for_each(|v| *v = (*v - max).exp() / total);
            }
        }
        if self.sigma > 0.0 {
            self.calls += 1;
            let shift = noise(out.len(), self.calls);
            out.iter_mut().zip(shift).for_each(|(z, n)| *z += self.sigma * n);
        }
        Ok(())
    }
}

impl Differentiable for Net {
    fn logits_vjp(
        &mut self,
        x: &[f32],
        cotangent: &mut dyn FnMut(&[f32], &mut [f32]),
        logits: &mut [f32],
        grad: &mut [f32],
    ) -> Result<(), ModelError> {
        self.logits(x, logits)?;
        let mut cot = vec![0.0; logits.len()];
        cotangent(logits, &mut cot);
        grad.fill(0.0);
        if self.mask {
            return Ok(());
        }
        let (d, k) = (self.input_len(), self.classes);
        let (mut h, mut z) = (vec![0.0; self.hidden], vec![0.0; k]);
        for (i, g) in grad.chunks_exact_mut(d).enumerate() {
            self.forward(&x[i * d..(i + 1) * d], &mut h, &mut z);
            let mut cot = cot[i * k..(i + 1) * k].to_vec();
            if self.softmax {
                let p = &logits[i * k..(i + 1) * k];
                let inner: f32 = p.iter().zip(&cot).map(|(p, c)| p * c).sum();
                cot.iter_mut().zip(p).for_each(|(c, p)| *c = p * (*c - inner));
            }
            for (u, (&h, w)) in h.iter().zip(self.w.chunks_exact(d)).enumerate() {
                let back: f32 = (0..k).map(|c| cot[c] * self.v[c * self.hidden + u]).sum();
                let back = self.scale_at(&x[i * d..(i + 1) * d]) * back * (1.0 - h * h);
                g.iter_mut().zip(w).for_each(|(g, w)| *g += back * w);
            }
        }
        Ok(())
    }
}
