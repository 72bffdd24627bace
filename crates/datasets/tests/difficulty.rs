//! The embedded sets must not be linear: softmax regression, stopped early on the validation split, stays below 60 %.
use datasets::embedded::{Sizes, keywords, shapes};
use datasets::{Dataset, Split};
use ndarray::{Array1, Array2, Axis, s};

const BATCH: usize = 50;
const EPOCHS: usize = 12;
const MOMENTUM: f32 = 0.9;

/// Codes centred and scaled to unit variance over everything.
fn matrix(data: &Dataset, split: &Split, mean: &Array1<f32>, std: f32) -> Array2<f32> {
    let x = Array2::from_shape_fn((split.len(), data.sample_len()), |(i, j)| {
        f32::from(split.codes[i * data.sample_len() + j])
    });
    (x - mean) / std
}

fn accuracy(x: &Array2<f32>, labels: &[u8], weights: &Array2<f32>, bias: &Array1<f32>) -> f64 {
    let z = x.dot(weights) + bias;
    let right = z.rows().into_iter().zip(labels).filter(|(z, label)| {
        let best = z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class);
        best == Some(usize::from(**label))
    });
    right.count() as f64 / labels.len() as f64
}

/// Test accuracy of the best linear classifier found, over a few rates, by validation accuracy.
fn linear(data: &Dataset) -> f64 {
    let classes = data.classes.len();
    let zero = Array1::zeros(data.sample_len());
    let raw = matrix(data, &data.train, &zero, 1.0);
    let mean = raw.mean_axis(Axis(0)).unwrap();
    let std = (raw - &mean).std(0.0);
    let [train, validation, test] =
        [&data.train, &data.validation, &data.test].map(|split| matrix(data, split, &mean, std));
    let mut best = (0.0, 0.0);
    for rate in [3e-4f32, 1e-4, 3e-5] {
        let mut weights = Array2::<f32>::zeros((data.sample_len(), classes));
        let mut bias = Array1::<f32>::zeros(classes);
        let mut velocity = weights.clone();
        for _ in 0..EPOCHS {
            // Labels cycle through the classes, so consecutive samples make a fair batch.
            for (x, labels) in train.axis_chunks_iter(Axis(0), BATCH).zip(data.train.labels.chunks(BATCH)) {
                let mut p = x.dot(&weights) + &bias;
                for (mut row, &label) in p.rows_mut().into_iter().zip(labels) {
                    let top = row.fold(f32::MIN, |a, &b| a.max(b));
                    row.mapv_inplace(|z| (z - top).exp());
                    let sum = row.sum();
                    row /= sum;
                    row[usize::from(label)] -= 1.0;
                }
                velocity = velocity * MOMENTUM + x.t().dot(&p);
                weights.scaled_add(-rate, &velocity);
                bias.scaled_add(-rate, &p.sum_axis(Axis(0)));
            }
            let held = accuracy(&validation, &data.validation.labels, &weights, &bias);
            if held > best.0 {
                best = (held, accuracy(&test, &data.test.labels, &weights, &bias));
            }
        }
        assert!(weights.slice(s![0, ..]).iter().all(|w| w.is_finite()));
    }
    best.1
}

#[test]
fn linear_classifiers_fail_on_the_embedded_sets() {
    for data in [shapes(Sizes::default(), 0), keywords(Sizes::default(), 0).unwrap()] {
        let accuracy = linear(&data);
        println!("{}: linear {:.1} %", data.name, 100.0 * accuracy);
        assert!((0.2..0.57).contains(&accuracy), "{}: {accuracy}", data.name);
    }
}
