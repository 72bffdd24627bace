//! The recipe form of augmentation and the batches it makes: each sample a pure function of (seed, epoch, sample id).
mod audio;
mod fill;
mod image;

use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset};

/// How training samples are varied. The default varies nothing; each field is off at zero or false.
///
/// Images: flip, then pad and crop, then rotation and shift. Audio: time shift and background noise on the 16-bit waveform,
/// whose features are then computed anew, and masks on the features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Images: pixels of zeros padded on every side before a crop of the original size at a uniform place.
    pub pad_crop: u32,
    /// Images: mirror left and right with probability one half.
    pub horizontal_flip: bool,
    /// Images: rotation about the centre, uniform in ±this many degrees; bilinear, edges repeated.
    pub rotation_degrees: f32,
    /// Images: shift in each direction, uniform in ±this fraction of the side; bilinear, edges repeated.
    pub shift: f32,
    /// Audio: shift of the waveform, uniform in ±this many milliseconds; zeros enter.
    pub time_shift_ms: u32,
    /// Audio: probability of mixing in a random second of a background recording.
    pub noise_probability: f32,
    /// Audio: loudest volume of that noise, uniform from 0, relative to full scale.
    pub noise_volume: f32,
    /// Audio: how the clip is scaled before noise is added to it.
    #[serde(skip_serializing_if = "NoiseMixing::is_default")]
    pub noise_mixing: NoiseMixing,
    /// Audio: number of masks over frames (SpecAugment); masked values take the training mean.
    pub time_masks: u32,
    /// Audio: widest mask over frames, uniform from 0.
    pub time_mask_frames: u32,
    /// Audio: number of masks over cepstral coefficients.
    pub coefficient_masks: u32,
    /// Audio: widest mask over coefficients, uniform from 0.
    pub coefficient_mask_width: u32,
}

/// What the volume of background noise is relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseMixing {
    /// As MLPerf Tiny: the clip is divided by its largest sample first, so quiet clips get less noise than they would in life.
    #[default]
    MlperfTiny,
    /// As published (Warden 2018): the clip as it was recorded, in units of full scale; what comes out is then divided by its
    /// largest sample, as the front end wants it.
    Published,
}

impl NoiseMixing {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Augmentation {
    /// No augmentation.
    pub const NONE: Augmentation = Augmentation {
        pad_crop: 0,
        horizontal_flip: false,
        rotation_degrees: 0.0,
        shift: 0.0,
        time_shift_ms: 0,
        noise_probability: 0.0,
        noise_volume: 0.0,
        noise_mixing: NoiseMixing::MlperfTiny,
        time_masks: 0,
        time_mask_frames: 0,
        coefficient_masks: 0,
        coefficient_mask_width: 0,
    };

    /// The usual for CIFAR-10: pad 4, crop, flip.
    pub const CIFAR: Augmentation = Augmentation { pad_crop: 4, horizontal_flip: true, ..Self::NONE };

    /// MLPerf Tiny's image classification reference: rotation 15°, shift 0.1, flip.
    pub const MLPERF_IMAGE: Augmentation =
        Augmentation { rotation_degrees: 15.0, shift: 0.1, horizontal_flip: true, ..Self::NONE };

    /// Speech: ±100 ms, and noise as MLPerf Tiny means it (probability 0.8, volume up to 0.1).
    pub const SPEECH: Augmentation =
        Augmentation { time_shift_ms: 100, noise_probability: 0.8, noise_volume: 0.1, ..Self::NONE };

    /// Speech as MLPerf Tiny's reference varies it: its noise alone (the reference has a shift of 100 ms among its settings, and
    /// does not use it).
    pub const MLPERF_SPEECH: Augmentation =
        Augmentation { noise_probability: 0.8, noise_volume: 0.1, ..Self::NONE };

    /// Speech as published (Warden 2018, and TensorFlow's `speech_commands` example with its defaults): ±100 ms, noise in
    /// four clips of five at up to a tenth of full scale, the clip as loud as it was recorded.
    pub const PUBLISHED_SPEECH: Augmentation =
        Augmentation { noise_mixing: NoiseMixing::Published, ..Self::SPEECH };

    /// Whether nothing is varied.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    fn varies_image(&self) -> bool {
        self.pad_crop > 0 || self.horizontal_flip || self.varies_geometry()
    }

    fn varies_geometry(&self) -> bool {
        self.rotation_degrees != 0.0 || self.shift != 0.0
    }

    fn mixes_noise(&self) -> bool {
        self.noise_probability > 0.0 && self.noise_volume > 0.0
    }

    fn varies_waveform(&self) -> bool {
        self.time_shift_ms > 0 || self.mixes_noise()
    }

    fn varies_features(&self) -> bool {
        self.time_masks > 0 || self.coefficient_masks > 0
    }

    /// Checks that the augmentation suits the data: ranges, image fields on images only, audio fields on audio only, noise
    /// only where there are recordings.
    ///
    /// # Errors
    /// [`DataError::Request`] naming the field.
    pub fn check(&self, data: &Dataset) -> Result<(), DataError> {
        let bad = |reason: String| Err(DataError::request("augmentation", reason));
        for (name, value, limit) in [
            ("rotation_degrees", self.rotation_degrees, 180.0),
            ("shift", self.shift, 1.0),
            ("noise_probability", self.noise_probability, 1.0),
            ("noise_volume", self.noise_volume, 1.0),
        ] {
            if !(0.0..=limit).contains(&value) {
                return bad(format!("{name} = {value}, 0 to {limit} expected"));
            }
        }
        if self.time_shift_ms > 1000 || self.pad_crop as usize > data.shape[0].max(data.shape[1]) {
            return bad("time_shift_ms above 1000, or pad_crop above the image's side".to_owned());
        }
        match &data.speech {
            Some(_) if self.varies_image() => {
                bad(format!("image augmentation on the spoken task {}", data.name))
            }
            Some(speech) if self.mixes_noise() && speech.noise.is_empty() => {
                bad(format!("noise asked for, but {} came without background recordings", data.name))
            }
            None if self.varies_waveform() || self.varies_features() => {
                bad(format!("audio augmentation on {}, which has no waveforms", data.name))
            }
            _ => Ok(()),
        }
    }
}
