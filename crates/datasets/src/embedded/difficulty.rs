//! Every constant that makes the embedded sets easier or harder, in one place.
//!
//! Measured at the default sizes and seed 0, test accuracy: softmax regression 53 % (shapes) and 51 % (keywords), checked by
//! `tests/difficulty.rs`; a float CNN of three 3×3 convolutions (16, 32, 64 filters) with batch normalisation and a dense layer,
//! Adam, six epochs, no augmentation, 97 % and 96 %, checked to pass 85 % by the tests of `experiments`.

/// Images.
pub(super) mod shapes {
    /// Radius of the shape, pixels.
    pub(crate) const RADIUS: [f32; 2] = [9.0, 12.5];
    /// Rotation either way, degrees.
    pub(crate) const ROTATION: f32 = 20.0;
    /// Stretch of one axis against the other, as a factor either way.
    pub(crate) const STRETCH: f32 = 1.15;
    /// How much brighter the shape is than the background at least, in the sum of RGB, of 765.
    pub(crate) const CONTRAST: f32 = 140.0;
    /// Amplitude of the texture of shape and background, of 255.
    pub(crate) const TEXTURE: [f32; 2] = [0.0, 24.0];
    /// Most pieces of clutter.
    pub(crate) const CLUTTER: usize = 3;
    /// Length of a piece of clutter, pixels.
    pub(crate) const CLUTTER_LENGTH: [f32; 2] = [2.0, 6.0];
    /// Standard deviation of the pixel noise, of 255.
    pub(crate) const NOISE: [f32; 2] = [2.0, 12.0];
}

/// Spoken words.
pub(super) mod keywords {
    /// Factor on all durations.
    pub(crate) const SPEED: [f32; 2] = [0.5, 0.95];
    /// Factor on all formants: the length of the speaker's vocal tract.
    pub(crate) const TRACT: [f32; 2] = [0.84, 1.19];
    /// Pitch at the start of the word, Hz.
    pub(crate) const PITCH: [f32; 2] = [90.0, 240.0];
    /// Factor on the pitch over the word.
    pub(crate) const PITCH_SLOPE: [f32; 2] = [0.7, 1.25];
    /// Random factor on each formant of each sound, either way.
    pub(crate) const FORMANT_JITTER: f32 = 1.07;
    /// Random factor on each duration, either way.
    pub(crate) const DURATION_JITTER: f32 = 1.25;
    /// Signal-to-noise ratio, dB.
    pub(crate) const SNR: [f32; 2] = [4.0, 30.0];
}
