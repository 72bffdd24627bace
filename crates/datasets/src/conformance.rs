//! Comparison with reference vectors of TensorFlow's MFCC: reading a folder of cases and judging those about the front end.
use std::fs::File;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use ndarray_npy::{NpzReader, ReadNpzError};
use serde_json::{Map, Value};

use crate::DataError;
use crate::frontend::{Mfcc, Parameters, Real, normalise};

/// Cases of this kind are judged here.
pub const KIND: &str = "mfcc";

/// Refused beyond this.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// The front end has one normalisation and one window; a case that asks for others is not about it.
const NORMALISATION: &str = "divide by max(x)";
const WINDOW: &str = "periodic hann";

/// Judges every case of `dir/manifest.json`; `each` is given the case's name and what was found: agreement in words, or the
/// reason why not.
///
/// A case names its npz `file` and the front end's parameters. The file holds `audio_int16` `[n, samples]`, `length` `[n]`
/// (samples of each clip; the rest is padding), the MFCC as `mfcc_f64` or `mfcc` `[n, frames, coefficients]` with the
/// largest absolute error of each clip in `atol_clip` `[n]`, and for the first clips `cotangent`
/// `[k, frames, coefficients]` and `grad_waveform` `[k, samples]`, compared to `rtol_gradient` of its Euclidean norm.
pub fn run(dir: &Path, each: &mut dyn FnMut(&str, Result<String, String>)) {
    let cases = match read_manifest(&dir.join("manifest.json")) {
        Ok(cases) => cases,
        Err(error) => return each("manifest.json", Err(error.to_string())),
    };
    for (i, case) in cases.iter().enumerate() {
        let named = ["name", "id"].into_iter().find_map(|key| case.get(key)?.as_str());
        let name = named.map_or_else(|| format!("case {i}"), str::to_owned);
        match Case::read(dir, case) {
            Ok(case) => {
                each(&format!("{name} features"), case.features());
                if let Some(gradient) = &case.gradient {
                    each(&format!("{name} gradient"), case.gradient(gradient));
                }
            }
            Err(reason) => each(&name, Err(reason)),
        }
    }
}

fn read_manifest(path: &Path) -> Result<Vec<Value>, DataError> {
    let bytes = crate::error::read_file(path, LARGEST_MANIFEST)?;
    let mut root: Value =
        serde_json::from_slice(&bytes).map_err(|e| DataError::corrupt(path, 0, e.to_string()))?;
    match root.get_mut("cases").map(Value::take) {
        Some(Value::Array(cases)) if !cases.is_empty() => Ok(cases),
        _ => Err(DataError::corrupt(path, 0, "no list `cases` with anything in it")),
    }
}

/// A case in memory, its shapes checked against each other.
struct Case {
    parameters: Parameters,
    clips: Vec<Vec<i16>>,
    expected: ArrayD<f64>,
    tolerance: Vec<f64>,
    /// Cotangents and gradients.
    gradient: Option<(ArrayD<f64>, ArrayD<f64>)>,
    gradient_tolerance: f64,
}

impl Case {
    fn read(dir: &Path, case: &Value) -> Result<Case, String> {
        let fields = case.as_object().ok_or("the case is not an object")?;
        let kind = fields.get("kind").and_then(Value::as_str).unwrap_or("nothing");
        if kind != KIND {
            return Err(format!("of kind `{kind}`, `{KIND}` expected"));
        }
        let file = fields.get("file").and_then(Value::as_str).ok_or("no text field `file`")?;
        if Path::new(file).components().count() != 1 || file == ".." {
            return Err(format!("`{file}` is not a file of the folder"));
        }
        let mut arrays = Arrays::open(&dir.join(file))?;
        let audio = arrays.required(&["audio_int16"])?;
        let [n, samples] = *audio.shape() else {
            return Err(format!("audio_int16 of shape {:?}, two axes expected", audio.shape()));
        };
        let parameters = parameters(fields, samples)?;
        let shape = [n, parameters.frames(), parameters.coefficients];

        let length = match arrays.optional(&["length"])? {
            Some(length) => length.iter().map(|&x| x as usize).collect(),
            None => vec![samples; n],
        };
        if length.len() != n || length.iter().any(|&l| l == 0 || l > samples) {
            return Err(format!("length: {n} numbers from 1 to {samples} expected"));
        }
        let clips = audio.outer_iter().zip(&length).map(|(clip, &length)| clip_of(clip, length)).collect();
        let expected = arrays.required(&["mfcc_f64", "mfcc"])?;
        if expected.shape() != shape {
            return Err(format!("mfcc of shape {:?}, {shape:?} expected", expected.shape()));
        }
        let tolerance = match (arrays.optional(&["atol_clip"])?, number(fields, "atol")) {
            (Some(tolerance), _) if tolerance.len() == n => tolerance.into_iter().collect(),
            (Some(tolerance), _) => return Err(format!("{} tolerances for {n} clips", tolerance.len())),
            (None, Some(atol)) => vec![atol; n],
            (None, None) => return Err("neither an array `atol_clip` nor a number `atol`".to_owned()),
        };
        let gradient = match (arrays.optional(&["cotangent"])?, arrays.optional(&["grad_waveform"])?) {
            (Some(cotangent), Some(gradient)) => {
                let k = cotangent.shape().first().copied().unwrap_or(0);
                let fits = cotangent.shape() == [k, shape[1], shape[2]]
                    && gradient.shape() == [k, samples]
                    && k <= n;
                if !fits {
                    let shapes = (cotangent.shape(), gradient.shape());
                    return Err(format!(
                        "cotangent and grad_waveform of shapes {shapes:?} do not suit {shape:?}"
                    ));
                }
                Some((cotangent, gradient))
            }
            (None, None) => None,
            _ => return Err("only one of `cotangent` and `grad_waveform`".to_owned()),
        };
        let gradient_tolerance = number(fields, "rtol_gradient");
        if gradient.is_some() && gradient_tolerance.is_none() {
            return Err("a gradient without a number `rtol_gradient`".to_owned());
        }
        Ok(Case {
            parameters,
            clips,
            expected,
            tolerance,
            gradient,
            gradient_tolerance: gradient_tolerance.unwrap_or(0.0),
        })
    }

    /// Features of every clip in both precisions.
    fn features(&self) -> Result<String, String> {
        let worst = self.worst::<f64>("f64")?;
        let worst32 = self.worst::<f32>("f32")?;
        Ok(format!(
            "{} clips, largest error as a share of the tolerance: f64 {worst:.1e}, f32 {worst32:.1e}",
            self.clips.len()
        ))
    }

    fn worst<T: Real>(&self, precision: &str) -> Result<f64, String> {
        let mfcc = Mfcc::<T>::with(self.parameters).map_err(|e| e.to_string())?;
        let (mut work, mut wave) = (mfcc.work(), vec![T::zero(); self.parameters.samples]);
        let mut out = vec![T::zero(); mfcc.features()];
        let mut worst = 0.0f64;
        for (i, ((clip, expected), &limit)) in
            self.clips.iter().zip(self.expected.axis_iter(Axis(0))).zip(&self.tolerance).enumerate()
        {
            normalise(clip, &mut wave).map_err(|e| e.to_string())?;
            mfcc.compute(&wave, &mut work, &mut out).map_err(|e| format!("clip {i}: {e}"))?;
            for (k, (ours, &theirs)) in out.iter().zip(expected.iter()).enumerate() {
                let ours = ours.to_f64().unwrap_or(f64::NAN);
                let error = (ours - theirs).abs();
                if error > limit || !error.is_finite() || limit.is_nan() {
                    let (t, c) = (k / self.parameters.coefficients, k % self.parameters.coefficients);
                    return Err(format!(
                        "clip {i}, frame {t}, coefficient {c} in {precision}: {ours}, {theirs} expected within {limit}"
                    ));
                }
                worst = worst.max(if limit > 0.0 { error / limit } else { 0.0 });
            }
        }
        Ok(worst)
    }

    fn gradient(&self, (cotangent, gradient): &(ArrayD<f64>, ArrayD<f64>)) -> Result<String, String> {
        let mfcc = Mfcc::<f64>::with(self.parameters).map_err(|e| e.to_string())?;
        let (mut work, mut wave) = (mfcc.work(), vec![0.0; self.parameters.samples]);
        let (mut out, mut grad) = (vec![0.0; mfcc.features()], wave.clone());
        let mut worst = 0.0f64;
        for (i, (cotangent, expected)) in
            cotangent.axis_iter(Axis(0)).zip(gradient.axis_iter(Axis(0))).enumerate()
        {
            normalise(&self.clips[i], &mut wave).map_err(|e| e.to_string())?;
            let cotangent: Vec<f64> = cotangent.iter().copied().collect();
            mfcc.vjp(&wave, &cotangent, &mut work, &mut out, &mut grad)
                .map_err(|e| format!("clip {i}: {e}"))?;
            let norm = expected.iter().map(|g| g * g).sum::<f64>().sqrt();
            let distance = grad.iter().zip(expected.iter()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let limit = self.gradient_tolerance * norm;
            if distance > limit || !distance.is_finite() || !limit.is_finite() {
                return Err(format!(
                    "clip {i}: off by {:.2e} of the gradient's norm, {} allowed",
                    distance / norm,
                    self.gradient_tolerance
                ));
            }
            worst = worst.max(if norm > 0.0 { distance / norm } else { 0.0 });
        }
        Ok(format!("{} clips, largest error {worst:.1e} of the gradient's norm", cotangent.len_of(Axis(0))))
    }
}

/// The first `length` samples of a row; the array came from 16-bit integers or was refused.
fn clip_of(row: ndarray::ArrayViewD<'_, f64>, length: usize) -> Vec<i16> {
    row.iter().take(length).map(|&x| x as i16).collect()
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<f64> {
    fields.get(name).and_then(Value::as_f64)
}

/// The front end a case asks for. Missing numbers are MLPerf Tiny's; fields nobody here knows are refused when they are
/// numbers (a parameter the front end does not have), and taken for prose otherwise.
fn parameters(fields: &Map<String, Value>, samples: usize) -> Result<Parameters, String> {
    let base = Parameters::MLPERF_TINY;
    let whole = |name: &str, default: usize| match fields.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| format!("`{name}` is {value}, a whole number expected")),
    };
    let real = |name: &str, default: f64| match fields.get(name) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| format!("`{name}` is {value}, a number expected")),
    };
    const KNOWN: [&str; 12] = [
        "sample_rate",
        "samples",
        "frame",
        "step",
        "fft",
        "mel_bins",
        "lower_hz",
        "upper_hz",
        "coefficients",
        "log_offset",
        "rtol_gradient",
        "atol",
    ];
    for (name, value) in fields {
        if !KNOWN.contains(&name.as_str()) && (value.is_number() || value.is_boolean()) {
            return Err(format!("the front end has no parameter `{name}` (= {value})"));
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_lowercase);
    if let Some(window) = text("window")
        && !window.starts_with(WINDOW)
    {
        return Err(format!("window `{window}`, the front end has `{WINDOW}`"));
    }
    if let Some(normalisation) = text("normalisation")
        && !normalisation.starts_with(NORMALISATION)
    {
        return Err(format!("normalisation `{normalisation}`, the front end has `{NORMALISATION}`"));
    }
    if whole("samples", samples)? != samples {
        return Err(format!("clips of {samples} samples, {} announced", whole("samples", samples)?));
    }
    let parameters = Parameters {
        sample_rate: u32::try_from(whole("sample_rate", base.sample_rate as usize)?)
            .map_err(|e| format!("`sample_rate`: {e}"))?,
        samples,
        frame: whole("frame", base.frame)?,
        step: whole("step", base.step)?,
        fft: whole("fft", base.fft)?,
        mel_bins: whole("mel_bins", base.mel_bins)?,
        lower_hz: real("lower_hz", base.lower_hz)?,
        upper_hz: real("upper_hz", base.upper_hz)?,
        coefficients: whole("coefficients", base.coefficients)?,
        log_offset: real("log_offset", base.log_offset)?,
    };
    parameters.check().map_err(|e| e.to_string())?;
    Ok(parameters)
}

/// Arrays of an npz file, as f64 whatever numbers they hold.
struct Arrays {
    npz: NpzReader<File>,
    names: Vec<String>,
}

impl Arrays {
    fn open(path: &Path) -> Result<Arrays, String> {
        let say = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let file = File::open(path).map_err(|e| say(&e))?;
        let mut npz = NpzReader::new(file).map_err(|e| say(&e))?;
        let names = npz.names().map_err(|e| say(&e))?;
        Ok(Arrays { npz, names })
    }

    fn required(&mut self, names: &[&str]) -> Result<ArrayD<f64>, String> {
        self.optional(names)?.ok_or_else(|| format!("no array `{}`", names.join("` or `")))
    }

    /// The first of these arrays that is there.
    fn optional(&mut self, names: &[&str]) -> Result<Option<ArrayD<f64>>, String> {
        let stem = |name: &String| name.strip_suffix(".npy").unwrap_or(name).to_owned();
        let Some(wanted) = names.iter().find(|wanted| self.names.iter().any(|name| stem(name) == **wanted))
        else {
            return Ok(None);
        };
        // The reader wants the element type beforehand and names it only in a refusal: try each.
        let mut refusal: Option<ReadNpzError> = None;
        macro_rules! attempt {
            ($($element:ty),*) => {$(
                match self.npz.by_name::<ndarray::OwnedRepr<$element>, ndarray::IxDyn>(wanted) {
                    Ok(array) => return Ok(Some(array.mapv(|x| x as f64))),
                    Err(error) => refusal = refusal.or(Some(error)),
                }
            )*};
        }
        attempt!(f64, f32, i16, i32, i64);
        let reason = refusal.map(|error| error.to_string()).unwrap_or_default();
        Err(format!("array `{wanted}`: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Array3};
    use ndarray_npy::NpzWriter;

    use super::*;

    const SAMPLES: usize = 700;
    const MANIFEST: &str = r#"{"cases": [{"kind": "mfcc", "name": "small", "file": "small.npz", "sample_rate": 4000,
        "frame": 120, "step": 50, "fft": 128, "mel_bins": 12, "lower_hz": 50.0, "upper_hz": 1900.0, "coefficients": 5,
        "log_offset": 1e-4, "window": "periodic Hann", "rtol_gradient": 1e-9}]}"#;

    /// A folder whose numbers come from the front end itself; `spoil` is added to one of them.
    fn folder(manifest: &str, spoil: f64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        let root: Value = serde_json::from_str(MANIFEST).unwrap();
        let parameters = parameters(root["cases"][0].as_object().unwrap(), SAMPLES).unwrap();
        let mfcc = Mfcc::<f64>::with(parameters).unwrap();
        let audio = Array2::from_shape_fn((3, SAMPLES), |(i, n)| ((n * (i + 3) * 97) % 801) as i16 - 300);
        let length = Array1::from_vec(vec![SAMPLES as i32, 500, 130]);
        let mut expected = Array3::zeros((3, parameters.frames(), 5));
        let cotangent = Array3::from_elem((2, parameters.frames(), 5), 0.25f32);
        let mut gradient = Array2::zeros((2, SAMPLES));
        let (mut work, mut wave) = (mfcc.work(), vec![0.0; SAMPLES]);
        for i in 0..3 {
            let clip = audio.row(i).to_vec();
            normalise(&clip[..length[i] as usize], &mut wave).unwrap();
            let mut out = expected.index_axis_mut(Axis(0), i);
            let out = out.as_slice_mut().unwrap();
            if i < 2 {
                let mut row = gradient.row_mut(i);
                let cotangent = vec![0.25; mfcc.features()];
                mfcc.vjp(&wave, &cotangent, &mut work, out, row.as_slice_mut().unwrap()).unwrap();
            } else {
                mfcc.compute(&wave, &mut work, out).unwrap();
            }
        }
        expected[[1, 3, 2]] += spoil;
        let mut npz = NpzWriter::new_compressed(File::create(dir.path().join("small.npz")).unwrap());
        npz.add_array("audio_int16", &audio).unwrap();
        npz.add_array("length", &length).unwrap();
        npz.add_array("mfcc_f64", &expected).unwrap();
        npz.add_array("atol_clip", &Array1::from_elem(3, 1e-3f32)).unwrap();
        npz.add_array("cotangent", &cotangent).unwrap();
        npz.add_array("grad_waveform", &gradient).unwrap();
        npz.finish().unwrap();
        dir
    }

    fn verdicts(dir: &Path) -> Vec<Result<String, String>> {
        let mut verdicts = Vec::new();
        run(dir, &mut |_, verdict| verdicts.push(verdict));
        verdicts
    }

    #[test]
    fn folders_of_any_shape_are_judged() {
        let good = verdicts(folder(MANIFEST, 0.0).path());
        assert!(good.len() == 2 && good.iter().all(Result::is_ok), "{good:?}");
        let bad = verdicts(folder(MANIFEST, 2e-3).path());
        assert!(bad[0].as_ref().unwrap_err().contains("clip 1, frame 3, coefficient 2"), "{bad:?}");
        assert!(bad[1].is_ok());
        let nan = verdicts(folder(MANIFEST, f64::NAN).path());
        assert!(nan[0].is_err());
    }

    #[test]
    fn what_the_front_end_cannot_do_is_a_failure() {
        for (from, to, word) in [
            ("\"frame\": 120", "\"frame\": 119", "clip 0"),
            ("\"step\": 50", "\"step\": 40", "shape"),
            ("\"fft\": 128", "\"fft\": 64", "fft"),
            ("periodic Hann", "Hamming", "hamming"),
            ("\"fft\": 128", "\"fft\": 128, \"preemphasis\": 0.97", "preemphasis"),
            ("small.npz", "../small.npz", "not a file"),
            ("small.npz", "absent.npz", "absent.npz"),
            ("\"kind\": \"mfcc\"", "\"kind\": \"soup\"", "soup"),
            ("\"rtol_gradient\": 1e-9", "\"comment\": \"none\"", "rtol_gradient"),
            ("\"rtol_gradient\"", "\"normalisation\": \"peak\", \"rtol_gradient\"", "peak"),
        ] {
            let found = verdicts(folder(&MANIFEST.replace(from, to), 0.0).path());
            let reason = found[0].as_ref().unwrap_err();
            assert!(reason.contains(word), "{to}: {reason}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(verdicts(empty.path())[0].is_err());
    }
}
