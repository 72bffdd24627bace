//! The front end against TensorFlow's own numbers; needs `TERNION_ORACLE`, the folder holding `mfcc/mfcc.npz`.
use std::fs::File;
use std::path::PathBuf;

use datasets::frontend::{FEATURES, Mfcc, SAMPLES, normalise};
use ndarray::{Array1, Array2, Array3};
use ndarray_npy::NpzReader;

/// Largest relative difference of the waveform gradient, from the folder's manifest.
const GRADIENT_TOLERANCE: f64 = 1e-3;

#[test]
fn features_and_gradient_agree_with_tensorflow() {
    let Some(dir) = std::env::var_os("TERNION_ORACLE").map(PathBuf::from) else {
        println!("skipped: TERNION_ORACLE is not set");
        return;
    };
    let mut npz = NpzReader::new(File::open(dir.join("mfcc/mfcc.npz")).unwrap()).unwrap();
    let audio: Array2<i16> = npz.by_name("audio_int16").unwrap();
    let length: Array1<i32> = npz.by_name("length").unwrap();
    let expected: Array3<f64> = npz.by_name("mfcc_f64").unwrap();
    let tolerance: Array1<f32> = npz.by_name("atol_clip").unwrap();
    let cotangent: Array3<f32> = npz.by_name("cotangent").unwrap();
    let gradient: Array2<f64> = npz.by_name("grad_waveform").unwrap();

    let (mfcc, mfcc32) = (Mfcc::<f64>::new(), Mfcc::<f32>::new());
    let (mut work, mut work32) = (mfcc.work(), mfcc32.work());
    let (mut worst, mut worst32, mut worst_gradient) = (0.0f64, 0.0f64, 0.0f64);
    for i in 0..audio.nrows() {
        let clip = &audio.row(i).to_vec()[..length[i] as usize];
        let mut wave = vec![0.0f64; SAMPLES];
        let mut wave32 = vec![0.0f32; SAMPLES];
        let mut out = vec![0.0f64; FEATURES];
        let mut out32 = vec![0.0f32; FEATURES];
        normalise(clip, &mut wave).unwrap();
        normalise(clip, &mut wave32).unwrap();
        mfcc32.compute(&wave32, &mut work32, &mut out32).unwrap();
        if i < cotangent.shape()[0] {
            let cot: Vec<f64> =
                cotangent.index_axis(ndarray::Axis(0), i).iter().map(|&x| f64::from(x)).collect();
            let mut grad = vec![0.0f64; SAMPLES];
            mfcc.vjp(&wave, &cot, &mut work, &mut out, &mut grad).unwrap();
            let norm = gradient.row(i).iter().map(|g| g * g).sum::<f64>().sqrt();
            let error =
                grad.iter().zip(gradient.row(i)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / norm;
            worst_gradient = worst_gradient.max(error);
            assert!(error <= GRADIENT_TOLERANCE, "clip {i}: gradient off by {error:e} of its norm");
        } else {
            mfcc.compute(&wave, &mut work, &mut out).unwrap();
        }
        let limit = f64::from(tolerance[i]);
        for ((&ours, &ours32), &theirs) in
            out.iter().zip(&out32).zip(expected.index_axis(ndarray::Axis(0), i))
        {
            let (error, error32) = ((ours - theirs).abs(), (f64::from(ours32) - theirs).abs());
            assert!(error <= limit, "clip {i}: {ours} for {theirs}, tolerance {limit}");
            assert!(error32 <= limit, "clip {i} in f32: {ours32} for {theirs}, tolerance {limit}");
            (worst, worst32) = (worst.max(error / limit), worst32.max(error32 / limit));
        }
    }
    println!(
        "worst share of the tolerance: f64 {worst:.2e}, f32 {worst32:.2e}; gradient {worst_gradient:.2e}"
    );
}
