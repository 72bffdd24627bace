//! The oracle's models in plain f64 loops: affine A, convolutional B, ternary T, and their masked variants.

use attacks::{Classifier, Differentiable, ModelError};

use super::npz::Npz;

/// How the hidden activations quantize.
#[derive(Clone, Copy, PartialEq)]
pub enum Activation {
    Relu,
    /// Two bits: `round(clip(v / s, 0, 1) * 3) / 3 * s`, gradient 1 inside the clip.
    TwoBit,
}

/// Which derivative quantizers get.
#[derive(Clone, Copy, PartialEq)]
pub enum Surrogate {
    StraightThrough,
    /// The true one: zero.
    Zero,
}

/// conv 3x3 - act - conv 3x3 stride 2 - act - dense, on `[h, w, c]` inputs (weights in torch layout).
#[derive(Clone)]
pub struct ConvNet {
    pub shape: [usize; 3],
    conv1: Conv,
    conv2: Conv,
    dense: Vec<f64>,
    bias: Vec<f64>,
    pub activation: Activation,
    pub surrogate: Surrogate,
    /// Levels of an input quantizer `round(x * q) / q`.
    pub input_levels: Option<f64>,
    pub scale: f64,
    pub softmax: bool,
    /// Additive input noises, one per pass in turn.
    pub noises: Vec<Vec<f64>>,
    pub pass: usize,
}

#[derive(Clone)]
struct Conv {
    w: Vec<f64>,
    b: Vec<f64>,
    cin: usize,
    cout: usize,
    stride: usize,
}

impl Conv {
    fn out(&self, n: usize) -> usize {
        (n - 1) / self.stride + 1
    }

    /// Calls `f(first output, first input, count, weight)` for every run of products along a row (NCHW, padding 1):
    /// outputs are adjacent, inputs `stride` apart.
    fn each(&self, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize, f64)) {
        let (oh, ow, s) = (self.out(h), self.out(w), self.stride);
        for (k, &weight) in self.w.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            let (o, c, ky, kx) = (k / 9 / self.cin, k / 9 % self.cin, k / 3 % 3, k % 3);
            let from = usize::from(kx == 0);
            let to = ow.min((w - kx) / s + 1);
            for oy in usize::from(ky == 0)..oh.min((h - ky) / s + 1) {
                let (y, x) = (oy * s + ky - 1, from * s + kx - 1);
                f((o * oh + oy) * ow + from, (c * h + y) * w + x, to - from, weight);
            }
        }
    }

    fn forward(&self, h: usize, w: usize, x: &[f64]) -> Vec<f64> {
        let area = self.out(h) * self.out(w);
        let mut y: Vec<f64> = (0..self.cout * area).map(|i| self.b[i / area]).collect();
        self.each(h, w, |o, i, n, w| {
            let (y, x) = (&mut y[o..o + n], &x[i..i + (n - 1) * self.stride + 1]);
            match self.stride {
                1 => y.iter_mut().zip(x).for_each(|(y, x)| *y += w * x),
                s => y.iter_mut().zip(x.iter().step_by(s)).for_each(|(y, x)| *y += w * x),
            }
        });
        y
    }

    fn backward(&self, h: usize, w: usize, gy: &[f64]) -> Vec<f64> {
        let mut gx = vec![0.0; self.cin * h * w];
        self.each(h, w, |o, i, n, w| {
            let (gy, gx) = (&gy[o..o + n], &mut gx[i..i + (n - 1) * self.stride + 1]);
            match self.stride {
                1 => gx.iter_mut().zip(gy).for_each(|(x, y)| *x += w * y),
                s => gx.iter_mut().step_by(s).zip(gy).for_each(|(x, y)| *x += w * y),
            }
        });
        gx
    }
}

/// Pre-activations of one sample.
struct Trace {
    u1: Vec<f64>,
    u2: Vec<f64>,
    z: Vec<f64>,
}

impl ConvNet {
    /// Model `B` or `T` of `models.npz`, for images `[h, w, c]`.
    pub fn load(npz: &mut Npz, name: &str, shape: [usize; 3]) -> Self {
        let mut get = |part: &str| npz.f64(&format!("{name}_{part}"));
        let (w1, b1, w2, b2) = (get("c1_weight"), get("c1_bias"), get("c2_weight"), get("c2_bias"));
        let (dense, bias) = (get("fc_weight"), get("fc_bias"));
        let (mid, out) = (b1.len(), b2.len());
        Self {
            shape,
            conv1: Conv { w: w1, b: b1, cin: shape[2], cout: mid, stride: 1 },
            conv2: Conv { w: w2, b: b2, cin: mid, cout: out, stride: 2 },
            dense,
            bias,
            activation: if name == "T" { Activation::TwoBit } else { Activation::Relu },
            surrogate: Surrogate::StraightThrough,
            input_levels: None,
            scale: 1.0,
            softmax: false,
            noises: Vec::new(),
            pass: 0,
        }
    }

    fn act(&self, u: f64, s: f64) -> f64 {
        match self.activation {
            Activation::Relu => u.max(0.0),
            Activation::TwoBit => ((u / s).clamp(0.0, 1.0) * 3.0).round_ties_even() / 3.0 * s,
        }
    }

    fn slope(&self, u: f64, s: f64) -> f64 {
        match (self.activation, self.surrogate) {
            (Activation::Relu, _) => f64::from(u > 0.0),
            (Activation::TwoBit, Surrogate::StraightThrough) => f64::from((0.0..=s).contains(&u)),
            (Activation::TwoBit, Surrogate::Zero) => 0.0,
        }
    }

    fn trace(&self, x: &[f64]) -> Trace {
        let [h, w, c] = self.shape;
        let noise = (!self.noises.is_empty()).then(|| &self.noises[self.pass % self.noises.len()]);
        let mut image = vec![0.0; x.len()];
        for (p, v) in x.iter().enumerate() {
            let v = v + noise.map_or(0.0, |n| n[p]);
            let v = self.input_levels.map_or(v, |q| (v * q).round_ties_even() / q);
            image[p % c * h * w + p / c] = v;
        }
        let u1 = self.conv1.forward(h, w, &image);
        let a1: Vec<f64> = u1.iter().map(|&u| self.act(u, 1.0)).collect();
        let u2 = self.conv2.forward(h, w, &a1);
        let a2: Vec<f64> = u2.iter().map(|&u| self.act(u, 2.0)).collect();
        let rows = self.dense.chunks_exact(a2.len()).zip(&self.bias);
        let z = rows.map(|(w, b)| self.scale * (b + w.iter().zip(&a2).map(|(w, a)| w * a).sum::<f64>()));
        Trace { z: z.collect(), u1, u2 }
    }

    fn back(&self, t: &Trace, cot: &[f64], grad: &mut [f64]) {
        let [h, w, c] = self.shape;
        let mut g2 = vec![0.0; t.u2.len()];
        for (w, cot) in self.dense.chunks_exact(g2.len()).zip(cot) {
            g2.iter_mut().zip(w).for_each(|(g, w)| *g += self.scale * cot * w);
        }
        g2.iter_mut().zip(&t.u2).for_each(|(g, &u)| *g *= self.slope(u, 2.0));
        let mut g1 = self.conv2.backward(h, w, &g2);
        g1.iter_mut().zip(&t.u1).for_each(|(g, &u)| *g *= self.slope(u, 1.0));
        let g0 = self.conv1.backward(h, w, &g1);
        let dead = self.input_levels.is_some() && self.surrogate == Surrogate::Zero;
        for (p, g) in grad.iter_mut().enumerate() {
            *g = if dead { 0.0 } else { g0[p % c * h * w + p / c] };
        }
    }

    fn answer(&self, z: &[f64], out: &mut [f64]) {
        out.copy_from_slice(z);
        if self.softmax {
            let max = z.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = z.iter().map(|v| (v - max).exp()).sum();
            out.iter_mut().for_each(|v| *v = (*v - max).exp() / total);
        }
    }
}

impl Classifier<f64> for ConvNet {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }
    fn classes(&self) -> usize {
        self.bias.len()
    }
    fn input_shape(&self) -> [usize; 3] {
        self.shape
    }
    fn logits(&mut self, x: &[f64], out: &mut [f64]) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.classes());
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(k)) {
            self.answer(&self.trace(x).z, out);
        }
        self.pass += 1;
        Ok(())
    }
}

impl Differentiable<f64> for ConvNet {
    fn logits_vjp(
        &mut self,
        x: &[f64],
        cotangent: &mut dyn FnMut(&[f64], &mut [f64]),
        logits: &mut [f64],
        grad: &mut [f64],
    ) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.classes());
        let traces: Vec<Trace> = x.chunks_exact(d).map(|x| self.trace(x)).collect();
        self.pass += 1;
        for (t, out) in traces.iter().zip(logits.chunks_exact_mut(k)) {
            self.answer(&t.z, out);
        }
        let mut cot = vec![0.0; logits.len()];
        cotangent(logits, &mut cot);
        let rows = cot.chunks_exact_mut(k).zip(logits.chunks_exact(k));
        for ((t, grad), (cot, p)) in traces.iter().zip(grad.chunks_exact_mut(d)).zip(rows) {
            if self.softmax {
                let inner: f64 = p.iter().zip(cot.iter()).map(|(p, c)| p * c).sum();
                cot.iter_mut().zip(p).for_each(|(c, p)| *c = p * (*c - inner));
            }
            self.back(t, cot, grad);
        }
        Ok(())
    }

    fn logits_jacobian(&mut self, x: &[f64], logits: &mut [f64], jac: &mut [f64]) -> Result<(), ModelError> {
        let (d, k, n) = (self.input_len(), self.classes(), x.len() / self.input_len());
        for (i, x) in x.chunks_exact(d).enumerate() {
            let t = self.trace(x);
            logits[i * k..(i + 1) * k].copy_from_slice(&t.z);
            for class in 0..k {
                let mut cot = vec![0.0; k];
                cot[class] = 1.0;
                let at = (class * n + i) * d;
                self.back(&t, &cot, &mut jac[at..at + d]);
            }
        }
        self.pass += 1;
        Ok(())
    }
}

/// `z = W x + b` on flat inputs.
pub struct Affine {
    pub w: Vec<f64>,
    pub b: Vec<f64>,
}

impl Classifier<f64> for Affine {
    fn input_len(&self) -> usize {
        self.w.len() / self.b.len()
    }
    fn classes(&self) -> usize {
        self.b.len()
    }
    fn logits(&mut self, x: &[f64], out: &mut [f64]) -> Result<(), ModelError> {
        let d = self.input_len();
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(self.b.len())) {
            for ((z, w), b) in out.iter_mut().zip(self.w.chunks_exact(d)).zip(&self.b) {
                *z = b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            }
        }
        Ok(())
    }
}

impl Differentiable<f64> for Affine {
    fn logits_vjp(
        &mut self,
        x: &[f64],
        cotangent: &mut dyn FnMut(&[f64], &mut [f64]),
        logits: &mut [f64],
        grad: &mut [f64],
    ) -> Result<(), ModelError> {
        self.logits(x, logits)?;
        let mut cot = vec![0.0; logits.len()];
        cotangent(logits, &mut cot);
        let d = self.input_len();
        for (g, cot) in grad.chunks_exact_mut(d).zip(cot.chunks_exact(self.b.len())) {
            g.fill(0.0);
            for (w, c) in self.w.chunks_exact(d).zip(cot) {
                g.iter_mut().zip(w).for_each(|(g, w)| *g += c * w);
            }
        }
        Ok(())
    }
}
