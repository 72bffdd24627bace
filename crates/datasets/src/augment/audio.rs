//! Audio augmentation: the waveform before the front end, the features after it.
use rand_chacha::ChaCha8Rng;

use super::Augmentation;
use crate::DataError;
use crate::frontend::{COEFFICIENTS, FEATURES, FRAMES, MfccWork, SAMPLES, normalise};
use crate::speech::Speech;
use crate::stream::Draw;

/// Buffers of one thread.
pub(super) struct Scratch {
    work: MfccWork<f32>,
    wave: Vec<f32>,
    features: [f32; FEATURES],
}

impl Scratch {
    pub(super) fn new(speech: &Speech) -> Self {
        Scratch { work: speech.mfcc.work(), wave: vec![0.0; SAMPLES], features: [0.0; FEATURES] }
    }
}

/// Shifts the waveform, mixes noise in and computes the codes anew. Order as in MLPerf Tiny: scale by the clip's maximum, shift,
/// add noise, clip to ±1.
pub(super) fn vary_waveform(
    clip: &[i16],
    speech: &Speech,
    augmentation: &Augmentation,
    rng: &mut ChaCha8Rng,
    scratch: &mut Scratch,
    codes: &mut [u8],
) -> Result<(), DataError> {
    let reach = augmentation.time_shift_ms as usize * SAMPLES / 1000;
    let shift = rng.below(2 * reach + 1) as isize - reach as isize;
    let mix = rng.chance(augmentation.noise_probability);
    let volume = augmentation.noise_volume * rng.unit();
    let recording = &speech.noise.get(rng.below(speech.noise.len().max(1)));
    let place = rng.unit();

    let wave = &mut scratch.wave;
    normalise(clip, wave)?;
    let distance = shift.unsigned_abs();
    if shift > 0 {
        wave.copy_within(..SAMPLES - distance, distance);
        wave[..distance].fill(0.0);
    } else {
        wave.copy_within(distance.., 0);
        wave[SAMPLES - distance..].fill(0.0);
    }
    if let Some(recording) = recording
        && mix
        && augmentation.mixes_noise()
    {
        let start = ((recording.len() - SAMPLES) as f32 * place) as usize;
        let gain = volume / 32_768.0;
        for (x, &noise) in wave.iter_mut().zip(&recording[start..start + SAMPLES]) {
            *x = (*x + gain * f32::from(noise)).clamp(-1.0, 1.0);
        }
    }
    speech.mfcc.compute(wave, &mut scratch.work, &mut scratch.features)?;
    speech.standardiser.encode(&scratch.features, codes);
    Ok(())
}

/// Overwrites whole frames and whole coefficients with the training mean (SpecAugment, Park et al. 2019, on cepstra).
pub(super) fn mask(codes: &mut [u8], augmentation: &Augmentation, mean: u8, rng: &mut ChaCha8Rng) {
    for _ in 0..augmentation.time_masks {
        let (start, end) = span(FRAMES, augmentation.time_mask_frames, rng);
        codes[start * COEFFICIENTS..end * COEFFICIENTS].fill(mean);
    }
    for _ in 0..augmentation.coefficient_masks {
        let (start, end) = span(COEFFICIENTS, augmentation.coefficient_mask_width, rng);
        codes.chunks_exact_mut(COEFFICIENTS).for_each(|frame| frame[start..end].fill(mean));
    }
}

fn span(length: usize, widest: u32, rng: &mut ChaCha8Rng) -> (usize, usize) {
    let width = rng.below((widest as usize).min(length) + 1);
    let start = rng.below(length - width + 1);
    (start, start + width)
}
