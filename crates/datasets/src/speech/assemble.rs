//! Clips to a dataset: features of every clip in parallel, statistics of the training clips, codes.
use std::sync::Arc;

use rayon::prelude::*;

use super::{CLASSES, Speech};
use crate::frontend::{COEFFICIENTS, FEATURES, FRAMES, Mfcc, SAMPLES, Standardiser, normalise};
use crate::{DataError, Dataset, InputGrid, Origin, Split};

/// One clip to be: who it is, and how to get its 1 to [`SAMPLES`] samples.
pub(crate) struct Item<S> {
    pub(crate) source: S,
    pub(crate) label: u8,
    pub(crate) id: u32,
}

/// The clips of the three splits.
pub(crate) struct Splits<S> {
    pub(crate) train: Vec<Item<S>>,
    pub(crate) validation: Vec<Item<S>>,
    pub(crate) test: Vec<Item<S>>,
}

/// Features of one split before standardisation.
struct Raw {
    features: Vec<f32>,
    waves: Vec<i16>,
}

/// Reads all clips with `read` and makes the dataset. Stored features are computed in f64, so that rounding to codes hides the
/// last bits of the logarithms. There is no cache of features on disk: decoding and transforming the 4,890 clips of the
/// five-fold task takes 3 s on two busy cores in a release build, and reading a cache would have to hash the files anyway.
pub(crate) fn assemble<S: Sync>(
    name: String,
    origin: Origin,
    note: String,
    splits: &Splits<S>,
    noise: Vec<Vec<i16>>,
    read: impl Fn(&S) -> Result<Vec<i16>, DataError> + Sync,
) -> Result<Dataset, DataError> {
    let mfcc = Mfcc::<f64>::new();
    let raw = |items: &[Item<S>], keep_waves: bool| -> Result<Raw, DataError> {
        let mut features = vec![0.0f32; items.len() * FEATURES];
        let mut waves = vec![0i16; if keep_waves { items.len() * SAMPLES } else { 0 }];
        // Without waveforms to keep, every clip writes to an empty slice.
        let wave_len = if keep_waves { SAMPLES } else { 0 };
        let slots: Vec<&mut [i16]> = if keep_waves {
            waves.chunks_exact_mut(SAMPLES).collect()
        } else {
            (0..items.len()).map(|_| Default::default()).collect()
        };
        features.par_chunks_exact_mut(FEATURES).zip(items).zip(slots).try_for_each_init(
            || (mfcc.work(), vec![0.0f64; SAMPLES], [0.0f64; FEATURES]),
            |(work, wave, out), ((features, item), slot)| {
                let clip = read(&item.source)?;
                let kept = clip.len().min(wave_len);
                slot[..kept].copy_from_slice(&clip[..kept]);
                normalise(&clip, wave)?;
                mfcc.compute(wave, work, out)?;
                for (feature, &x) in features.iter_mut().zip(out.iter()) {
                    *feature = x as f32;
                }
                Ok(())
            },
        )?;
        Ok(Raw { features, waves })
    };
    let train = raw(&splits.train, true)?;
    let validation = raw(&splits.validation, false)?;
    let test = raw(&splits.test, false)?;

    let standardiser = Standardiser::fit(&train.features);
    let encode = |raw: &Raw, items: &[Item<S>]| {
        let mut codes = vec![0u8; raw.features.len()];
        let clipped = standardiser.encode(&raw.features, &mut codes);
        let split = Split {
            codes,
            labels: items.iter().map(|item| item.label).collect(),
            ids: items.iter().map(|item| item.id).collect(),
        };
        (split, clipped as f64 / raw.features.len().max(1) as f64)
    };
    let (train_split, train_clipped) = encode(&train, &splits.train);
    let (validation_split, validation_clipped) = encode(&validation, &splits.validation);
    let (test_split, test_clipped) = encode(&test, &splits.test);
    let clipped = [train_clipped, validation_clipped, test_clipped];

    let mut dataset = Dataset {
        name,
        shape: [FRAMES, COEFFICIENTS, 1],
        grid: InputGrid::FEATURES,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train: train_split,
        validation: validation_split,
        test: test_split,
        checksum: String::new(),
        origin,
        note: format!(
            "{note} Features beyond the grid's ±8 standard deviations were clamped: {:.4} % of the training, {:.4} % of \
             the validation, {:.4} % of the test values.",
            100.0 * clipped[0],
            100.0 * clipped[1],
            100.0 * clipped[2]
        ),
        warnings: Vec::new(),
        speech: Some(Speech {
            waves: train.waves,
            noise: Arc::new(noise),
            standardiser,
            clipped,
            mfcc: Arc::new(Mfcc::new()),
        }),
    };
    dataset.checksum = dataset.content_checksum();
    Ok(dataset)
}
