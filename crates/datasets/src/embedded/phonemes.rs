//! The sounds and words of the embedded keywords.

/// A sound: three resonances, how much of it is voice (the rest is breath), how loud it is, how long it lasts.
#[derive(Clone, Copy)]
pub(super) struct Phoneme {
    /// Resonances, Hz.
    pub(super) formants: [f32; 3],
    /// Bandwidths of the resonances, Hz.
    pub(super) bandwidths: [f32; 3],
    /// Share of voice, 0 to 1.
    pub(super) voice: f32,
    /// Amplitude of the excitation.
    pub(super) loudness: f32,
    /// Duration, ms.
    pub(super) duration: f32,
}

const fn vowel(f1: f32, f2: f32, f3: f32) -> Phoneme {
    Phoneme {
        formants: [f1, f2, f3],
        bandwidths: [80.0, 110.0, 160.0],
        voice: 1.0,
        loudness: 1.0,
        duration: 120.0,
    }
}

const fn breath(centre: f32, bandwidth: f32, loudness: f32, duration: f32) -> Phoneme {
    Phoneme {
        formants: [centre * 0.8, centre, centre * 1.2],
        bandwidths: [bandwidth, bandwidth, bandwidth],
        voice: 0.0,
        loudness,
        duration,
    }
}

/// The inventory; vowels after Peterson and Barney (1952), men's means.
pub(super) const PHONEMES: [(char, Phoneme); 12] = [
    ('a', vowel(730.0, 1090.0, 2440.0)),
    ('e', vowel(530.0, 1840.0, 2480.0)),
    ('i', vowel(270.0, 2290.0, 3010.0)),
    ('o', vowel(570.0, 840.0, 2410.0)),
    ('u', vowel(300.0, 870.0, 2240.0)),
    ('r', vowel(490.0, 1350.0, 1690.0)),
    (
        'n',
        Phoneme {
            formants: [250.0, 1250.0, 2200.0],
            bandwidths: [90.0, 300.0, 400.0],
            voice: 1.0,
            loudness: 0.5,
            duration: 90.0,
        },
    ),
    (
        'l',
        Phoneme {
            formants: [360.0, 1300.0, 2700.0],
            bandwidths: [90.0, 150.0, 200.0],
            voice: 1.0,
            loudness: 0.6,
            duration: 80.0,
        },
    ),
    ('s', breath(3500.0, 500.0, 0.5, 110.0)),
    ('x', breath(2300.0, 400.0, 0.6, 110.0)),
    ('t', breath(3000.0, 1500.0, 0.9, 30.0)),
    (
        '.',
        Phoneme {
            formants: [500.0, 1500.0, 2500.0],
            bandwidths: [200.0, 200.0, 200.0],
            voice: 0.0,
            loudness: 0.0,
            duration: 60.0,
        },
    ),
];

/// The ten words, by label: three groups of the same sounds in different orders, so that no sound alone gives a word away.
pub(super) const WORDS: [&str; 10] =
    ["aiu", "iua", "uai", "iau", "sen", "nes", "ens", "o.ta", "a.to", "ta.o"];

/// Words of the class `_unknown_`; a few are further orders of those sounds.
pub(super) const OTHERS: [&str; 20] = [
    "aui", "esn", "ot.a", "lexo", "xole", "run", "nur", "eri", "oli", "i.ta", "xurn", "lole", "nax", "usi",
    "er.t", "ilu", "reso", "ux", "arl", "xa.n",
];

/// The sound of that letter; the words above use no other letters (checked by a test), a stranger would be a gap.
pub(super) fn phoneme(letter: char) -> Phoneme {
    PHONEMES.iter().find(|(known, _)| *known == letter).unwrap_or(&PHONEMES[PHONEMES.len() - 1]).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_spelt_with_known_sounds() {
        let mut words: Vec<&str> = WORDS.iter().chain(&OTHERS).copied().collect();
        for word in &words {
            assert!(word.chars().all(|letter| PHONEMES.iter().any(|(known, _)| *known == letter)), "{word}");
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len() + OTHERS.len());
    }
}
