//! Adversarial examples as files: 8-bit codes with what is needed to check them again without trusting who made them.
use std::io::Cursor;
use std::path::Path;

use attacks::{Norm, Outcome};
use ndarray::{Array1, Array4, ArrayD, Ix1, Ix4, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter, ReadableElement};
use qnn::{InputGrid, Predictor, argmax};

use crate::error::StudyError;
use crate::stage::write_atomic;

/// Samples, the examples made of them, and what both were predicted to be. All arrays have one row per sample.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleSet {
    /// Height, width and channels.
    pub shape: [usize; 3],
    /// Grid of the codes.
    pub grid: InputGrid,
    /// Norm of the perturbations.
    pub norm: Norm,
    /// Largest perturbation, in real units of the input.
    pub eps: f32,
    /// Identifiers of the samples.
    pub ids: Vec<u32>,
    /// True classes.
    pub labels: Vec<u8>,
    /// Codes of the samples, `[n, h, w, c]`.
    pub clean: Vec<u8>,
    /// Codes of the examples.
    pub adversarial: Vec<u8>,
    /// Classes predicted for the samples.
    pub clean_predicted: Vec<u8>,
    /// Classes predicted for the examples.
    pub predicted: Vec<u8>,
}

/// Samples per model call.
const BATCH: usize = 128;
/// Rounding of real distances that is no violation, as a share of a code.
const SLACK: f64 = 1e-3;

impl ExampleSet {
    /// Rounds the kept examples of an outcome to codes inside its ball, and asks the model about them.
    ///
    /// # Errors
    /// If the outcome kept no examples, or the model fails.
    pub fn of(outcome: &Outcome, clean: &[u8], model: &mut Predictor) -> Result<Self, StudyError> {
        let network = model.model().network.clone();
        let d = network.input.iter().product::<usize>();
        let work =
            |message: &str| StudyError::Work { context: "keeping examples".into(), message: message.into() };
        let moved = outcome.adversarial.as_ref().ok_or_else(|| work("the attack kept none"))?;
        if moved.len() != clean.len() || clean.len() != outcome.records.len() * d {
            return Err(work("samples and examples differ in number"));
        }
        let mut set = Self {
            shape: network.input,
            grid: network.grid,
            norm: outcome.norm,
            eps: outcome.eps,
            ids: outcome.records.iter().map(|r| r.id).collect(),
            labels: outcome.records.iter().map(|r| r.label).collect(),
            clean: clean.to_vec(),
            adversarial: vec![0; clean.len()],
            clean_predicted: Vec::new(),
            predicted: Vec::new(),
        };
        let rows = moved.chunks_exact(d).zip(clean.chunks_exact(d)).zip(set.adversarial.chunks_exact_mut(d));
        for ((moved, clean), out) in rows {
            round_inside(moved, clean, network.grid, (outcome.norm, outcome.eps), out);
        }
        set.clean_predicted = predict(model, &set.clean)?;
        set.predicted = predict(model, &set.adversarial)?;
        Ok(set)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Samples predicted rightly, and those of them whose examples are too.
    pub fn counts(&self) -> (usize, usize) {
        let right = |p: &[u8], i: usize| p[i] == self.labels[i];
        let clean = (0..self.len()).filter(|&i| right(&self.clean_predicted, i));
        let both = clean.clone().filter(|&i| right(&self.predicted, i)).count();
        (clean.count(), both)
    }

    /// Writes an npz, as a whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StudyError> {
        let [h, w, c] = self.shape;
        let images = |codes: &[u8]| {
            let shaped = Array4::from_shape_vec((self.len(), h, w, c), codes.to_vec());
            shaped.map_err(StudyError::work(format!("writing {}", path.display())))
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut npz = NpzWriter::new_compressed(&mut bytes);
        let add = |e: ndarray_npy::WriteNpzError| StudyError::work(format!("writing {}", path.display()))(e);
        npz.add_array("clean", &images(&self.clean)?).map_err(add)?;
        npz.add_array("adversarial", &images(&self.adversarial)?).map_err(add)?;
        npz.add_array("label", &Array1::from(self.labels.clone())).map_err(add)?;
        npz.add_array("clean_predicted", &Array1::from(self.clean_predicted.clone())).map_err(add)?;
        npz.add_array("predicted", &Array1::from(self.predicted.clone())).map_err(add)?;
        npz.add_array("id", &Array1::from(self.ids.clone())).map_err(add)?;
        npz.add_array("eps", &Array1::from(vec![self.eps])).map_err(add)?;
        npz.add_array("norm", &Array1::from(self.norm.to_string().into_bytes())).map_err(add)?;
        let grid = vec![self.grid.scale, f32::from(self.grid.zero_point)];
        npz.add_array("grid", &Array1::from(grid)).map_err(add)?;
        npz.finish().map_err(add)?;
        write_atomic(path, &bytes.into_inner())
    }

    /// Reads what [`Self::save`] wrote; nothing in the file is trusted.
    ///
    /// # Errors
    /// Names the array that is missing or does not fit.
    pub fn load(path: &Path) -> Result<Self, StudyError> {
        let bytes = std::fs::read(path).map_err(StudyError::io(path))?;
        Self::read(&bytes)
            .map_err(|message| StudyError::Work { context: path.display().to_string(), message })
    }

    /// The same from bytes.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut npz = NpzReader::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
        let clean = images(&mut npz, "clean")?;
        let adversarial = images(&mut npz, "adversarial")?;
        let (n, h, w, c) = clean.dim();
        if adversarial.dim() != clean.dim() {
            return Err(format!("adversarial: {:?} beside clean {:?}", adversarial.dim(), clean.dim()));
        }
        let eps: Vec<f32> = row(&mut npz, "eps", 1)?;
        let grid: Vec<f32> = row(&mut npz, "grid", 2)?;
        let norm = String::from_utf8(any(&mut npz, "norm")?).map_err(|e| format!("norm: {e}"))?;
        let zero_point = grid[1] as u8;
        if f32::from(zero_point) != grid[1] || !(grid[0].is_finite() && grid[0] > 0.0) || !eps[0].is_finite()
        {
            return Err(format!("grid {grid:?} and eps {eps:?} make no sense"));
        }
        Ok(Self {
            shape: [h, w, c],
            grid: InputGrid { scale: grid[0], zero_point },
            norm: norm.parse().map_err(|e: attacks::ParseError| format!("norm: {e}"))?,
            eps: eps[0],
            ids: row(&mut npz, "id", n)?,
            labels: row(&mut npz, "label", n)?,
            clean: clean.into_iter().collect(),
            adversarial: adversarial.into_iter().collect(),
            clean_predicted: row(&mut npz, "clean_predicted", n)?,
            predicted: row(&mut npz, "predicted", n)?,
        })
    }

    /// Checks every example against the model: norm, box, label and both predictions. The list is empty when all is well.
    ///
    /// # Errors
    /// If the model is not of these samples, or fails.
    pub fn check(&self, model: &mut Predictor) -> Result<Vec<String>, StudyError> {
        let network = &model.model().network;
        let work = |message: String| StudyError::Work { context: "checking examples".into(), message };
        if network.input != self.shape || network.grid != self.grid {
            return Err(work(format!(
                "the model takes {:?} on {:?}, the examples are {:?} on {:?}",
                network.input, network.grid, self.shape, self.grid
            )));
        }
        let (classes, d) = (network.classes, self.shape.iter().product::<usize>());
        let (clean, moved) = (predict(model, &self.clean)?, predict(model, &self.adversarial)?);
        let mut faults = Vec::new();
        for i in 0..self.len() {
            let row = i * d..(i + 1) * d;
            let id = self.ids[i];
            let distance =
                distance(self.norm, &self.adversarial[row.clone()], &self.clean[row], self.grid.scale);
            if distance > f64::from(self.eps) + SLACK * f64::from(self.grid.scale) {
                faults.push(format!("sample {id}: {} distance {distance} above eps {}", self.norm, self.eps));
            }
            if usize::from(self.labels[i]) >= classes {
                faults.push(format!("sample {id}: label {} of {classes} classes", self.labels[i]));
            }
            for (what, got, stored) in
                [("sample", clean[i], self.clean_predicted[i]), ("example", moved[i], self.predicted[i])]
            {
                if got != stored {
                    faults
                        .push(format!("sample {id}: the {what} is predicted {got}, the file says {stored}"));
                }
            }
        }
        Ok(faults)
    }
}

type Reader<'b> = NpzReader<Cursor<&'b [u8]>>;

fn images(npz: &mut Reader<'_>, name: &str) -> Result<Array4<u8>, String> {
    npz.by_name::<OwnedRepr<u8>, Ix4>(name).map_err(|e| format!("{name}: {e}"))
}

fn any<T: ReadableElement>(npz: &mut Reader<'_>, name: &str) -> Result<Vec<T>, String> {
    let array: ArrayD<T> =
        npz.by_name::<OwnedRepr<T>, Ix1>(name).map_err(|e| format!("{name}: {e}"))?.into_dyn();
    Ok(array.into_iter().collect())
}

fn row<T: ReadableElement>(npz: &mut Reader<'_>, name: &str, n: usize) -> Result<Vec<T>, String> {
    let values = any(npz, name)?;
    if values.len() == n { Ok(values) } else { Err(format!("{name}: {} values, expected {n}", values.len())) }
}

/// Predicted classes of codes, by the integer first layer as deployed.
fn predict(model: &mut Predictor, codes: &[u8]) -> Result<Vec<u8>, StudyError> {
    let (d, k, grid) = (model.input_len(), model.model().network.classes, model.model().network.grid);
    let mut out = Vec::with_capacity(codes.len() / d);
    for rows in codes.chunks(BATCH * d) {
        let x: Vec<f32> = rows.iter().map(|code| grid.value(*code)).collect();
        let mut logits = vec![0.0; rows.len() / d * k];
        model.logits(&x, &mut logits).map_err(StudyError::work("predicting codes"))?;
        out.extend(logits.chunks_exact(k).map(|z| argmax(z) as u8));
    }
    Ok(out)
}

/// Distance of two rows of codes in real units.
fn distance(norm: Norm, a: &[u8], b: &[u8], scale: f32) -> f64 {
    let real = |v: &[u8]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    norm.distance(&real(a), &real(b)) * f64::from(scale)
}

/// The nearest codes to `moved`, or where they leave the ball, the nearest towards the sample.
fn round_inside(moved: &[f32], clean: &[u8], grid: InputGrid, (norm, eps): (Norm, f32), out: &mut [u8]) {
    let code = |x: f32| x / grid.scale + f32::from(grid.zero_point);
    let limit = f64::from(eps) + SLACK * f64::from(grid.scale);
    for (out, x) in out.iter_mut().zip(moved) {
        *out = code(*x).round_ties_even().clamp(0.0, 255.0) as u8;
    }
    if norm == Norm::Linf {
        // Coordinate by coordinate: only those that left are taken back.
        let most = (limit / f64::from(grid.scale)).floor().min(255.0) as u8;
        for (out, clean) in out.iter_mut().zip(clean) {
            *out = (*out).clamp(clean.saturating_sub(most), clean.saturating_add(most));
        }
        return;
    }
    // Integers: sums of any order are exact, and equal to those of `distance`.
    let size = |a: u8, b: u8| f64::from(a.abs_diff(b)).powi(if norm == Norm::L2 { 2 } else { 1 });
    let length = |total: f64| if norm == Norm::L2 { total.sqrt() } else { total } * f64::from(grid.scale);
    let mut total: f64 = out.iter().zip(clean).map(|(a, b)| size(*a, *b)).sum();
    if length(total) <= limit {
        return;
    }
    // Of the codes that rounding moved outwards, those it moved most go back first, until the ball is reached.
    let outwards = |i: usize| {
        let (c, x) = (f32::from(clean[i]), code(moved[i]).clamp(0.0, 255.0));
        (f32::from(out[i]) - c).abs() - (x - c).abs()
    };
    let mut order: Vec<(f32, usize)> =
        (0..out.len()).map(|i| (outwards(i), i)).filter(|(by, _)| *by > 0.0).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, i) in order {
        total -= size(out[i], clean[i]);
        out[i] = if out[i] > clean[i] { out[i] - 1 } else { out[i] + 1 };
        total += size(out[i], clean[i]);
        if length(total) <= limit {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qnn::{Model, Network, zoo};

    fn set() -> (ExampleSet, Predictor) {
        let network: Network =
            zoo::build("stq_image_s", [8, 8, 3], InputGrid::UNIT_IMAGE, 4, &zoo::Quantizers::default())
                .unwrap();
        let mut model = Predictor::for_codes(&Model::new(network, 3).unwrap()).unwrap();
        let clean: Vec<u8> = (0..5 * 192).map(|i| (i * 37 % 251) as u8).collect();
        let labels = predict(&mut model, &clean).unwrap();
        let x: Vec<f32> = clean.iter().map(|c| f32::from(*c) / 255.0).collect();
        let samples = attacks::Samples::new(&x, &labels, &[3, 1, 4, 1, 5]);
        let mut options = attacks::Options { keep_adversarial: true, ..Default::default() };
        let outcome = attacks::run(
            &"noise(draws=3)".parse().unwrap(),
            attacks::Access::Black(&mut attacks::Network(Predictor::for_codes(model.model()).unwrap())),
            &samples,
            &[2.5 / 255.0],
            &attacks::InputBox::unit(),
            1,
            &mut options,
        );
        (ExampleSet::of(&outcome.unwrap()[0], &clean, &mut model).unwrap(), model)
    }

    #[test]
    fn a_file_comes_back_and_checks() {
        let (set, mut model) = set();
        let path = tempfile::tempdir().unwrap().keep().join("adv.npz");
        set.save(&path).unwrap();
        assert_eq!(ExampleSet::load(&path).unwrap(), set);
        assert_eq!(set.check(&mut model).unwrap(), Vec::<String>::new());
        assert_eq!(set.counts().0, 5);
        let most = set.clean.iter().zip(&set.adversarial).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(most, Some(2), "2.5 codes of room are two codes");
    }

    #[test]
    fn rounding_stays_in_the_ball_and_gives_little_of_it_away() {
        let clean: Vec<u8> = (0..300).map(|i| (40 + i * 37 % 170) as u8).collect();
        for (norm, seed) in [Norm::L1, Norm::L2].into_iter().flat_map(|n| (0..20u32).map(move |s| (n, s))) {
            // Movements of up to three codes; the ball's surface goes through the point.
            let by = |i: u32| ((i * 7919 + seed * 104_729) % 6007) as f32 / 1001.0 - 3.0;
            let moved: Vec<f32> = (0..300).map(|i| (f32::from(clean[i as usize]) + by(i)) / 255.0).collect();
            let x: Vec<f32> = clean.iter().map(|c| f32::from(*c) / 255.0).collect();
            let eps = norm.distance(&moved, &x) as f32;
            let mut out = vec![0; 300];
            round_inside(&moved, &clean, InputGrid::UNIT_IMAGE, (norm, eps), &mut out);
            let length = distance(norm, &out, &clean, 1.0 / 255.0);
            assert!(length <= f64::from(eps) + SLACK / 255.0, "{norm} {seed}: {length} {eps}");
            assert!(length >= 0.96 * f64::from(eps), "{norm} {seed}: {length} of {eps}");
            assert!(out.iter().zip(&moved).all(|(o, x)| (f32::from(*o) - 255.0 * x).abs() < 1.01));
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_sample() {
        let (set, mut model) = set();
        let mut fault = |change: &dyn Fn(&mut ExampleSet)| {
            let mut wrong = set.clone();
            change(&mut wrong);
            wrong.check(&mut model).unwrap().join("; ")
        };
        assert!(fault(&|s| s.adversarial[0] = s.clean[0].wrapping_add(9)).contains("linf distance"));
        assert!(fault(&|s| s.labels[1] = 9).contains("label 9"));
        assert!(fault(&|s| s.predicted[2] ^= 1).contains("the example is predicted"));
        assert!(fault(&|s| s.clean_predicted[2] ^= 1).contains("the sample is predicted"));
        let mut other = set.clone();
        other.grid.scale = 1.0;
        assert!(other.check(&mut model).is_err());
    }

    #[test]
    fn hostile_files_are_errors() {
        let (set, _) = set();
        let path = tempfile::tempdir().unwrap().keep().join("adv.npz");
        set.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 3] {
            assert!(ExampleSet::read(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in (0..bytes.len()).step_by(7) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            // Any answer but a panic.
            let _ = ExampleSet::read(&broken);
        }
    }
}
