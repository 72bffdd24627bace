//! Batch normalisation folded into the layer before it, as deployment without a normalisation step wants it.

use std::collections::HashMap;

use qtensor::Quantizer;

use crate::QnnError;
use crate::model::{Model, Param, ParamKind};
use crate::network::{INPUT, Layer, LayerOp, Network};

impl Model {
    /// The model without the batch normalisations that directly follow a convolution or dense layer which nothing else
    /// reads: kernels are multiplied by `gamma / sqrt(moving_variance + eps)` per output channel, and the layers get the
    /// bias `(bias - moving_mean) * gamma / sqrt(..) + beta`, all as the normalisation's quantizers have them. Other
    /// normalisations stay.
    ///
    /// Float kernels compute the same function. Quantized ones are quantized after folding, like QKeras'
    /// `unfold_model`: with an `auto` scale per output channel their codes stay the same (signs follow gamma's), with other
    /// scales the function changes.
    pub fn fold_batch_norm(&self) -> Result<Self, QnnError> {
        self.validate()?;
        let old = &self.network;
        let sources: Vec<Vec<Option<usize>>> =
            (0..old.layers.len()).map(|i| old.sources(i)).collect::<Result<_, _>>()?;
        let readers = |i: usize| sources.iter().flatten().filter(|s| **s == Some(i)).count();
        // From a normalisation to the layer that swallows it.
        let mut folded = HashMap::new();
        for (i, layer) in old.layers.iter().enumerate() {
            if let (LayerOp::BatchNorm { .. }, Some(before)) = (&layer.op, sources[i][0])
                && is_weighted(&old.layers[before].op)
                && readers(before) == 1
            {
                folded.insert(i, before);
            }
        }
        let mut network = Network { layers: Vec::new(), ..old.clone() };
        for (i, layer) in old.layers.iter().enumerate() {
            if folded.contains_key(&i) {
                continue;
            }
            let name = |s: &Option<usize>| match s {
                None => INPUT.to_owned(),
                Some(s) => old.layers[*folded.get(s).unwrap_or(s)].name.clone(),
            };
            let mut op = layer.op.clone();
            let swallows = folded.values().any(|&before| before == i);
            if swallows {
                match &mut op {
                    LayerOp::Conv2d { bias, .. }
                    | LayerOp::DepthwiseConv2d { bias, .. }
                    | LayerOp::Dense { bias, .. } => *bias = true,
                    _ => unreachable!("only weighted layers swallow a normalisation"),
                }
            }
            let inputs = sources[i].iter().map(name).collect();
            // What is folded is the quantized bias; the sum of it and the normalisation's shift is on no grid.
            let bias_quantizer = layer.bias_quantizer.clone().filter(|_| !swallows);
            network.layers.push(Layer { name: layer.name.clone(), op, inputs, bias_quantizer });
        }
        let mut model = Self::new(network, 0)?;
        for param in &mut model.params {
            if let Some(kept) = self.param(&param.name) {
                param.values = values_for(param, kept)?;
            }
        }
        for (&norm, &before) in &folded {
            self.fold_into(&mut model, &old.layers[norm], &old.layers[before].name)?;
        }
        model.validate()?;
        Ok(model)
    }

    fn fold_into(&self, model: &mut Self, norm: &Layer, layer: &str) -> Result<(), QnnError> {
        let LayerOp::BatchNorm { eps, quantizers, .. } = &norm.op else { return Ok(()) };
        // In double precision: folding should not add to the rounding of what it replaces.
        let quantized = |q: Option<&Quantizer>, x: Vec<f64>| match q {
            None => Ok(x),
            Some(q) => q
                .inference_values(&x, &[x.len()])
                .map_err(|source| QnnError::Quantize { layer: norm.name.clone(), source }),
        };
        let q = quantizers.as_deref().cloned().unwrap_or_default();
        let of = |suffix: &str, q: &Option<Quantizer>| {
            let name = format!("{}/{suffix}", norm.name);
            let param =
                self.param(&name).ok_or_else(|| QnnError::Config(format!("no parameter `{name}`")))?;
            quantized(q.as_ref(), param.values.iter().map(|&v| f64::from(v)).collect())
        };
        let (gamma, beta) = (of("gamma", &q.gamma)?, of("beta", &q.beta)?);
        let (mean, variance) = (of("moving_mean", &q.mean)?, of("moving_variance", &q.variance)?);
        let factors = gamma.iter().zip(variance).map(|(g, v)| g / (v + f64::from(*eps)).sqrt()).collect();
        let factors = quantized(q.inverse.as_ref(), factors)?;
        for param in &mut model.params {
            match param.name.strip_prefix(layer).and_then(|rest| rest.strip_prefix('/')) {
                Some("kernel") => {
                    for (i, w) in param.values.iter_mut().enumerate() {
                        *w = (f64::from(*w) * factors[i % factors.len()]) as f32;
                    }
                }
                Some("bias") => {
                    for (c, b) in param.values.iter_mut().enumerate() {
                        *b = ((f64::from(*b) - mean[c]) * factors[c] + beta[c]) as f32;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A parameter's values in the folded model: a bias that loses its quantizer is what that made of it.
fn values_for(param: &Param, kept: &Param) -> Result<Vec<f32>, QnnError> {
    match (&kept.kind, &param.kind) {
        (ParamKind::Bias(Some(q)), ParamKind::Bias(None)) => q
            .inference_values(&kept.values, &kept.shape)
            .map_err(|source| QnnError::Quantize { layer: kept.name.clone(), source }),
        _ => Ok(kept.values.clone()),
    }
}

fn is_weighted(op: &LayerOp) -> bool {
    matches!(op, LayerOp::Conv2d { .. } | LayerOp::DepthwiseConv2d { .. } | LayerOp::Dense { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Predictor;
    use crate::network::{BatchNormQuantizers, InputGrid};
    use crate::zoo::{Twin, build};
    use qtensor::stream::{Purpose, normal_pair, stream};

    /// Parameters as after training: nothing is 0 or 1, some gammas are negative.
    fn trained(name: &str, twin: Twin) -> Model {
        let shape = if name == "ds_cnn" { [12, 10, 1] } else { [16, 16, 3] };
        let network = build(name, shape, InputGrid::UNIT_IMAGE, 5, &twin.quantizers()).unwrap();
        let mut model = Model::new(network, 2).unwrap();
        let mut rng = stream(4, Purpose::Test, &[]);
        for param in &mut model.params {
            let spread = if param.name.ends_with("kernel") { 0.0 } else { 0.4 };
            for v in &mut param.values {
                *v += spread * normal_pair(&mut rng)[0] as f32;
                if param.name.ends_with("moving_variance") {
                    *v = v.abs() + 0.1;
                }
            }
            if param.name.ends_with("gamma") {
                param.values[0] = -0.7;
            }
        }
        model
    }

    fn logits(model: &Model) -> Vec<f32> {
        let mut predictor = Predictor::new(model).unwrap();
        let x: Vec<f32> = (0..4 * predictor.input_len()).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
        let mut out = vec![0.0; 4 * 5];
        predictor.logits(&x, &mut out).unwrap();
        out
    }

    #[test]
    fn float_networks_compute_the_same_function_without_normalisations() {
        for name in ["stq_image_s", "resnet8", "ds_cnn"] {
            let model = trained(name, Twin::Float);
            let folded = model.fold_batch_norm().unwrap();
            assert!(
                folded.network.layers.iter().all(|l| !matches!(l.op, LayerOp::BatchNorm { .. })),
                "{name}"
            );
            let (want, got) = (logits(&model), logits(&folded));
            let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, b) in want.iter().zip(&got) {
                assert!((a - b).abs() <= 2e-5 * scale, "{name}: {a} became {b}");
            }
        }
    }

    #[test]
    fn auto_scales_absorb_the_factor_and_codes_stay() {
        let model = trained("stq_image_s", Twin::StqDeterministic);
        let folded = model.fold_batch_norm().unwrap();
        let statistics = |m: &Model| crate::summary::Summary::of_model(m).unwrap();
        let (before, after) = (statistics(&model), statistics(&folded));
        let sparsity = |s: &crate::summary::Summary| -> Vec<f64> {
            s.layers.iter().filter_map(|l| l.statistics.as_ref().map(|k| k.sparsity)).collect()
        };
        assert_eq!(sparsity(&before), sparsity(&after));
        let (want, got) = (logits(&model), logits(&folded));
        let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        // An activation on a tie may move by one code.
        assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() <= 5e-3 * scale), "{want:?} became {got:?}");
    }

    #[test]
    fn a_normalisation_whose_source_has_other_readers_stays() {
        let network = Network::new("n", [4, 4, 1], InputGrid::UNIT_IMAGE, 2)
            .conv("c", 2, 3, 1, &None)
            .then("b", crate::network::BATCH_NORM)
            .join("s", LayerOp::Add, &["b", "c"])
            .classifier(&None);
        let model = Model::new(network, 1).unwrap();
        assert_eq!(model.fold_batch_norm().unwrap().params.len(), model.params.len());
    }

    /// What is folded is what the normalisation's quantizers make of its parameters.
    #[test]
    fn quantized_normalisations_are_folded_as_quantized() {
        let q = |text: &str| Some(text.parse().unwrap());
        let inverse = BatchNormQuantizers {
            mean: q("quantized_bits(6, 1)"),
            inverse: q("quantized_bits(5, 1)"),
            ..BatchNormQuantizers::default()
        };
        for quantizers in [BatchNormQuantizers::qkeras(), inverse] {
            let mut model = trained("stq_image_s", Twin::Float);
            let plain = logits(&model);
            model.network.quantize_batch_norms(&Some(quantizers));
            let kinds = Model::new(model.network.clone(), 0).unwrap().params;
            model.params.iter_mut().zip(kinds).for_each(|(p, k)| p.kind = k.kind);
            let folded = model.fold_batch_norm().unwrap();
            assert!(folded.network.layers.iter().all(|l| !matches!(l.op, LayerOp::BatchNorm { .. })));
            let (want, got) = (logits(&model), logits(&folded));
            let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(
                want.iter().zip(&got).all(|(a, b)| (a - b).abs() <= 2e-5 * scale),
                "{want:?} became {got:?}"
            );
            assert!(want.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.01 * scale));
        }
    }

    /// What is folded is the bias that the layer adds, not the latent one.
    #[test]
    fn quantized_biases_are_folded_as_quantized() {
        let q = Some("quantized_bits(4, 0)".parse().unwrap());
        let mut network = Network::new("biased", [5, 5, 2], InputGrid::UNIT_IMAGE, 3)
            .then("c1", crate::network::conv2d(4, [3, 3], [1, 1], true, &None))
            .bn_act("c1", &None)
            .classifier(&None);
        network.quantize_biases(&q);
        let mut model = Model::new(network, 3).unwrap();
        for (i, param) in model.params.iter_mut().enumerate().filter(|(_, p)| !p.name.ends_with("kernel")) {
            param.values.iter_mut().enumerate().for_each(|(k, v)| *v += 0.07 * ((3 * k + i) % 5) as f32);
        }
        let folded = model.fold_batch_norm().unwrap();
        assert_eq!(folded.network.layer("c1").unwrap().bias_quantizer, None);
        assert_eq!(folded.network.layer("logits").unwrap().bias_quantizer, q);
        let x: Vec<f32> = (0..50).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
        let logits = |m: &Model| {
            let mut out = [0.0; 3];
            Predictor::new(m).unwrap().logits(&x, &mut out).unwrap();
            out
        };
        let (whole, parts) = (logits(&folded), logits(&model));
        assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-5), "{whole:?} {parts:?}");
        // The latent biases would not do.
        let mut latent = model.clone();
        latent.network.quantize_biases(&None);
        let kinds = Model::new(latent.network.clone(), 0).unwrap().params;
        latent.params.iter_mut().zip(kinds).for_each(|(p, k)| p.kind = k.kind);
        assert!(logits(&latent).iter().zip(&parts).any(|(a, b)| (a - b).abs() > 1e-3));
    }
}
