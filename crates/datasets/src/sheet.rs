//! A picture of the data: one row per class, a few samples in each, as PNG.
use crate::{DataError, Dataset, Part};

/// Pixels between samples.
const GAP: usize = 2;

/// Draws a sheet of `columns` samples of each class (the first ones of the split) as a PNG file's bytes: images enlarged twice,
/// features as time from left to right and coefficients from bottom to top, blue below and red above the mean.
///
/// # Errors
/// [`DataError::Request`] when `columns` is 0 or above 200, or the samples have neither one nor three channels.
pub fn sheet(data: &Dataset, part: Part, columns: usize) -> Result<Vec<u8>, DataError> {
    let [h, w, c] = data.shape;
    if columns == 0 || columns > 200 || (c != 1 && c != 3) {
        let reason = format!("{columns} columns of samples with {c} channels; 1 to 200 and 1 or 3 expected");
        return Err(DataError::request("sheet", reason));
    }
    let features = c == 1;
    // Features are stored frame by frame; on paper time runs to the right.
    let (tile_h, tile_w, zoom_y, zoom_x) = if features { (w, h, 4, 2) } else { (h, w, 2, 2) };
    let (cell_h, cell_w) = (tile_h * zoom_y + GAP, tile_w * zoom_x + GAP);
    let (height, width) = (data.classes.len() * cell_h + GAP, columns * cell_w + GAP);
    let mut pixels = vec![255u8; height * width * 3];
    let split = data.split(part);
    for class in 0..data.classes.len() {
        let members = split.labels.iter().enumerate().filter(|(_, label)| usize::from(**label) == class);
        for (column, (i, _)) in members.take(columns).enumerate() {
            let sample = &split.codes[i * data.sample_len()..][..data.sample_len()];
            for y in 0..cell_h - GAP {
                for x in 0..cell_w - GAP {
                    let (row, col) = (y / zoom_y, x / zoom_x);
                    let colour = if features {
                        diverging(sample[col * w + (w - 1 - row)], data.grid.zero_point)
                    } else {
                        let at = (row * w + col) * 3;
                        [sample[at], sample[at + 1], sample[at + 2]]
                    };
                    let at = (class * cell_h + GAP + y) * width + column * cell_w + GAP + x;
                    pixels[at * 3..at * 3 + 3].copy_from_slice(&colour);
                }
            }
        }
    }
    encode(&pixels, width, height).map_err(|e| DataError::request("sheet", e.to_string()))
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
            }
            assert!(sheet(&data, Part::Test, 1).is_ok());
            assert!(sheet(&data, Part::Train, 0).is_err());
        }
    }
}
