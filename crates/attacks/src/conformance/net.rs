//! The reference models in plain loops: convolutional B, ternary T, and their deliberately masked variants.

use kernels::Real;

use super::archive::Archive;
use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};

/// How the hidden activations quantize.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Activation {
    Relu,
    /// Two bits: `round(clip(v / s, 0, 1) * 3) / 3 * s`, gradient 1 inside the clip.
    TwoBit,
}

/// Which derivative quantizers get.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Surrogate {
    StraightThrough,
    /// The true one: zero.
    Zero,
}

/// conv - act - conv of stride 2 - act - dense, on `[h, w, c]` inputs (stored weights are in torch layout).
#[derive(Clone)]
pub(super) struct ConvNet<T> {
    shape: [usize; 3],
    conv1: Conv<T>,
    conv2: Conv<T>,
    /// `[features, classes]`, features in the order of our activations.
    dense: Vec<T>,
    bias: Vec<T>,
    activation: Activation,
    /// Ranges of the two-bit activations.
    ranges: [f64; 2],
    pub(super) surrogate: Surrogate,
    /// Levels of an input quantizer `round(x * q) / q`.
    pub(super) input_levels: Option<f64>,
    pub(super) scale: f64,
    pub(super) softmax: bool,
    /// Additive input noises, one per pass in turn.
    pub(super) noises: Vec<Vec<f64>>,
    /// Passes so far.
    pub(super) pass: usize,
}

#[derive(Clone)]
struct Conv<T> {
    /// `[k, k, cin, cout]`.
    w: Vec<T>,
    /// `[k, k, cout, cin]`.
    turned: Vec<T>,
    b: Vec<T>,
    k: usize,
    cin: usize,
    cout: usize,
    stride: usize,
}

impl<T: Real> Conv<T> {
    fn load(models: &Archive, name: &str, stride: usize) -> Result<Self, String> {
        let (weight, bias) =
            (models.get(&format!("{name}_weight"))?, models.values(&format!("{name}_bias"))?);
        let [cout, cin, k, k2] = weight.shape[..] else {
            return Err(format!("{name}_weight: shape {:?}", weight.shape));
        };
        if k != k2 || k % 2 == 0 || bias.len() != cout || cout * cin == 0 {
            return Err(format!("{name}: {:?} with {} biases is no convolution", weight.shape, bias.len()));
        }
        let mut conv = Self {
            w: vec![T::ZERO; weight.data.len()],
            turned: vec![T::ZERO; weight.data.len()],
            b: bias.iter().map(|v| T::from_f64(*v)).collect(),
            k,
            cin,
            cout,
            stride,
        };
        for (i, v) in weight.data.iter().enumerate() {
            let (o, c, tap) = (i / (k * k) / cin, i / (k * k) % cin, i % (k * k));
            conv.w[(tap * cin + c) * cout + o] = T::from_f64(*v);
            conv.turned[(tap * cout + o) * cin + c] = T::from_f64(*v);
        }
        Ok(conv)
    }

    fn out(&self, n: usize) -> usize {
        (n - 1) / self.stride + 1
    }

    /// Calls `f(output pixel, input pixel, tap)` for every pair that a tap of the kernel joins, outputs in order.
    fn taps(&self, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (oh, ow, half) = (self.out(h), self.out(w), self.k / 2);
        for oy in 0..oh {
            for ox in 0..ow {
                for ky in 0..self.k {
                    let y = (oy * self.stride + ky).wrapping_sub(half);
                    if y >= h {
                        continue;
                    }
                    for kx in 0..self.k {
                        let x = (ox * self.stride + kx).wrapping_sub(half);
                        if x < w {
                            f(oy * ow + ox, y * w + x, ky * self.k + kx);
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, h: usize, w: usize, x: &[T]) -> Vec<T> {
        let mut y: Vec<T> =
            self.b.iter().copied().cycle().take(self.out(h) * self.out(w) * self.cout).collect();
        self.taps(h, w, |to, from, tap| {
            let x = &x[from * self.cin..(from + 1) * self.cin];
            let w = &self.w[tap * self.cin * self.cout..(tap + 1) * self.cin * self.cout];
            accumulate(&mut y[to * self.cout..(to + 1) * self.cout], x, w);
        });
        y
    }

    fn backward(&self, h: usize, w: usize, gy: &[T]) -> Vec<T> {
        let mut gx = vec![T::ZERO; self.cin * h * w];
        self.taps(h, w, |from, to, tap| {
            let g = &gy[from * self.cout..(from + 1) * self.cout];
            let w = &self.turned[tap * self.cin * self.cout..(tap + 1) * self.cin * self.cout];
            accumulate(&mut gx[to * self.cin..(to + 1) * self.cin], g, w);
        });
        gx
    }
}

/// `y += x W` for a row-major `W`; zeros of `x` (dead units) cost nothing.
fn accumulate<T: Real>(y: &mut [T], x: &[T], w: &[T]) {
    fn lanes<T: Real, const N: usize>(y: &mut [T], x: &[T], w: &[T]) {
        let Some(y) = y.first_chunk_mut::<N>() else { return };
        let mut sum = *y;
        for (&x, w) in x.iter().zip(w.chunks_exact(N)) {
            if x != T::ZERO {
                for (y, &w) in sum.iter_mut().zip(w) {
                    *y += x * w;
                }
            }
        }
        *y = sum;
    }
    match y.len() {
        3 => lanes::<T, 3>(y, x, w),
        8 => lanes::<T, 8>(y, x, w),
        10 => lanes::<T, 10>(y, x, w),
        16 => lanes::<T, 16>(y, x, w),
        n => {
            for (&x, w) in x.iter().zip(w.chunks_exact(n)) {
                if x != T::ZERO {
                    y.iter_mut().zip(w).for_each(|(y, &w)| *y += x * w);
                }
            }
        }
    }
}

/// Pre-activations of one sample.
struct Trace<T> {
    u1: Vec<T>,
    u2: Vec<T>,
    z: Vec<T>,
}

impl<T: Real> ConvNet<T> {
    /// Model `B` or `T` of `models.npz`, for images `[h, w, c]`.
    pub(super) fn load(
        models: &Archive,
        name: &str,
        shape: [usize; 3],
        ranges: [f64; 2],
    ) -> Result<Self, String> {
        let conv1 = Conv::load(models, &format!("{name}_c1"), 1)?;
        let conv2 = Conv::load(models, &format!("{name}_c2"), 2)?;
        let (weight, bias) =
            (models.get(&format!("{name}_fc_weight"))?, models.values(&format!("{name}_fc_bias"))?);
        let area = conv2.out(shape[0]) * conv2.out(shape[1]);
        let (features, classes) = (conv2.cout * area, bias.len());
        if conv1.cin != shape[2] || conv2.cin != conv1.cout || weight.shape != [classes, features] {
            return Err(format!("{name}: the layers do not fit each other and images {shape:?}"));
        }
        let mut dense = vec![T::ZERO; weight.data.len()];
        for (i, v) in weight.data.iter().enumerate() {
            // torch flattens channels first, we channels last.
            let (class, feature) = (i / features, i % features);
            dense[(feature % area * conv2.cout + feature / area) * classes + class] = T::from_f64(*v);
        }
        Ok(Self {
            shape,
            conv1,
            conv2,
            dense,
            bias: bias.iter().map(|v| T::from_f64(*v)).collect(),
            activation: if name == "T" { Activation::TwoBit } else { Activation::Relu },
            ranges,
            surrogate: Surrogate::StraightThrough,
            input_levels: None,
            scale: 1.0,
            softmax: false,
            noises: Vec::new(),
            pass: 0,
        })
    }

    fn act(&self, u: &[T], s: f64) -> Vec<T> {
        let relu = |u: &T| if *u > T::ZERO { *u } else { T::ZERO };
        let two_bit =
            |u: &T| T::from_f64(((u.to_f64() / s).clamp(0.0, 1.0) * 3.0).round_ties_even() / 3.0 * s);
        match self.activation {
            Activation::Relu => u.iter().map(relu).collect(),
            Activation::TwoBit => u.iter().map(two_bit).collect(),
        }
    }

    /// Clears the gradient where the activation passes none.
    fn slope(&self, g: &mut [T], u: &[T], s: f64) {
        let passes = |u: f64| match (self.activation, self.surrogate) {
            (Activation::Relu, _) => u > 0.0,
            (Activation::TwoBit, Surrogate::StraightThrough) => (0.0..=s).contains(&u),
            (Activation::TwoBit, Surrogate::Zero) => false,
        };
        for (g, u) in g.iter_mut().zip(u) {
            if !passes(u.to_f64()) {
                *g = T::ZERO;
            }
        }
    }

    fn trace(&self, x: &[T]) -> Trace<T> {
        let [h, w, _] = self.shape;
        let noise = (!self.noises.is_empty()).then(|| &self.noises[self.pass % self.noises.len()]);
        let mut seen = x.to_vec();
        if let Some(noise) = noise {
            seen.iter_mut().zip(noise).for_each(|(x, n)| *x += T::from_f64(*n));
        }
        if let Some(q) = self.input_levels {
            seen.iter_mut().for_each(|x| *x = T::from_f64((x.to_f64() * q).round_ties_even() / q));
        }
        let u1 = self.conv1.forward(h, w, &seen);
        let u2 = self.conv2.forward(self.conv1.out(h), self.conv1.out(w), &self.act(&u1, self.ranges[0]));
        let mut z = self.bias.clone();
        accumulate(&mut z, &self.act(&u2, self.ranges[1]), &self.dense);
        let scale = T::from_f64(self.scale);
        z.iter_mut().for_each(|z| *z *= scale);
        Trace { u1, u2, z }
    }

    fn back(&self, t: &Trace<T>, cot: &[T], grad: &mut [T]) {
        let [h, w, _] = self.shape;
        let scale = T::from_f64(self.scale);
        let row = |w: &[T]| w.iter().zip(cot).map(|(w, c)| *w * *c).sum::<T>() * scale;
        let mut g2: Vec<T> = self.dense.chunks_exact(cot.len()).map(row).collect();
        self.slope(&mut g2, &t.u2, self.ranges[1]);
        let mut g1 = self.conv2.backward(self.conv1.out(h), self.conv1.out(w), &g2);
        self.slope(&mut g1, &t.u1, self.ranges[0]);
        if self.input_levels.is_some() && self.surrogate == Surrogate::Zero {
            grad.fill(T::ZERO);
        } else {
            grad.copy_from_slice(&self.conv1.backward(h, w, &g1));
        }
    }

    fn answer(&self, z: &[T], out: &mut [T]) {
        out.copy_from_slice(z);
        if self.softmax {
            let max = z.iter().fold(f64::MIN, |m, z| m.max(z.to_f64()));
            let total: f64 = z.iter().map(|v| (v.to_f64() - max).exp()).sum();
            out.iter_mut().for_each(|v| *v = T::from_f64((v.to_f64() - max).exp() / total));
        }
    }
}

impl<T: Real> Classifier<T> for ConvNet<T> {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }
    fn classes(&self) -> usize {
        self.bias.len()
    }
    fn input_shape(&self) -> [usize; 3] {
        self.shape
    }
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.bias.len());
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(k)) {
            self.answer(&self.trace(x).z, out);
        }
        self.pass += 1;
        Ok(())
    }
}

impl<T: Real> Differentiable<T> for ConvNet<T> {
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.bias.len());
        let traces: Vec<Trace<T>> = x.chunks_exact(d).map(|x| self.trace(x)).collect();
        self.pass += 1;
        for (t, out) in traces.iter().zip(logits.chunks_exact_mut(k)) {
            self.answer(&t.z, out);
        }
        let mut cot = vec![T::ZERO; logits.len()];
        cotangent(logits, &mut cot);
        let rows = cot.chunks_exact_mut(k).zip(logits.chunks_exact(k));
        for ((t, grad), (cot, p)) in traces.iter().zip(grad.chunks_exact_mut(d)).zip(rows) {
            if self.softmax {
                let inner: T = p.iter().zip(cot.iter()).map(|(p, c)| *p * *c).sum();
                cot.iter_mut().zip(p).for_each(|(c, p)| *c = *p * (*c - inner));
            }
            self.back(t, cot, grad);
        }
        Ok(())
    }

    fn logits_jacobian(&mut self, x: &[T], logits: &mut [T], jac: &mut [T]) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.bias.len());
        let n = x.len() / d;
        for (i, x) in x.chunks_exact(d).enumerate() {
            let t = self.trace(x);
            logits[i * k..(i + 1) * k].copy_from_slice(&t.z);
            for class in 0..k {
                let mut cot = vec![T::ZERO; k];
                cot[class] = T::ONE;
                let at = (class * n + i) * d;
                self.back(&t, &cot, &mut jac[at..at + d]);
            }
        }
        self.pass += 1;
        Ok(())
    }
}
