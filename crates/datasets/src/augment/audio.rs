//! Audio augmentation: the waveform before the front end, the features after it.
use rand_chacha::ChaCha8Rng;

use super::{Augmentation, NoiseMixing};
use crate::DataError;
use crate::frontend::{MfccWork, SAMPLES, normalise};
use crate::speech::Speech;
use crate::stream::Draw;

/// Buffers of one thread.
pub(super) struct Scratch {
    work: MfccWork<f32>,
    wave: Vec<f32>,
    features: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(speech: &Speech) -> Self {
        Scratch {
            work: speech.mfcc.work(),
            wave: vec![0.0; SAMPLES],
            features: vec![0.0; speech.front_end.values(speech.mfcc.parameters())],
        }
    }
}

/// Shifts the waveform, mixes noise in and computes the codes anew: scale, shift, add noise, clip to ±1, features.
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
    match augmentation.noise_mixing {
        NoiseMixing::MlperfTiny => normalise(clip, wave)?,
        NoiseMixing::Published => {
            for (x, &sample) in wave.iter_mut().zip(clip) {
                *x = f32::from(sample) / 32_768.0;
            }
        }
    }
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
    if augmentation.noise_mixing == NoiseMixing::Published {
        // The front end's own scaling comes after the mixing here.
        let largest = wave.iter().fold(0.0f32, |max, &x| max.max(x));
        if largest > 0.0 {
            wave.iter_mut().for_each(|x| *x /= largest);
        }
    }
    speech.front_end.compute(&speech.mfcc, wave, &mut scratch.work, &mut scratch.features)?;
    speech.standardiser.encode(&scratch.features, codes);
    Ok(())
}

/// Overwrites whole frames and whole coefficients with the training mean (SpecAugment, Park et al. 2019, on the features).
pub(super) fn mask(
    codes: &mut [u8],
    [frames, columns, _]: [usize; 3],
    augmentation: &Augmentation,
    mean: u8,
    rng: &mut ChaCha8Rng,
) {
    for _ in 0..augmentation.time_masks {
        let (start, end) = span(frames, augmentation.time_mask_frames, rng);
        codes[start * columns..end * columns].fill(mean);
    }
    for _ in 0..augmentation.coefficient_masks {
        let (start, end) = span(columns, augmentation.coefficient_mask_width, rng);
        codes.chunks_exact_mut(columns).for_each(|frame| frame[start..end].fill(mean));
    }
}

fn span(length: usize, widest: u32, rng: &mut ChaCha8Rng) -> (usize, usize) {
    let width = rng.below((widest as usize).min(length) + 1);
    let start = rng.below(length - width + 1);
    (start, start + width)
}
