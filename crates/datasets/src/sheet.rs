//! A picture of the data: one row per class, a few samples in each, as PNG.
use crate::frontend::{Mfcc, Parameters, normalise};
use crate::{DataError, Dataset, Part, Split};

/// Pixels between samples.
const GAP: usize = 2;

/// Draws a sheet of `columns` samples of each class (the first ones of the split) as a PNG file's bytes: images enlarged twice,
/// features as time from left to right and coefficients from bottom to top, blue below and red above the mean.
///
/// # Errors
/// [`DataError::Request`] when `columns` is 0 or above 200, or the samples have neither one nor three channels.
pub fn sheet(data: &Dataset, part: Part, columns: usize) -> Result<Vec<u8>, DataError> {
    let [h, w, c] = data.shape;
    let split = data.split(part);
    let sample = |i: usize| &split.codes[i * data.sample_len()..][..data.sample_len()];
    match c {
        3 => tiled(data, split, columns, [h, w], [2, 2], |i, tile| {
            for (pixel, colour) in tile.iter_mut().zip(sample(i).chunks_exact(3)) {
                pixel.copy_from_slice(colour);
            }
        }),
        // Features are stored frame by frame; on paper time runs to the right.
        1 => tiled(data, split, columns, [w, h], [4, 2], |i, tile| {
            for (row, pixels) in tile.chunks_exact_mut(h).enumerate() {
                for (frame, pixel) in pixels.iter_mut().enumerate() {
                    *pixel = diverging(sample(i)[frame * w + (w - 1 - row)], data.grid.zero_point);
                }
            }
        }),
        _ => Err(DataError::request("sheet", format!("samples of {c} channels; 1 or 3 expected"))),
    }
}

/// Places the first `columns` samples of each class as tiles of `[height, width]` pixels, each enlarged by `[down, across]`.
fn tiled(
    data: &Dataset,
    split: &Split,
    columns: usize,
    [tile_h, tile_w]: [usize; 2],
    [zoom_y, zoom_x]: [usize; 2],
    mut draw: impl FnMut(usize, &mut [[u8; 3]]),
) -> Result<Vec<u8>, DataError> {
    if !(1..=200).contains(&columns) {
        return Err(DataError::request("sheet", format!("{columns} columns; 1 to 200 expected")));
    }
    let (cell_h, cell_w) = (tile_h * zoom_y + GAP, tile_w * zoom_x + GAP);
    let (height, width) = (data.classes.len() * cell_h + GAP, columns * cell_w + GAP);
    let mut pixels = vec![255u8; height * width * 3];
    let mut tile = vec![[0u8; 3]; tile_h * tile_w];
    for class in 0..data.classes.len() {
        let members = split.labels.iter().enumerate().filter(|(_, label)| usize::from(**label) == class);
        for (column, (i, _)) in members.take(columns).enumerate() {
            draw(i, &mut tile);
            for y in 0..cell_h - GAP {
                for x in 0..cell_w - GAP {
                    let at = (class * cell_h + GAP + y) * width + column * cell_w + GAP + x;
                    pixels[at * 3..at * 3 + 3].copy_from_slice(&tile[y / zoom_y * tile_w + x / zoom_x]);
                }
            }
        }
    }
    encode(&pixels, width, height).map_err(|e| DataError::request("sheet", e.to_string()))
}

/// As [`sheet`] for the sound of training clips: log-mel energies, time from left to right and frequency from bottom to top, each
/// clip from black at its faintest (at most nine e-folds below its loudest) to white at its loudest.
///
/// # Errors
/// As [`sheet`], and when the task keeps no sound.
pub fn spectrogram_sheet(data: &Dataset, columns: usize) -> Result<Vec<u8>, DataError> {
    let Some(speech) = &data.speech else {
        return Err(DataError::request("sheet", format!("{} has no sound", data.name)));
    };
    let mfcc = Mfcc::<f32>::new();
    let Parameters { samples, mel_bins, .. } = *mfcc.parameters();
    let frames = mfcc.parameters().frames();
    let (mut work, mut wave) = (mfcc.work(), vec![0.0; samples]);
    let mut failure = None;
    let png = tiled(data, &data.train, columns, [mel_bins, frames], [2, 2], |i, tile| {
        let energies = normalise(speech.wave(i), &mut wave).and_then(|()| mfcc.log_mel(&wave, &mut work));
        match energies {
            Ok(energies) => {
                let loudest = energies.fold(f32::MIN, |a, &b| a.max(b));
                let faintest = energies.fold(f32::MAX, |a, &b| a.min(b)).max(loudest - 9.0);
                for (row, pixels) in tile.chunks_exact_mut(frames).enumerate() {
                    for (frame, pixel) in pixels.iter_mut().enumerate() {
                        let x = energies[[frame, mel_bins - 1 - row]];
                        let level = (x - faintest) / (loudest - faintest).max(f32::MIN_POSITIVE);
                        *pixel = [(255.0 * level.clamp(0.0, 1.0)) as u8; 3];
                    }
                }
            }
            Err(error) => failure = Some(error),
        }
    });
    failure.map_or(png, Err)
}

/// White at the mean, full colour at three standard deviations of the feature grid.
fn diverging(code: u8, middle: u8) -> [u8; 3] {
    let x = (i32::from(code) - i32::from(middle)) * 255 / 48;
    let faded = (255 - x.abs().min(255)) as u8;
    if x < 0 { [faded, faded, 255] } else { [255, faded, faded] }
}

fn encode(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Sizes, keywords, shapes};

    #[test]
    fn sheets_decode_to_their_size_and_content() {
        let sizes = Sizes { train: 24, validation: 0, test: 0 };
        for data in [shapes(sizes, 0), keywords(sizes, 0).unwrap()] {
            let bytes = sheet(&data, Part::Train, 2).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            if data.speech.is_none() {
                assert_eq!((info.width, info.height), (2 * 66 + 2, 10 * 66 + 2));
                let first = (info.width as usize * GAP + GAP) * 3;
                assert_eq!(pixels[first..first + 3], data.train.codes[..3]);
            } else {
                assert_eq!((info.width, info.height), (2 * 100 + 2, 12 * 42 + 2));
                let spectrograms = spectrogram_sheet(&data, 2).unwrap();
                let reader = png::Decoder::new(std::io::Cursor::new(spectrograms)).read_info().unwrap();
                assert_eq!((reader.info().width, reader.info().height), (2 * 100 + 2, 12 * 82 + 2));
            }
            assert_eq!(spectrogram_sheet(&data, 2).is_ok(), data.speech.is_some());
            assert!(sheet(&data, Part::Test, 1).is_ok());
            assert!(sheet(&data, Part::Train, 0).is_err());
        }
    }
}
