//! Optimizers and learning-rate schedules (Keras' formulas and defaults).

use kernels::dispatch::vectorized;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::{Model, ParamKind};

/// An update rule. Decay applies to kernels only, not to biases or batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// `m = momentum * m - lr * (g + weight_decay * w); w += m`, looking ahead with `nesterov`.
    Sgd {
        /// Momentum.
        #[serde(default = "momentum")]
        momentum: f32,
        /// Whether to apply the momentum once more to the update.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Kingma and Ba 2015, bias-corrected, epsilon 1e-7 as in Keras.
    Adam {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Decoupled decay (Loshchilov and Hutter 2019): `w -= lr * weight_decay * w`. Non-zero makes this AdamW.
        #[serde(default)]
        weight_decay: f32,
    },
}

fn momentum() -> f32 {
    0.9
}
fn beta1() -> f32 {
    0.9
}
fn beta2() -> f32 {
    0.999
}

const ADAM_EPSILON: f32 = 1e-7;

impl Optimizer {
    /// Adam with Keras' defaults.
    pub fn adam() -> Self {
        Self::Adam { beta1: beta1(), beta2: beta2(), weight_decay: 0.0 }
    }
}

/// How the learning rate moves over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// Always the base rate.
    Constant,
    /// Multiplied by `factor` every `every` epochs.
    Step {
        /// Epochs between drops.
        every: u32,
        /// Factor of each drop.
        factor: f64,
    },
    /// Linear warm-up over `warmup` epochs, then a half cosine down to `floor` times the base rate.
    Cosine {
        /// Epochs of warm-up.
        #[serde(default)]
        warmup: f64,
        /// Final share of the base rate.
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `rate` per epoch.
    Exponential {
        /// Factor per epoch.
        rate: f64,
    },
}

impl Schedule {
    /// Learning rate at fractional epoch `at` of a run of `epochs`.
    pub fn rate(&self, base: f64, at: f64, epochs: u32) -> f64 {
        match *self {
            Self::Constant => base,
            Self::Step { every, factor } => base * factor.powi((at / f64::from(every.max(1))) as i32),
            Self::Exponential { rate } => base * rate.powi(at as i32),
            Self::Cosine { warmup, floor } if at < warmup => base * (floor + (1.0 - floor) * at / warmup),
            Self::Cosine { warmup, floor } => {
                let span = (f64::from(epochs) - warmup).max(f64::MIN_POSITIVE);
                let phase = ((at - warmup) / span).min(1.0);
                base * (floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * phase).cos()))
            }
        }
    }
}

/// First and second moments of every parameter (empty where the rule has none).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimizerState {
    /// Updates done.
    pub updates: u64,
    /// First moments, or momentum.
    pub first: Vec<Vec<f32>>,
    /// Second moments.
    pub second: Vec<Vec<f32>>,
    /// Moving average of every parameter, if one is kept.
    pub average: Vec<Vec<f32>>,
}

impl OptimizerState {
    /// Zero moments for `model`.
    pub fn new(optimizer: &Optimizer, model: &Model) -> Self {
        let zeros = |wanted: bool| {
            let len = |p: &crate::model::Param| {
                if wanted && p.kind.is_trainable() { vec![0.0; p.values.len()] } else { Vec::new() }
            };
            model.params.iter().map(len).collect()
        };
        let adam = matches!(optimizer, Optimizer::Adam { .. });
        Self { updates: 0, first: zeros(true), second: zeros(adam), average: Vec::new() }
    }

    /// Moves the average towards the model's parameters.
    pub(crate) fn average(&mut self, decay: f32, model: &Model) {
        let t = self.updates as f32;
        let share = 1.0 - decay.min((1.0 + t) / (10.0 + t));
        for (average, param) in self.average.iter_mut().zip(&model.params) {
            average.iter_mut().zip(&param.values).for_each(|(a, w)| *a += share * (w - *a));
        }
    }

    /// Applies one update to parameter `index`, with the gradient scaled by `scale` and `updates` already counted.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        index: usize,
        model: &mut Model,
        gradient: &[f32],
        scale: f32,
        rate: f32,
    ) {
        let param = &mut model.params[index];
        let clip = match &param.kind {
            // As QKeras constrains them all alike.
            ParamKind::Kernel(Some(q))
            | ParamKind::Bias(Some(q))
            | ParamKind::Gamma(Some(q))
            | ParamKind::Beta(Some(q)) => q.weight_clip().map(|c| c as f32),
            _ => None,
        };
        let decays = matches!(param.kind, ParamKind::Kernel(_));
        let step = Step { optimizer, updates: self.updates, scale, rate, decays, clip };
        step.apply(&mut param.values, gradient, &mut self.first[index], &mut self.second[index]);
    }
}

/// One update of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) optimizer: &'a Optimizer,
    /// Updates done, this one included.
    pub(crate) updates: u64,
    /// Factor on the gradient.
    pub(crate) scale: f32,
    pub(crate) rate: f32,
    /// Whether weight decay applies.
    pub(crate) decays: bool,
    /// Bound on the magnitude of every value.
    pub(crate) clip: Option<f32>,
}

impl Step<'_> {
    /// Updates `values` and the moments (`second` is empty where the rule has none).
    pub(crate) fn apply(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        const PIECE: usize = 16 * 1024;
        let Self { scale, rate, clip, .. } = *self;
        let bound = |w: f32| clip.map_or(w, |c| w.clamp(-c, c));
        let decay = |d: f32| if self.decays { d } else { 0.0 };
        let first = first.par_chunks_mut(PIECE);
        let values = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).zip(first);
        match *self.optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                let decay = decay(weight_decay);
                values.for_each(|((w, g), m)| {
                    vectorized(move || {
                        for ((w, &g), m) in w.iter_mut().zip(g).zip(m) {
                            let g = g * scale + decay * *w;
                            *m = momentum * *m - rate * g;
                            *w = bound(if nesterov { *w + momentum * *m - rate * g } else { *w + *m });
                        }
                    });
                });
            }
            Optimizer::Adam { beta1, beta2, weight_decay } => {
                let t = i32::try_from(self.updates).unwrap_or(i32::MAX);
                let correction = (1.0 - f64::from(beta2).powi(t)).sqrt() / (1.0 - f64::from(beta1).powi(t));
                let step = (f64::from(rate) * correction) as f32;
                let shrink = rate * decay(weight_decay);
                values.zip(second.par_chunks_mut(PIECE)).for_each(|(((w, g), m), v)| {
                    vectorized(move || {
                        for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                            let g = g * scale;
                            *m += (1.0 - beta1) * (g - *m);
                            *v += (1.0 - beta2) * (g * g - *v);
                            *w = bound(*w - shrink * *w - step * *m / (v.sqrt() + ADAM_EPSILON));
                        }
                    });
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputGrid, Network};

    #[test]
    fn quantized_biases_are_clipped_and_float_ones_are_not() {
        let trained = |biases: Option<&str>| {
            let mut network = Network::new("one", [1, 1, 2], InputGrid::UNIT_IMAGE, 2).classifier(&None);
            network.quantize_biases(&biases.map(|q| q.parse().unwrap()));
            let mut model = Model::new(network, 1).unwrap();
            let bias = model.index_of("logits/bias").unwrap();
            let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
            let mut state = OptimizerState::new(&sgd, &model);
            state.updates = 1;
            state.update(&sgd, bias, &mut model, &[3.0, -0.5], 1.0, 1.0);
            model.params[bias].values.clone()
        };
        assert_eq!(trained(Some("quantized_bits(8, 0)")), [-1.0, 0.5]);
        assert_eq!(trained(None), [-3.0, 0.5]);
    }
}
