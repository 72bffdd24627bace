//! Round trips, other programs' names and layouts, and refusals of what does not fit.

use proptest::prelude::*;

use super::*;
use crate::infer::Predictor;
use crate::network::{InputGrid, LayerOp};
use crate::zoo::{Quantizers, Twin, build};

fn model(twin: Twin) -> Model {
    let grid = InputGrid::STANDARDISED;
    Model::new(build("ds_cnn", [12, 10, 1], grid, 3, &twin.quantizers()).unwrap(), 5).unwrap()
}

/// Name, shape and values of a tensor.
type Named = (String, Vec<usize>, Vec<f32>);

fn file(tensors: &[Named]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|t| t.2.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(t, b)| (t.0.clone(), TensorView::new(Dtype::F32, t.1.clone(), b).unwrap()));
    safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()
}

#[test]
fn our_own_export_comes_back_whole() {
    let model = model(Twin::Stq);
    let bytes = model.to_safetensors().unwrap();
    assert_eq!(Model::from_safetensors(&bytes, "memory").unwrap(), model);
}

/// Networks as earlier programs wrote them into the metadata know neither dilation nor multiplier nor these quantizers.
#[test]
fn networks_without_the_newer_fields_are_read() {
    let network = Network::new("n", [5, 5, 2], InputGrid::UNIT_IMAGE, 3)
        .then("c", crate::network::conv2d(3, [3, 3], [1, 1], true, &None))
        .then("d", crate::network::depthwise([3, 3], [1, 1], true, &None))
        .bn_act("d", &None)
        .classifier(&None);
    let text = serde_json::to_string(&network).unwrap();
    let old = text
        .replace("\"dilation\":[1,1],", "")
        .replace("\"multiplier\":1,", "")
        .replace(",\"quantizers\":null", "")
        .replace(",\"bias_quantizer\":null", "");
    assert!(old.len() + 100 < text.len(), "{old}");
    assert_eq!(serde_json::from_str::<Network>(&old).unwrap(), network);
}

#[test]
fn dilated_multiplied_and_quantized_layers_survive() {
    let mut network = Network::new("n", [5, 5, 2], InputGrid::UNIT_IMAGE, 3)
        .then("d", crate::network::depthwise([2, 2], [1, 1], true, &None).multiplied(3).dilated([2, 3]))
        .bn_act("d", &None)
        .classifier(&None);
    network.quantize_batch_norms(&Some(crate::network::BatchNormQuantizers::qkeras()));
    let model = Model::new(network, 2).unwrap();
    assert_eq!(Model::from_safetensors(&model.to_safetensors().unwrap(), "memory").unwrap(), model);
}

#[test]
fn a_quantized_network_starts_from_a_float_one() {
    let (float, mut quantized) = (model(Twin::Float), model(Twin::Stq));
    let weights = Weights::from_bytes(&float.to_safetensors().unwrap(), "float").unwrap();
    assert_eq!(quantized.assign(&weights).unwrap(), Naming::Ours);
    assert!(quantized.params.iter().zip(&float.params).all(|(a, b)| a.values == b.values));
    assert_ne!(quantized.network, float.network);
}

#[test]
fn pytorch_layouts_are_transposed_and_flattened_maps_reordered() {
    // Every tensor as PyTorch would hold it, from a network whose dense layer sees a 2x2x3 map.
    let none = &None;
    let network = Network::new("t", [5, 5, 2], InputGrid::UNIT_IMAGE, 4)
        .conv("c", 3, 3, 2, none)
        .bn_act("c", none)
        .then("d", crate::network::depthwise([3, 3], [1, 1], true, none))
        .max_pool("p", 1)
        .then("cut", LayerOp::MaxPool { size: [2, 2], stride: [1, 1] })
        .classifier(none);
    let mut model = Model::new(network, 3).unwrap();
    let mut tensors = Vec::new();
    for param in &model.params {
        let (layer, suffix) = param.name.split_once('/').unwrap();
        let variable = match suffix {
            "kernel" | "gamma" => "weight",
            "moving_mean" => "running_mean",
            "moving_variance" => "running_var",
            _ => "bias",
        };
        let v = &param.values;
        let (shape, values) = match (&param.shape[..], layer) {
            (&[h, w, i, o], "c") => {
                let at = |n: usize| {
                    let (co, ci, y, x) = (n / (i * h * w), n / (h * w) % i, n / w % h, n % w);
                    v[((y * w + x) * i + ci) * o + co]
                };
                (vec![o, i, h, w], (0..v.len()).map(at).collect())
            }
            (&[h, w, c, 1], "d") => {
                let at = |n: usize| v[(n / w % h * w + n % w) * c + n / (h * w)];
                (vec![c, 1, h, w], (0..v.len()).map(at).collect())
            }
            (&[i, o], "logits") => {
                let at = |n: usize| {
                    let (co, ci, y, x) = (n / i, n % i / 4, n % 4 / 2, n % 2);
                    v[((y * 2 + x) * 3 + ci) * o + co]
                };
                (vec![o, i], (0..v.len()).map(at).collect())
            }
            _ => (param.shape.clone(), v.clone()),
        };
        tensors.push((format!("{layer}.{variable}"), shape, values));
    }
    let expected = model.params.clone();
    model.params.iter_mut().for_each(|p| p.values.fill(0.5));
    let weights = Weights::from_bytes(&file(&tensors), "torch").unwrap();
    assert_eq!(model.assign(&weights).unwrap(), Naming::Torch);
    assert_eq!(model.params, expected);
    assert!(Predictor::new(&model).is_ok());
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let mut model = model(Twin::Float);
    let before = model.clone();
    let whole: Vec<_> =
        (before.params.iter()).map(|p| (p.name.clone(), p.shape.clone(), p.values.clone())).collect();
    let mut try_with = |change: &dyn Fn(&mut Vec<Named>)| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        let weights = Weights::from_bytes(&file(&tensors), "w.safetensors").unwrap();
        let error = model.assign(&weights).unwrap_err().to_string();
        assert_eq!(model, before);
        assert!(error.starts_with("w.safetensors: "), "{error}");
        error
    };
    assert!(try_with(&|t| drop(t.pop())).contains("no tensor for `logits/bias`"));
    assert!(try_with(&|t| t.push(("stray".into(), vec![1], vec![0.0]))).contains("stray"));
    assert!(try_with(&|t| t[0].1.reverse()).contains("has shape"));
    assert!(try_with(&|t| t[0].2[0] = f32::NAN).contains("not finite"));
}

#[test]
fn a_network_larger_than_its_file_is_refused_before_it_is_allocated() {
    let quantizers = Quantizers::default();
    let mut network = build("ds_cnn", [12, 10, 1], InputGrid::STANDARDISED, 3, &quantizers).unwrap();
    if let LayerOp::Conv2d { filters, .. } = &mut network.layers[0].op {
        *filters = 1 << 40;
    }
    let metadata = HashMap::from([(NETWORK.to_owned(), serde_json::to_string(&network).unwrap())]);
    let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    let bytes = safetensors::serialize([("a", view)], Some(metadata)).unwrap();
    assert!(Model::from_safetensors(&bytes, "huge").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_files_are_errors_or_other_values(cut in 0usize..200_000, flip in 0usize..8000, bit in 0u8..8) {
        let bytes = model(Twin::Stq).to_safetensors().unwrap();
        prop_assert!(Model::from_safetensors(&bytes[..cut.min(bytes.len() - 1)], "cut").is_err());
        let mut flipped = bytes;
        let at = flip % flipped.len();
        flipped[at] ^= 1 << bit;
        // A flipped weight bit is another weight; anything else is an error. Never a panic.
        let _ = Model::from_safetensors(&flipped, "flipped");
    }
}
