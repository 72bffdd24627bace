//! The strip of adversarial examples: clean, adversarial, and their difference enlarged.
use std::fmt::Write;

use super::artefact::Examples;
use super::html::escape;
use super::png::data_uri;
use crate::pipeline::Example;

/// Factor by which the difference is shown.
const GAIN: f32 = 20.0;
/// Examples in a strip.
const SHOWN: usize = 8;

/// One figure per sample that was classified correctly, those whose prediction changed first.
pub(super) fn figures(examples: &Examples) -> String {
    // A sample that was wrong from the start was never attacked and has nothing to show.
    let attacked = |e: &&Example| usable(e, examples.shape) && e.predicted == e.label;
    let mut items: Vec<&Example> = examples.items.iter().filter(attacked).collect();
    items.sort_by_key(|e| e.adversarial == e.predicted);
    let mut out = String::new();
    for example in items.into_iter().take(SHOWN) {
        let adversarial: Vec<f32> = example.adversarial_codes.clone();
        let clean: Vec<f32> = example.clean_codes.iter().map(|c| f32::from(*c)).collect();
        let difference: Vec<f32> =
            clean.iter().zip(&adversarial).map(|(c, a)| 128.0 + GAIN * (a - c)).collect();
        let name = |class: u8| {
            examples.classes.get(usize::from(class)).cloned().unwrap_or_else(|| format!("class {class}"))
        };
        let _ = write!(out, "<figure class=\"example\">");
        for (title, values) in
            [("clean", &clean), ("adversarial", &adversarial), ("difference × 20", &difference)]
        {
            if let Some(uri) = picture(values, examples.shape) {
                let _ = write!(out, "<img alt=\"{title}\" title=\"{title}\" src=\"{uri}\">");
            }
        }
        let fooled = if example.adversarial == example.predicted { "held" } else { "fooled" };
        let _ = write!(
            out,
            "<figcaption><span>sample {}, is {}</span><b class=\"{fooled}\">{} → {}</b><span>eps {}</span></figcaption></figure>",
            example.id,
            escape(&name(example.label)),
            escape(&name(example.predicted)),
            escape(&name(example.adversarial)),
            escape(&example.eps)
        );
    }
    out
}

fn usable(example: &Example, [h, w, c]: [usize; 3]) -> bool {
    let length = h * w * c;
    length > 0 && example.clean_codes.len() == length && example.adversarial_codes.len() == length
}

/// Values on the scale of codes as a picture: three channels as colours, one channel as a map with time to the right.
fn picture(values: &[f32], [h, w, c]: [usize; 3]) -> Option<String> {
    let byte = |v: f32| v.round().clamp(0.0, 255.0) as u8;
    if c == 3 {
        let rgb: Vec<u8> = values.iter().map(|v| byte(*v)).collect();
        return data_uri(w, h, &rgb);
    }
    // Speech: h frames of w coefficients. Spread the middle of the range, where standardised features lie.
    let mut rgb = Vec::with_capacity(3 * h * w);
    for coefficient in (0..w).rev() {
        for frame in 0..h {
            let value = values.get((frame * w + coefficient) * c)?;
            rgb.extend(heat((value - 128.0) / 96.0 + 0.5));
        }
    }
    data_uri(h, w, &rgb)
}

/// Dark blue through teal to yellow for 0 to 1.
fn heat(t: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 5] = [
        [68.0, 1.0, 84.0],
        [59.0, 82.0, 139.0],
        [33.0, 145.0, 140.0],
        [94.0, 201.0, 98.0],
        [253.0, 231.0, 37.0],
    ];
    let at = t.clamp(0.0, 1.0) * 4.0;
    let low = (at as usize).min(3);
    let share = at - low as f32;
    std::array::from_fn(|i| (STOPS[low][i] + share * (STOPS[low + 1][i] - STOPS[low][i])) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(length: usize, adversarial: u8) -> Example {
        Example {
            id: 4,
            eps: "2/255".into(),
            label: 0,
            predicted: 0,
            adversarial,
            clean_codes: vec![100; length],
            adversarial_codes: vec![102.0; length],
        }
    }

    #[test]
    fn examples_that_changed_the_prediction_come_first_and_damaged_ones_are_left_out() {
        let classes = vec!["cat".to_owned(), "<dog>".to_owned()];
        let wrong = Example { predicted: 1, ..example(12, 1) };
        let items = vec![example(12, 0), example(12, 1), example(5, 1), wrong];
        let text = figures(&Examples { attack: "pgd".into(), shape: [2, 2, 3], classes, items });
        assert_eq!(text.matches("<figure").count(), 2);
        assert_eq!(text.matches("<img").count(), 6);
        assert!(text.find("cat → &lt;dog&gt;").unwrap() < text.find("cat → cat").unwrap());
    }

    #[test]
    fn one_channel_becomes_a_map() {
        assert!(picture(&[128.0; 490], [49, 10, 1]).is_some());
        assert_eq!((heat(0.0), heat(2.0)), ([68, 1, 84], [253, 231, 37]));
    }
}
