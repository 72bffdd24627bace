//! The MLPerf Tiny reference networks with their trained weights: logits, predictions and accuracies that TensorFlow gave.

use std::fs::File;
use std::path::Path;

use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use qtensor::conformance::Verdict;

use crate::interop::Weights;
use crate::network::{InputGrid, Network};
use crate::train::argmax;
use crate::zoo::{Quantizers, ds_cnn, resnet8};
use crate::{Model, Predictor};

const RESNET: &str = "mlperf_tiny_resnet8.safetensors";
const RESNET_REFERENCE: &str = "mlperf_tiny_resnet8_reference.npz";
const DS_CNN: &str = "mlperf_tiny_ds_cnn.safetensors";
const DS_CNN_REFERENCE: &str = "mlperf_tiny_kws01.npz";

/// Logits agree within this, absolutely.
const LOGITS: f32 = 1e-3;

/// Labelled 8-bit samples, `[n, h, w, c]`.
#[derive(Clone, Copy, Debug)]
pub struct LabelledCodes<'a> {
    /// Codes.
    pub codes: &'a [u8],
    /// One class per sample.
    pub labels: &'a [u8],
}

pub(super) fn is_present(dir: &Path) -> bool {
    [RESNET, DS_CNN].iter().any(|name| dir.join(name).is_file())
}

/// Judges the networks in `dir`. `cifar10_test` is CIFAR-10's official test set in its order; cases that need it are
/// skipped without it, with `missing` as the reason.
pub fn run(dir: &Path, cifar10_test: Result<LabelledCodes<'_>, &str>, each: &mut dyn FnMut(&str, Verdict)) {
    if dir.join(RESNET).is_file() {
        resnet(dir, cifar10_test, each);
    }
    if dir.join(DS_CNN).is_file() {
        keywords(dir, each);
    }
}

fn resnet(dir: &Path, cifar10_test: Result<LabelledCodes<'_>, &str>, each: &mut dyn FnMut(&str, Verdict)) {
    // MLPerf's weights expect raw pixels: the real value is the code.
    let grid = InputGrid::RAW_IMAGE;
    let network = resnet8([32, 32, 3], grid, 10, &Quantizers::default());
    let opened = open(dir, RESNET, RESNET_REFERENCE, network);
    let (mut predictor, mut file) = match opened {
        Ok(opened) => opened,
        Err(why) => return each("resnet8", Verdict::Failed(why)),
    };
    let random = array::<u8>(&mut file, "x_random").and_then(|x| {
        let want = array::<f32>(&mut file, "logits_random")?;
        let got = logits(&mut predictor, &x)?;
        compare_logits(&got, &want)
    });
    each("resnet8/logits of random images", random.into());
    let set = match cifar10_test {
        Ok(set) => set,
        Err(missing) => {
            for case in ["resnet8/logits of CIFAR-10", "resnet8/predictions of CIFAR-10"] {
                each(case, Verdict::Skipped(missing.to_owned()));
            }
            return;
        }
    };
    let got = match logits(&mut predictor, set.codes) {
        Ok(got) => got,
        Err(why) => return each("resnet8/logits of CIFAR-10", Verdict::Failed(why)),
    };
    let first = array::<f32>(&mut file, "logits_cifar10_test_first_256").and_then(|want| {
        let ours = got.get(..want.len()).ok_or("fewer test images than reference logits")?;
        compare_logits(ours, &want)
    });
    each("resnet8/logits of CIFAR-10", first.into());
    let predictions = array::<u8>(&mut file, "pred_cifar10_test")
        .and_then(|want| compare_predictions(&got, 10, &want, set.labels));
    each("resnet8/predictions of CIFAR-10", predictions.into());
}

fn keywords(dir: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    // The reference's int8 features are (code - 83) * scale; as u8 codes they are 128 higher.
    let grid = InputGrid { scale: 0.584_702_9, zero_point: 128 + 83 };
    let network = ds_cnn([49, 10, 1], grid, 12, &Quantizers::default());
    let judged = open(dir, DS_CNN, DS_CNN_REFERENCE, network).and_then(|(mut predictor, mut file)| {
        let features = array::<i8>(&mut file, "mfcc_int8")?;
        let codes: Vec<u8> = features.iter().map(|&v| (i16::from(v) + 128) as u8).collect();
        let want = array::<f32>(&mut file, "float_logits")?;
        Ok((logits(&mut predictor, &codes)?, want, array::<u8>(&mut file, "label")?))
    });
    match judged {
        Err(why) => each("ds_cnn", Verdict::Failed(why)),
        Ok((got, want, labels)) => {
            each("ds_cnn/logits of keywords", compare_logits(&got, &want).into());
            let theirs: Vec<u8> = want.chunks(12).map(|z| argmax(z) as u8).collect();
            let predictions = compare_predictions(&got, 12, &theirs, &labels);
            each("ds_cnn/predictions of keywords", predictions.into());
        }
    }
}

/// The network with its weights, and the reference outputs.
fn open(
    dir: &Path,
    weights: &str,
    reference: &str,
    network: Network,
) -> Result<(Predictor, NpzReader<File>), String> {
    let mut model = Model::new(network, 0).map_err(|e| e.to_string())?;
    let weights = Weights::load(&dir.join(weights)).map_err(|e| e.to_string())?;
    model.assign(&weights).map_err(|e| e.to_string())?;
    let path = dir.join(reference);
    let failed = |e: String| format!("{}: {e}", path.display());
    let file = File::open(&path).map_err(|e| failed(e.to_string()))?;
    let file = NpzReader::new(file).map_err(|e| failed(e.to_string()))?;
    Ok((Predictor::new(&model).map_err(|e| e.to_string())?, file))
}

fn array<T: ReadableElement + Clone>(file: &mut NpzReader<File>, name: &str) -> Result<Vec<T>, String> {
    let read = file.by_name::<OwnedRepr<T>, ndarray::IxDyn>(name);
    let array: ArrayD<T> = read.map_err(|e| format!("array `{name}`: {e}"))?;
    Ok(array.iter().cloned().collect())
}

/// Logits of codes, `[n, classes]`.
fn logits(predictor: &mut Predictor, codes: &[u8]) -> Result<Vec<f32>, String> {
    let network = &predictor.model().network;
    let (grid, classes, len) = (network.grid, network.classes, predictor.input_len());
    if !codes.len().is_multiple_of(len) {
        return Err(format!("{} codes are no whole number of inputs of {len}", codes.len()));
    }
    let mut out = vec![0.0; codes.len() / len * classes];
    // A few hundred samples at a time: real values take four times the room of codes.
    const AT_ONCE: usize = 256;
    for (codes, out) in codes.chunks(AT_ONCE * len).zip(out.chunks_mut(AT_ONCE * classes)) {
        let x: Vec<f32> = codes.iter().map(|&c| grid.value(c)).collect();
        predictor.logits(&x, out).map_err(|e| e.to_string())?;
    }
    Ok(out)
}

fn compare_logits(got: &[f32], want: &[f32]) -> Result<String, String> {
    if got.len() != want.len() {
        return Err(format!("{} logits, reference has {}", got.len(), want.len()));
    }
    let mut worst = 0f32;
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        if error.is_nan() || error > LOGITS {
            return Err(format!("logit {i}: {got}, reference {want} +- {LOGITS}"));
        }
        worst = worst.max(error);
    }
    Ok(format!("{} logits within {worst:.1e} (allowed {LOGITS:.0e})", got.len()))
}

fn compare_predictions(logits: &[f32], classes: usize, want: &[u8], labels: &[u8]) -> Result<String, String> {
    let got: Vec<usize> = logits.chunks(classes).map(argmax).collect();
    if got.len() != want.len() || got.len() != labels.len() {
        return Err(format!("{} predictions, reference has {} of {}", got.len(), want.len(), labels.len()));
    }
    if let Some(i) = (0..got.len()).find(|&i| got[i] != usize::from(want[i])) {
        return Err(format!("prediction {i}: class {}, reference {}", got[i], want[i]));
    }
    let correct = got.iter().zip(labels).filter(|(g, l)| **g == usize::from(**l)).count();
    let accuracy = 100.0 * correct as f64 / got.len().max(1) as f64;
    Ok(format!("all {} predictions, accuracy {accuracy:.2} %", got.len()))
}
