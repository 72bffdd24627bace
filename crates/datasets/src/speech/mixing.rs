//! Which clips make up the 12-class task beside the ten words: the two published recipes for silence and unknown words.
use serde::{Deserialize, Serialize};

use super::{SILENCE, UNKNOWN};
use crate::stream::{Purpose, shuffle, stream};

/// How silence and unknown words enter training and validation. The test split is the separate test archive either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// As TensorFlow Datasets 0.0.2 makes `speech_commands`, on which MLPerf Tiny trains: *every* clip of every other word is
    /// unknown, and silence is windows of the background recordings, one second long and starting every half second; those of
    /// `running_tap` are the validation silence. 85,511 / 10,102 / 4,890 clips.
    #[default]
    MlperfTiny,
    /// As published (Warden 2018, and TensorFlow's `speech_commands` example with its defaults): in each split, unknown clips and
    /// silent clips each number a tenth of the ten words' clips, rounded up. Unknown clips are drawn from the other words;
    /// a silent clip is one second of zeros, into which augmentation mixes background noise as into any other clip. The
    /// draw is keyed by this crate's streams, not Python's `random.seed(59185)`.
    Published,
}

/// A tenth, rounded up.
pub(super) fn share(words: usize) -> usize {
    words.div_ceil(10)
}

impl Mixing {
    /// Which of `labels` (clips of one split, words and unknown, in order) are kept, and how many silent clips are added.
    /// `split` keys the draw.
    pub(super) fn choose(self, labels: &[u8], split: u64) -> (Vec<bool>, usize) {
        let mut kept = vec![true; labels.len()];
        match self {
            Mixing::MlperfTiny => (kept, 0),
            Mixing::Published => {
                let mut unknown: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == UNKNOWN).collect();
                let wanted = share(labels.len() - unknown.len());
                shuffle(&mut unknown, &mut stream(0, Purpose::UnknownWords, [split, 0]));
                for &i in unknown.iter().skip(wanted) {
                    kept[i] = false;
                }
                (kept, wanted)
            }
        }
    }

    /// In words, for the note.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Mixing::MlperfTiny => {
                "as TensorFlow Datasets and MLPerf Tiny: every other word is `_unknown_`, silence is cut from the background \
                 recordings"
            }
            Mixing::Published => {
                "as published (Warden 2018): `_unknown_` and `_silence_` are a tenth of the ten words each, silence is zeros \
                 with noise mixed in by augmentation"
            }
        }
    }
}

/// A split's counts of words, silence and unknown.
pub(super) fn census(labels: impl Iterator<Item = u8>) -> [usize; 3] {
    labels.fold([0; 3], |mut counts, label| {
        counts[match label {
            SILENCE => 1,
            UNKNOWN => 2,
            _ => 0,
        }] += 1;
        counts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_shares_are_those_of_the_published_test_set() {
        // The separate test archive, made by the published recipe: 4,074 words, 408 silent and 408 unknown clips.
        assert_eq!(share(4_074), 408);
        let labels: Vec<u8> = (0..500).map(|i| if i % 5 < 2 { UNKNOWN } else { (i % 10) as u8 }).collect();
        let (kept, silent) = Mixing::Published.choose(&labels, 0);
        let left = labels.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(label, _)| *label);
        assert_eq!((census(left), silent), ([300, 0, 30], 30));
        assert_eq!(Mixing::Published.choose(&labels, 0), (kept.clone(), silent));
        assert_ne!(Mixing::Published.choose(&labels, 1).0, kept);
        assert_eq!(Mixing::MlperfTiny.choose(&labels, 0), (vec![true; 500], 0));
        // Fewer unknown words than a tenth: all of them stay.
        assert_eq!(Mixing::Published.choose(&[0, 1, UNKNOWN], 0), (vec![true; 3], 1));
        assert_eq!(Mixing::Published.choose(&[], 0), (vec![], 0));
    }
}
