//! Batches: samples gathered, varied and decoded in parallel, without allocating once every thread is warm.
use std::cell::RefCell;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Augmentation, audio, image};
use crate::frontend::FrontEnd;
use crate::stream::{Purpose, stream};
use crate::{DataError, Dataset, Part};

/// Samples made at a time: enough for the frames of spoken ones to fill the vector lanes.
const GROUP: usize = 4;

/// Buffers of one thread, kept between batches.
#[derive(Default)]
struct Scratch {
    codes: Vec<u8>,
    middle: Vec<u8>,
    streams: Vec<ChaCha8Rng>,
    audio: Option<(FrontEnd, audio::Scratch)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Dataset {
    /// Writes samples as network input: `x` `[indices.len(), h, w, c]` real values on the grid, `y` their labels. `indices`
    /// are positions within the split. Each sample depends on (seed, epoch, its id, augmentation) alone.
    ///
    /// Augmentation of the waveform needs a [`Part::Train`] sample: only those keep their audio.
    ///
    /// # Errors
    /// [`DataError::Request`] on an index out of range, a wrong buffer length or an augmentation that does not suit the data.
    #[expect(clippy::too_many_arguments, reason = "the coordinates of a batch, all needed, none derivable")]
    pub fn fill_batch(
        &self,
        part: Part,
        indices: &[u32],
        epoch: u64,
        seed: u64,
        augmentation: &Augmentation,
        x: &mut [f32],
        y: &mut [u8],
    ) -> Result<(), DataError> {
        let sample_len = self.sample_len();
        self.check_batch(part, indices, augmentation, x.len(), y)?;
        x.par_chunks_mut(GROUP * sample_len).zip(indices.par_chunks(GROUP)).try_for_each(|(x, indices)| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut codes = std::mem::take(&mut scratch.codes);
                codes.resize(x.len(), 0);
                let done = self.group(part, indices, epoch, seed, augmentation, scratch, &mut codes);
                for (x, &code) in x.iter_mut().zip(&codes) {
                    *x = self.grid.decode(code);
                }
                scratch.codes = codes;
                done
            })
        })
    }

    /// As [`fill_batch`](Self::fill_batch), leaving the codes undecoded for integer kernels.
    ///
    /// # Errors
    /// As [`fill_batch`](Self::fill_batch).
    #[expect(clippy::too_many_arguments, reason = "the coordinates of a batch, all needed, none derivable")]
    pub fn fill_codes(
        &self,
        part: Part,
        indices: &[u32],
        epoch: u64,
        seed: u64,
        augmentation: &Augmentation,
        codes: &mut [u8],
        y: &mut [u8],
    ) -> Result<(), DataError> {
        self.check_batch(part, indices, augmentation, codes.len(), y)?;
        let groups = codes.par_chunks_mut(GROUP * self.sample_len()).zip(indices.par_chunks(GROUP));
        groups.try_for_each(|(codes, indices)| {
            SCRATCH.with_borrow_mut(|scratch| {
                self.group(part, indices, epoch, seed, augmentation, scratch, codes)
            })
        })
    }

    /// Checks a request and fills in the labels.
    fn check_batch(
        &self,
        part: Part,
        indices: &[u32],
        augmentation: &Augmentation,
        values: usize,
        y: &mut [u8],
    ) -> Result<(), DataError> {
        augmentation.check(self)?;
        if part != Part::Train && augmentation.varies_waveform() {
            return Err(DataError::request("augmentation", "only training samples keep their waveform"));
        }
        let expected = indices.len() * self.sample_len();
        if values != expected || y.len() != indices.len() {
            let reason =
                format!("{values} values and {} labels, {expected} and {} expected", y.len(), indices.len());
            return Err(DataError::request("batch", reason));
        }
        let labels = &self.split(part).labels;
        for (y, &index) in y.iter_mut().zip(indices) {
            *y = *labels.get(index as usize).ok_or_else(|| {
                DataError::request("batch index", format!("{index}, the split has {} samples", labels.len()))
            })?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the coordinates of samples, all needed, none derivable")]
    fn group(
        &self,
        part: Part,
        indices: &[u32],
        epoch: u64,
        seed: u64,
        augmentation: &Augmentation,
        scratch: &mut Scratch,
        codes: &mut [u8],
    ) -> Result<(), DataError> {
        let split = self.split(part);
        let sample_len = self.sample_len();
        let clean = |index: u32| &split.codes[index as usize * sample_len..][..sample_len];
        let samples = || indices.iter().map(|&index| index as usize);
        if augmentation.is_none() {
            for (codes, &index) in codes.chunks_exact_mut(sample_len).zip(indices) {
                codes.copy_from_slice(clean(index));
            }
            return Ok(());
        }
        let Scratch { middle, streams, audio, .. } = scratch;
        streams.clear();
        streams.extend(samples().map(|i| stream(seed, Purpose::Augmentation, [epoch, split.ids[i].into()])));
        let Some(speech) = &self.speech else {
            middle.resize(sample_len, 0);
            for ((codes, &index), rng) in codes.chunks_exact_mut(sample_len).zip(indices).zip(streams) {
                image::vary(clean(index), self.shape, augmentation, rng, middle, codes);
            }
            return Ok(());
        };
        if augmentation.varies_waveform() {
            // A thread may serve one front end after another.
            if audio.as_ref().is_none_or(|(front_end, _)| *front_end != speech.front_end) {
                *audio = Some((speech.front_end, audio::Scratch::new(speech, GROUP)));
            }
            let Some((_, audio)) = audio else { return Ok(()) };
            let clips = samples().map(|i| speech.wave(i)).zip(streams.iter_mut());
            audio::vary_waveforms(clips, speech, augmentation, audio, codes)?;
        } else {
            for (codes, &index) in codes.chunks_exact_mut(sample_len).zip(indices) {
                codes.copy_from_slice(clean(index));
            }
        }
        for (codes, rng) in codes.chunks_exact_mut(sample_len).zip(streams) {
            audio::mask(codes, self.shape, augmentation, self.grid.zero_point, rng);
        }
        Ok(())
    }
}
