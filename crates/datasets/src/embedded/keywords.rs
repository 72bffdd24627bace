//! Embedded spoken words: a small formant synthesiser, its clips taken through the real MFCC front end.
//!
//! Pitch, speed, vocal tract, place in the second, loudness and noise are random and independent of the class; words share
//! their sounds and differ in order, so a linear classifier on the features fails where a small CNN does not.
use ndarray::Array1;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::StandardNormal;
use rand_chacha::ChaCha8Rng;

use super::Sizes;
use super::difficulty::keywords as hard;
use super::phonemes::{OTHERS, Phoneme, WORDS, phoneme};
use crate::frontend::{FrontEnd, SAMPLE_RATE, SAMPLES};
use crate::speech::{Item, Plan, SILENCE, Splits, UNKNOWN, assemble};
use crate::stream::{Draw, Purpose, stream};
use crate::{DataError, Dataset, Origin, Task};

const RATE: f32 = SAMPLE_RATE as f32;
/// Samples between updates of the resonators, 5 ms.
const BLOCK: usize = 80;
/// Blocks over which one sound turns into the next.
const GLIDE: f32 = 6.0;
const CLASS_COUNT: usize = 12;
/// Seconds of each background recording.
const NOISE_SECONDS: usize = 12;

/// Makes the set; clip i is a pure function of (`seed`, i) with label i mod 12, and ids run through train, validation,
/// test.
///
/// # Errors
/// None in practice; those of the front end are passed on.
pub fn keywords(sizes: Sizes, seed: u64) -> Result<Dataset, DataError> {
    let items = |first: usize, n: usize| -> Vec<Item<u64>> {
        (first..first + n)
            .map(|id| Item { source: id as u64, label: (id % CLASS_COUNT) as u8, id: id as u32 })
            .collect()
    };
    let splits = Splits {
        train: items(0, sizes.train),
        validation: items(sizes.train, sizes.validation),
        test: items(sizes.train + sizes.validation, sizes.test),
    };
    let noise = (0..4).map(|kind| recording(seed, kind)).collect();
    let note = format!("Synthetic words made by code (seed {seed}); not Speech Commands.");
    let read = |id: &u64| Ok(clip(seed, *id));
    let plan = Plan {
        name: Task::SyntheticKeywords.to_string(),
        origin: Origin::Embedded,
        note,
        front_end: FrontEnd::Mfcc,
        noise,
        cache: None,
    };
    let mut dataset = assemble(plan, &splits, read)?;
    dataset.classes = WORDS.iter().chain(&["_silence_", "_unknown_"]).map(|&name| name.to_owned()).collect();
    Ok(dataset)
}

/// Sound of one clip, 16-bit.
fn clip(seed: u64, id: u64) -> Vec<i16> {
    let rng = &mut stream(seed, Purpose::Keyword, [0, id]);
    let label = (id % CLASS_COUNT as u64) as u8;
    let ground = coloured(rng, SAMPLES);
    let word = match label {
        SILENCE => None,
        UNKNOWN => Some(OTHERS[rng.below(OTHERS.len())]),
        _ => Some(WORDS[usize::from(label)]),
    };
    let level = rng.range(0.02, 0.6);
    let snr = rng.range(hard::SNR[0], hard::SNR[1]);
    let Some(word) = word else {
        let gain = level * 10f32.powf(-rng.range(0.5, 2.0));
        return to_pcm(ground.iter().map(|x| x * gain));
    };
    let speech = say(word, rng);
    let peak = speech.iter().fold(1e-9f32, |peak, x| peak.max(x.abs()));
    let power = speech.iter().map(|x| x * x).sum::<f32>()
        / speech.iter().filter(|x| **x != 0.0).count().max(1) as f32;
    // The ground has unit power.
    let noise_gain = power.sqrt() * 10f32.powf(-snr / 20.0);
    let gain = level / peak;
    to_pcm(speech.iter().zip(&ground).map(|(x, noise)| gain * (x + noise_gain * noise)))
}

fn to_pcm(samples: impl Iterator<Item = f32>) -> Vec<i16> {
    samples.map(|x| (x * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// Noise of unit power whose spectrum falls by a random slope: white through a one-pole filter, mixed.
fn coloured(rng: &mut ChaCha8Rng, samples: usize) -> Array1<f32> {
    let pole = rng.range(0.0, 0.97);
    let mut noise = Array1::<f32>::random_using(samples, StandardNormal, rng);
    let mut memory = 0.0;
    for x in &mut noise {
        memory = pole * memory + (1.0 - pole * pole).sqrt() * *x;
        *x = memory;
    }
    noise
}

/// A background recording: coloured noise whose loudness drifts; the last kind also hums.
fn recording(seed: u64, kind: u64) -> Vec<i16> {
    let rng = &mut stream(seed, Purpose::Noise, [0, kind]);
    let noise = coloured(rng, NOISE_SECONDS * SAMPLES);
    let (hum, drift) = (rng.range(90.0, 130.0) / RATE, rng.range(0.2, 0.9) / RATE);
    let turn = std::f32::consts::TAU;
    to_pcm(noise.iter().enumerate().map(|(n, x)| {
        let level = 0.12 * (1.0 + 0.6 * (turn * drift * n as f32).sin());
        let tone = if kind == 3 { 0.2 * (turn * (hum * n as f32).fract()).sin() } else { 0.0 };
        level * x + tone
    }))
}

/// The state the synthesiser glides between: one per 5 ms.
fn track(word: &str, rng: &mut ChaCha8Rng) -> Vec<Phoneme> {
    let speed = rng.range(hard::SPEED[0], hard::SPEED[1]);
    let tract = rng.range(hard::TRACT[0], hard::TRACT[1]);
    let mut track: Vec<Phoneme> = Vec::new();
    for letter in word.chars() {
        let mut sound = phoneme(letter);
        for formant in &mut sound.formants {
            *formant = (*formant * tract * hard::FORMANT_JITTER.powf(rng.range(-1.0, 1.0))).min(RATE * 0.45);
        }
        let milliseconds = sound.duration * speed * hard::DURATION_JITTER.powf(rng.range(-1.0, 1.0));
        let blocks = ((milliseconds / 5.0) as usize).max(2);
        let before = track.last().copied().unwrap_or(Phoneme { loudness: 0.0, ..sound });
        track.extend((0..blocks).map(|b| glide(&before, &sound, ((b + 1) as f32 / GLIDE).min(1.0))));
    }
    if let Some(&last) = track.last() {
        let end = Phoneme { loudness: 0.0, ..last };
        track.extend((1..=8).map(|b| glide(&last, &end, b as f32 / 8.0)));
    }
    track.truncate(SAMPLES / BLOCK);
    track
}

fn glide(from: &Phoneme, to: &Phoneme, share: f32) -> Phoneme {
    let mix = |a: f32, b: f32| a + share * (b - a);
    Phoneme {
        formants: std::array::from_fn(|k| mix(from.formants[k], to.formants[k])),
        bandwidths: std::array::from_fn(|k| mix(from.bandwidths[k], to.bandwidths[k])),
        voice: mix(from.voice, to.voice),
        loudness: mix(from.loudness, to.loudness),
        duration: to.duration,
    }
}

/// One second holding the word at a random place: pulses or breath through three parallel resonators.
fn say(word: &str, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let track = track(word, rng);
    let start = rng.below(SAMPLES - track.len() * BLOCK + 1);
    let pitch = rng.range(hard::PITCH[0], hard::PITCH[1]);
    let slope = rng.range(hard::PITCH_SLOPE[0], hard::PITCH_SLOPE[1]);
    let breathiness = rng.range(0.02, 0.12);

    let mut out = vec![0.0f32; SAMPLES];
    let mut phase = 0.0f32;
    let mut memory = [[0.0f32; 2]; 3];
    let blocks = track.len().max(1) as f32;
    for (b, sound) in track.iter().enumerate() {
        let step = pitch * slope.powf(b as f32 / blocks) / RATE;
        // Two-pole resonators (Klatt 1980) of unit gain at their centre, weaker upwards as a voice is.
        let filters: [[f32; 3]; 3] = std::array::from_fn(|k| {
            let radius = (-std::f32::consts::PI * sound.bandwidths[k] / RATE).exp();
            let cosine = (std::f32::consts::TAU * sound.formants[k] / RATE).cos();
            let weight = (1.0 - radius) * (1.0 - 0.25 * k as f32 * sound.voice);
            [weight, 2.0 * radius * cosine, -radius * radius]
        });
        for y in &mut out[start + b * BLOCK..][..BLOCK] {
            phase += step;
            let pulse = if phase >= 1.0 {
                phase -= 1.0;
                // One pulse a period, as strong as the noise it replaces.
                (1.0 / step).sqrt()
            } else {
                0.0
            };
            let noise = (rng.unit() - 0.5) * 3.4;
            let voice = sound.voice * (1.0 - breathiness);
            let excitation = sound.loudness * (voice * pulse + (1.0 - voice) * noise);
            let mut sum = 0.0;
            for (state, [gain, a, b]) in memory.iter_mut().zip(filters) {
                let next = gain * excitation + a * state[0] + b * state[1];
                *state = [next, state[0]];
                sum += next;
            }
            *y = sum;
        }
    }
    out
}
