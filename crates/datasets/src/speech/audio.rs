//! WAV and FLAC files to 16-bit samples; anything but 16 kHz mono 16-bit audio of a sane length is refused.
use std::io::{Cursor, Seek};
use std::path::Path;

use crate::DataError;
use crate::error::read_file;
use crate::frontend::{SAMPLE_RATE, SAMPLES};

/// Offset of WAVE's `fmt ` fields in the canonical header, where a wrong rate or channel count is reported.
const WAV_FORMAT_OFFSET: u64 = 20;
/// Offset of FLAC's stream information: after the magic and the block header.
const FLAC_INFO_OFFSET: u64 = 8;

/// Reads a clip of 1 to [`SAMPLES`] samples from a WAV or FLAC file (by extension): 16 kHz, mono, 16-bit.
///
/// # Errors
/// [`DataError::Io`] when unreadable, [`DataError::Corrupt`] when of another format, length or damaged.
pub fn read_clip(path: &Path) -> Result<Vec<i16>, DataError> {
    read_audio(path, SAMPLES)
}

/// As [`read_clip`] with another longest length.
pub(super) fn read_audio(path: &Path, longest: usize) -> Result<Vec<i16>, DataError> {
    // Neither format needs more than 2 bytes a sample; the rest is room for headers and tags.
    let bytes = read_file(path, 2 * longest as u64 + (1 << 16))?;
    parse_audio(path, &bytes, longest)
}

/// As [`read_clip`] from a file's bytes; `path` gives the format and names the file in errors.
pub(crate) fn parse_audio(path: &Path, bytes: &[u8], longest: usize) -> Result<Vec<i16>, DataError> {
    let flac = path.extension().is_some_and(|extension| extension == "flac");
    let samples = if flac { read_flac(path, bytes, longest)? } else { read_wav(path, bytes, longest)? };
    if samples.is_empty() {
        return Err(DataError::corrupt(path, bytes.len() as u64, "no samples"));
    }
    Ok(samples)
}

fn check_format(
    path: &Path,
    offset: u64,
    rate: u32,
    channels: u32,
    bits: u32,
    integer: bool,
) -> Result<(), DataError> {
    if (rate, channels, bits, integer) == (SAMPLE_RATE, 1, 16, true) {
        return Ok(());
    }
    let kind = if integer { "integer" } else { "float" };
    let reason =
        format!("{rate} Hz, {channels} channels, {bits}-bit {kind}; 16000 Hz mono 16-bit integer expected");
    Err(DataError::corrupt(path, offset, reason))
}

fn too_long(path: &Path, offset: u64, longest: usize) -> DataError {
    DataError::corrupt(path, offset, format!("more than {longest} samples"))
}

fn read_wav(path: &Path, bytes: &[u8], longest: usize) -> Result<Vec<i16>, DataError> {
    let mut cursor = Cursor::new(bytes);
    let mut reader = match hound::WavReader::new(&mut cursor) {
        Ok(reader) => reader,
        Err(e) => return Err(DataError::corrupt(path, cursor.position(), e.to_string())),
    };
    let spec = reader.spec();
    let integer = spec.sample_format == hound::SampleFormat::Int;
    check_format(
        path,
        WAV_FORMAT_OFFSET,
        spec.sample_rate,
        spec.channels.into(),
        spec.bits_per_sample.into(),
        integer,
    )?;
    if reader.len() as usize > longest {
        return Err(too_long(path, WAV_FORMAT_OFFSET, longest));
    }
    let mut samples = Vec::with_capacity(reader.len() as usize);
    for sample in reader.samples::<i16>() {
        match sample {
            Ok(sample) => samples.push(sample),
            Err(e) => {
                let at = cursor.stream_position().unwrap_or(bytes.len() as u64);
                return Err(DataError::corrupt(path, at, e.to_string()));
            }
        }
    }
    Ok(samples)
}

fn read_flac(path: &Path, bytes: &[u8], longest: usize) -> Result<Vec<i16>, DataError> {
    let mut cursor = Cursor::new(bytes);
    let mut reader = match claxon::FlacReader::new(&mut cursor) {
        Ok(reader) => reader,
        Err(e) => return Err(DataError::corrupt(path, cursor.position(), e.to_string())),
    };
    let info = reader.streaminfo();
    check_format(path, FLAC_INFO_OFFSET, info.sample_rate, info.channels, info.bits_per_sample, true)?;
    let declared = info.samples.unwrap_or(0);
    if declared > longest as u64 {
        return Err(too_long(path, FLAC_INFO_OFFSET, longest));
    }
    let mut samples = Vec::with_capacity(declared as usize);
    let mut failure = None;
    let mut blocks = reader.blocks();
    let mut buffer = Vec::new();
    loop {
        match blocks.read_next_or_eof(buffer) {
            Ok(Some(block)) => {
                if samples.len() + block.duration() as usize > longest {
                    failure = Some(format!("more than {longest} samples"));
                    break;
                }
                for &sample in block.channel(0) {
                    match i16::try_from(sample) {
                        Ok(sample) => samples.push(sample),
                        Err(_) => failure = Some(format!("sample {sample} in a 16-bit stream")),
                    }
                }
                buffer = block.into_buffer();
            }
            Ok(None) => break,
            Err(e) => {
                failure = Some(e.to_string());
                break;
            }
        }
    }
    let at = cursor.position();
    if let Some(reason) = failure {
        return Err(DataError::corrupt(path, at, reason));
    }
    if declared != 0 && samples.len() as u64 != declared {
        let reason = format!("the stream ends after {} of {declared} samples", samples.len());
        return Err(DataError::corrupt(path, at, reason));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::seeds::flac;

    fn wav(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
    }

    fn corrupt_offset(path: &Path) -> (u64, String) {
        match read_clip(path).unwrap_err() {
            DataError::Corrupt { path: at, offset, reason } => {
                assert_eq!(at, path);
                (offset, reason)
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn wav_round_trips_and_bad_files_are_located() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        let samples: Vec<i16> = (0..SAMPLES as i32).map(|i| (i * 17 % 3000 - 1500) as i16).collect();
        wav(&path, 16_000, 1, &samples);
        assert_eq!(read_clip(&path).unwrap(), samples);
        let good = std::fs::read(&path).unwrap();

        for (rate, channels, n) in [(8_000, 1, 100), (16_000, 2, 100), (16_000, 1, SAMPLES + 1)] {
            wav(&path, rate, channels, &vec![1; n]);
            assert_eq!(corrupt_offset(&path).0, WAV_FORMAT_OFFSET);
        }
        wav(&path, 16_000, 1, &[]);
        assert!(corrupt_offset(&path).1.contains("no samples"));
        std::fs::write(&path, &good[..1000]).unwrap();
        assert_eq!(corrupt_offset(&path).0, 1000);
        for n in [0, 3, 10, 30] {
            std::fs::write(&path, &good[..n]).unwrap();
            corrupt_offset(&path);
        }
        std::fs::write(&path, vec![0xA5; 5000]).unwrap();
        corrupt_offset(&path);
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(corrupt_offset(&path).1.contains("at most"));

        // NaN can only arrive in a float file, and those are refused as a whole.
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        writer.write_sample(f32::NAN).unwrap();
        writer.finalize().unwrap();
        assert!(corrupt_offset(&path).1.contains("float"));
    }

    #[test]
    fn flac_round_trips_and_bad_files_are_located() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.flac");
        let samples: Vec<i16> = (0..4000i32).map(|i| (i * 31 % 2000 - 1000) as i16).collect();
        let good = flac(16_000, 1, 4000, &samples);
        std::fs::write(&path, &good).unwrap();
        assert_eq!(read_clip(&path).unwrap(), samples);

        std::fs::write(&path, flac(8_000, 1, 4000, &samples)).unwrap();
        assert_eq!(corrupt_offset(&path).0, FLAC_INFO_OFFSET);
        std::fs::write(&path, flac(16_000, 2, 4000, &samples)).unwrap();
        assert_eq!(corrupt_offset(&path).0, FLAC_INFO_OFFSET);
        std::fs::write(&path, flac(16_000, 1, 1 << 30, &samples)).unwrap();
        assert!(corrupt_offset(&path).1.contains("more than"));
        std::fs::write(&path, flac(16_000, 1, 5000, &samples)).unwrap();
        assert!(corrupt_offset(&path).1.contains("4000 of 5000"));
        std::fs::write(&path, flac(16_000, 1, 0, &vec![1; SAMPLES + 1])).unwrap();
        assert!(corrupt_offset(&path).1.contains("more than"));
        std::fs::write(&path, &good[..42]).unwrap();
        corrupt_offset(&path);
        for n in [0, 3, 20, 50, 3000] {
            std::fs::write(&path, &good[..n]).unwrap();
            corrupt_offset(&path);
        }
        let mut flipped = good.clone();
        flipped[2000] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        assert!(corrupt_offset(&path).1.contains("CRC"));
    }
}
