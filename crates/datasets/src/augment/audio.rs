//! Audio augmentation: the waveform before the front end, the features after it.
use pulp::{Arch, NullaryFnOnce};
use rand_chacha::ChaCha8Rng;

use super::{Augmentation, NoiseMixing};
use crate::DataError;
use crate::frontend::{MfccWork, SAMPLES, scale_of};
use crate::speech::Speech;
use crate::stream::Draw;

/// Buffers of one thread.
pub(super) struct Scratch {
    work: MfccWork<f32>,
    wave: Vec<f32>,
    features: Vec<f32>,
}

impl Scratch {
    /// Buffers for up to `clips` clips at a time.
    pub(super) fn new(speech: &Speech, clips: usize) -> Self {
        Scratch {
            work: speech.mfcc.work(),
            wave: vec![0.0; clips * SAMPLES],
            features: vec![0.0; clips * speech.front_end.values(speech.mfcc.parameters())],
        }
    }
}

/// Shifts the waveform of each clip (with the stream its draws come from), mixes noise in and computes the codes anew: scale,
/// shift, add noise, clip to ±1, features.
pub(super) fn vary_waveforms<'a>(
    clips: impl ExactSizeIterator<Item = (&'a [i16], &'a mut ChaCha8Rng)>,
    speech: &Speech,
    augmentation: &Augmentation,
    scratch: &mut Scratch,
    codes: &mut [u8],
) -> Result<(), DataError> {
    let wave = &mut scratch.wave[..clips.len() * SAMPLES];
    for ((clip, rng), wave) in clips.zip(wave.chunks_exact_mut(SAMPLES)) {
        let reach = augmentation.time_shift_ms as usize * SAMPLES / 1000;
        let shift = rng.below(2 * reach + 1) as isize - reach as isize;
        let mix = rng.chance(augmentation.noise_probability);
        let volume = augmentation.noise_volume * rng.unit();
        let recording = speech.noise.get(rng.below(speech.noise.len().max(1)));
        let place = rng.unit();
        let noise = recording.filter(|_| mix && augmentation.mixes_noise()).map(|recording| {
            let start = ((recording.len() - SAMPLES) as f32 * place) as usize;
            (&recording[start..start + SAMPLES], volume / 32_768.0)
        });
        Arch::new().dispatch(Mix { clip, shift, noise, mixing: augmentation.noise_mixing, wave });
    }
    let features = &mut scratch.features[..codes.len()];
    speech.front_end.compute(&speech.mfcc, wave, &mut scratch.work, features)?;
    speech.standardiser.encode(features, codes);
    Ok(())
}

/// Scales the clip, moves it by `shift` samples, and adds noise. A closure in its place would be compiled without the vector
/// unit it is dispatched to.
struct Mix<'a> {
    clip: &'a [i16],
    shift: isize,
    /// A recording as long as the clip, and its gain.
    noise: Option<(&'a [i16], f32)>,
    mixing: NoiseMixing,
    wave: &'a mut [f32],
}

impl NullaryFnOnce for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Mix { clip, shift, noise, mixing, wave } = self;
        let full_scale = match mixing {
            NoiseMixing::MlperfTiny => scale_of(clip),
            NoiseMixing::Published => 32_768.0,
        };
        // Rounded to f32 this product is the quotient: see the test.
        let scale = 1.0 / f64::from(full_scale);
        let distance = shift.unsigned_abs().min(clip.len());
        let (clip, start) = match shift {
            0.. => (&clip[..clip.len() - distance], distance),
            _ => (&clip[distance..], 0),
        };
        let end = start + clip.len();
        let silence = std::iter::repeat(0.0);
        let noise_from = |start: usize| noise.map(|(recording, gain)| (&recording[start..], gain));
        mix(&mut wave[..start], silence.clone(), noise_from(0));
        mix(&mut wave[start..end], clip.iter().map(|&x| scaled(x, scale)), noise_from(start));
        mix(&mut wave[end..], silence, noise_from(end));
        if mixing == NoiseMixing::Published {
            // The front end's own scaling comes after the mixing here.
            let largest = largest(wave);
            if largest > 0.0 {
                wave.iter_mut().for_each(|x| *x /= largest);
            }
        }
    }
}

/// A sample times 1 / full scale, in f64: a third of the time of a division. A quotient of integers below 2^16 is an f32 or at
/// least 2^-41 of itself away from the middle between two, which two roundings of 2^-53 do not cross.
#[inline(always)]
fn scaled(sample: i16, scale: f64) -> f32 {
    (f64::from(sample) * scale) as f32
}

/// Sound, plus noise clipped to ±1 where there is noise.
#[inline(always)]
fn mix(wave: &mut [f32], sound: impl Iterator<Item = f32>, noise: Option<(&[i16], f32)>) {
    match noise {
        Some((noise, gain)) => {
            for ((x, sound), &noise) in wave.iter_mut().zip(sound).zip(noise) {
                *x = (sound + gain * f32::from(noise)).clamp(-1.0, 1.0);
            }
        }
        None => wave.iter_mut().zip(sound).for_each(|(x, sound)| *x = sound),
    }
}

/// The largest value, or 0 when none is above it.
#[inline(always)]
fn largest(wave: &[f32]) -> f32 {
    // Sixteen maxima side by side, because one after the other each waits for the one before.
    let mut largest = [0.0f32; 16];
    for chunk in wave.chunks(16) {
        for (largest, &x) in largest.iter_mut().zip(chunk) {
            *largest = if x > *largest { x } else { *largest };
        }
    }
    largest.into_iter().fold(0.0, f32::max)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_by_a_product_is_division() {
        for full_scale in (1..=32_768u16).step_by(97).chain(32_700..=32_768) {
            let divisor = f32::from(full_scale);
            let scale = 1.0 / f64::from(divisor);
            for sample in i16::MIN..=i16::MAX {
                assert_eq!(scaled(sample, scale), f32::from(sample) / divisor, "{sample} / {divisor}");
            }
        }
    }
}
