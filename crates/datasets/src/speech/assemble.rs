//! Clips to a dataset: features of every clip in parallel, statistics of the training clips, codes.
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::{CLASSES, Speech, cache};
use crate::frontend::{FrontEnd, Mfcc, SAMPLES, Standardiser, normalise};
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

/// What is said about the whole, and how it is made.
pub(crate) struct Plan<'a> {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) note: String,
    pub(crate) front_end: FrontEnd,
    pub(crate) noise: Vec<Vec<i16>>,
    /// Where features are kept between runs, if anywhere.
    pub(crate) cache: Option<&'a Path>,
}

/// Clips of one split before standardisation.
struct Raw {
    /// Samples, padded, of every clip.
    waves: Vec<i16>,
    lengths: Vec<usize>,
    digests: Vec<[u8; 32]>,
    features: Vec<f32>,
}

/// Reads all clips with `read` and makes the dataset. Stored features are computed in f64, so that rounding to codes hides
/// the last bits of the logarithms.
pub(crate) fn assemble<S: Sync>(
    plan: Plan<'_>,
    splits: &Splits<S>,
    read: impl Fn(&S) -> Result<Vec<i16>, DataError> + Sync,
) -> Result<Dataset, DataError> {
    let mfcc = Mfcc::<f64>::new();
    let mut warnings = Vec::new();
    let mut raw = |items: &[Item<S>]| -> Result<Raw, DataError> {
        let mut raw = load(items, &read)?;
        raw.features = features(plan.front_end, &mfcc, &raw, plan.cache, &mut warnings)?;
        Ok(raw)
    };
    let train = raw(&splits.train)?;
    // Only training clips keep their sound.
    let mut silent = |items| raw(items).map(|raw| Raw { waves: Vec::new(), ..raw });
    let validation = silent(&splits.validation)?;
    let test = silent(&splits.test)?;

    let columns = plan.front_end.columns(mfcc.parameters());
    let standardiser = Standardiser::fit(&train.features, columns);
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
    let [repeated, shared] = repetitions(&[&train.digests, &validation.digests, &test.digests]);
    if shared > 0 {
        warnings.push(format!(
            "{shared} clips of the validation and test splits are in an earlier split too, sample for sample"
        ));
    }

    let mut dataset = Dataset {
        name: plan.name,
        shape: [mfcc.parameters().frames(), columns, 1],
        grid: InputGrid::FEATURES,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train: train_split,
        validation: validation_split,
        test: test_split,
        checksum: String::new(),
        origin: plan.origin,
        note: format!(
            "{} {repeated} clips repeat another of their split sample for sample. Features beyond the grid's ±8 standard \
             deviations were clamped: {:.4} % of the training, {:.4} % of the validation, {:.4} % of the test values.",
            plan.note,
            100.0 * clipped[0],
            100.0 * clipped[1],
            100.0 * clipped[2]
        ),
        warnings,
        speech: Some(Speech {
            waves: train.waves,
            noise: Arc::new(plan.noise),
            front_end: plan.front_end,
            standardiser,
            clipped,
            mfcc: Arc::new(Mfcc::new()),
        }),
    };
    dataset.checksum = dataset.content_checksum();
    Ok(dataset)
}

fn load<S: Sync>(
    items: &[Item<S>],
    read: &(impl Fn(&S) -> Result<Vec<i16>, DataError> + Sync),
) -> Result<Raw, DataError> {
    let mut waves = vec![0i16; items.len() * SAMPLES];
    let clips = waves.par_chunks_exact_mut(SAMPLES).zip(items).map(|(slot, item)| {
        let clip = read(&item.source)?;
        slot[..clip.len()].copy_from_slice(&clip);
        Ok((clip.len(), cache::clip_digest(&clip)))
    });
    let (lengths, digests) = clips.collect::<Result<Vec<_>, DataError>>()?.into_iter().unzip();
    Ok(Raw { waves, lengths, digests, features: Vec::new() })
}

/// Features of a split, from the cache when it has them.
fn features(
    front_end: FrontEnd,
    mfcc: &Mfcc<f64>,
    raw: &Raw,
    cache: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Vec<f32>, DataError> {
    let values = front_end.values(mfcc.parameters());
    let key = cache::key(front_end, mfcc.parameters(), &raw.digests);
    let stored = cache.map(|dir| cache::read(dir, &key, raw.lengths.len() * values));
    match stored {
        Some(Ok(Some(features))) => return Ok(features),
        Some(Err(error)) => warnings.push(format!("feature cache, computed anew: {error}")),
        Some(Ok(None)) | None => {}
    }
    let mut features = vec![0.0f32; raw.lengths.len() * values];
    features
        .par_chunks_exact_mut(values)
        .zip(raw.waves.par_chunks_exact(SAMPLES))
        .zip(&raw.lengths)
        .try_for_each_init(
            || (mfcc.work(), vec![0.0f64; SAMPLES], vec![0.0f64; values]),
            |(work, wave, out), ((features, clip), &length)| {
                normalise(&clip[..length], wave)?;
                front_end.compute(mfcc, wave, work, out)?;
                for (feature, &x) in features.iter_mut().zip(out.iter()) {
                    *feature = x as f32;
                }
                Ok::<(), DataError>(())
            },
        )?;
    // That features cannot be kept costs time later, not correctness now: worth a word, not the run.
    if let Some(Err(error)) = cache.map(|dir| cache::write(dir, &key, &features)) {
        warnings.push(format!("features are not cached: {error}"));
    }
    Ok(features)
}

/// Clips that repeat one of their own split, and clips that repeat one of an earlier split.
fn repetitions(splits: &[&Vec<[u8; 32]>]) -> [usize; 2] {
    let mut first: HashMap<&[u8; 32], usize> = HashMap::new();
    let (mut repeated, mut shared) = (0, 0);
    for (split, digests) in splits.iter().enumerate() {
        for digest in *digests {
            match *first.entry(digest).or_insert(split) {
                seen if seen < split => shared += 1,
                _ => {}
            }
        }
        let distinct: std::collections::HashSet<_> = digests.iter().collect();
        repeated += digests.len() - distinct.len();
    }
    [repeated, shared]
}
