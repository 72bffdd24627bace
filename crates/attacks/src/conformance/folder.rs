//! A folder of cases in memory: its archives, configurations, images and models.

use std::collections::BTreeMap;
use std::path::Path;

use kernels::Real;
use serde_json::Value;

use super::archive::Archive;
use super::net::ConvNet;
use crate::geometry::InputBox;
use crate::loss::{Goal, Loss, argmax};
use crate::model::{Access, Classifier, Differentiable};
use crate::outcome::Outcome;
use crate::run::{Options, Samples, run};
use crate::spec::Attack;

/// A folder's manifest and arrays.
pub(super) struct Folder {
    manifest: Value,
    pub(super) archives: BTreeMap<String, Archive>,
}

/// One configuration: a name, and fields of the manifest (none for arrays that need no parameters).
#[derive(Clone)]
pub(super) struct Config<'f> {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) fields: Option<&'f Value>,
}

impl Config<'_> {
    pub(super) fn bare(file: &str, name: &str) -> Self {
        Self { file: file.to_owned(), name: name.to_owned(), fields: None }
    }

    pub(super) fn field(&self, key: &str) -> Option<&Value> {
        self.fields.and_then(|f| f.get(key))
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, String> {
        self.field(key).and_then(Value::as_f64).ok_or_else(|| format!("no number `{key}`"))
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, String> {
        self.field(key).and_then(Value::as_str).ok_or_else(|| format!("no text `{key}`"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        self.field(key).and_then(Value::as_bool).ok_or_else(|| format!("no truth value `{key}`"))
    }

    /// `linf`, `l2` or `l1`: the field `norm`, else the first of them in the name.
    pub(super) fn norm(&self) -> Result<&'static str, String> {
        let known = |word: &str| match word.to_lowercase().as_str() {
            "linf" | "inf" => Some("linf"),
            "l2" | "2" => Some("l2"),
            "l1" | "1" => Some("l1"),
            _ => None,
        };
        match self.field("norm") {
            Some(Value::String(word)) => known(word),
            Some(other) => known(&other.to_string()),
            None => self.name.split(['_', '.']).find(|w| w.starts_with('l')).and_then(known),
        }
        .ok_or_else(|| "neither field nor name tells the norm".to_owned())
    }
}

/// Labelled images of the convolutional models.
#[derive(Clone)]
pub(super) struct Images<T> {
    pub(super) x: Vec<T>,
    pub(super) y: Vec<u8>,
    pub(super) ids: Vec<u32>,
    pub(super) shape: [usize; 3],
}

impl<T: Real> Images<T> {
    pub(super) fn samples(&self) -> Samples<'_, T> {
        Samples::new(&self.x, &self.y, &self.ids)
    }
}

impl Folder {
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let text = std::fs::read(dir.join("manifest.json")).map_err(|e| e.to_string())?;
        let manifest: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        let files = manifest.get("files").and_then(Value::as_object).ok_or("no table `files`")?;
        let mut archives = BTreeMap::new();
        for file in files.keys() {
            if Path::new(file).components().count() != 1 {
                return Err(format!("`{file}` is not a file of this folder"));
            }
            archives.insert(file.clone(), Archive::open(dir, file)?);
        }
        Ok(Self { manifest, archives })
    }

    /// Configurations of a file.
    pub(super) fn configs(&self, file: &str) -> Vec<Config<'_>> {
        let configs = self.manifest["files"][file].get("configs").and_then(Value::as_object);
        let config = |(name, fields)| Config {
            file: file.to_owned(),
            name: String::clone(name),
            fields: Some(fields),
        };
        configs.into_iter().flatten().map(config).collect()
    }

    pub(super) fn archive(&self, file: &str) -> Result<&Archive, String> {
        self.archives.get(file).ok_or_else(|| format!("no file `{file}`"))
    }

    /// Whether a name begins with one of the file's own sets of samples (`interior.fgsm_...`).
    pub(super) fn is_set(&self, file: &str, name: &str) -> bool {
        let set = name.split('.').next().unwrap_or_default();
        self.archives.get(file).is_some_and(|a| a.find(&format!("{set}.x")).is_some())
    }

    /// The archive that holds the images of the convolutional models.
    fn quantities(&self) -> Result<&Archive, String> {
        let holds = |a: &&Archive| ["x", "y"].iter().all(|name| a.find(name).is_some());
        self.archives.values().find(holds).ok_or_else(|| "no file holds images `x` and labels `y`".to_owned())
    }

    pub(super) fn images<T: Real>(&self) -> Result<Images<T>, String> {
        let archive = self.quantities()?;
        let (x, y) = (archive.get("x")?, archive.get("y")?.classes()?);
        let [n, c, h, w] = x.shape[..] else { return Err(format!("x: {:?} are no images", x.shape)) };
        if n != y.len() || n * c * h * w == 0 {
            return Err(format!("x: {:?} with {} labels", x.shape, y.len()));
        }
        let x = x.images()?.iter().map(|v| T::from_f64(*v)).collect();
        Ok(Images { x, ids: (0..y.len() as u32).collect(), y, shape: [h, w, c] })
    }

    /// Target classes of that name.
    pub(super) fn targets(&self, name: &str) -> Result<Vec<u8>, String> {
        self.quantities()?.get(name)?.classes()
    }

    /// Arrays of the images' archive.
    pub(super) fn quantity(&self, name: &str) -> Result<&super::archive::Array, String> {
        self.quantities()?.get(name)
    }

    /// Model `B` or `T`.
    pub(super) fn model<T: Real>(&self, name: &str) -> Result<ConvNet<T>, String> {
        ConvNet::load(self.archive("models.npz")?, name, self.images::<T>()?.shape, self.ranges())
    }

    /// Ranges of the ternary model's activations: `activation scales (1,2)` in the note beside its weights.
    fn ranges(&self) -> [f64; 2] {
        let note = self.manifest["files"]["models.npz"]["note"].as_str().unwrap_or_default();
        let numbers = note.split_once("activation scales (").and_then(|(_, rest)| rest.split_once(')'));
        let inside = numbers.map_or("", |(inside, _)| inside);
        let parsed: Vec<f64> = inside.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        if let [a, b] = parsed[..] { [a, b] } else { [1.0, 2.0] }
    }

    /// Compares the examples of an outcome with the arrays of a configuration: pixels to `tolerance` but for a share `ties`
    /// of them, and where all pixels of an image agree its loss, prediction and norms; then the robust accuracy.
    pub(super) fn compare(
        &self,
        config: &Config<'_>,
        net: &mut dyn Classifier<f64>,
        images: &Images<f64>,
        out: &Outcome<f64>,
        (tolerance, ties): (f64, f64),
    ) -> Result<String, String> {
        let (archive, name) = (self.archive(&config.file)?, &config.name);
        let adv = out.adversarial.as_ref().ok_or("no examples kept")?;
        let want = archive.get(&format!("{name}.adv"))?.images()?;
        if want.len() != adv.len() {
            return Err(format!("{name}.adv holds {} values, expected {}", want.len(), adv.len()));
        }
        let (d, k, n) = (net.input_len(), net.classes(), images.y.len());
        let differs = |(a, b): (&f64, &f64)| (a - b).abs() > tolerance;
        let apart = adv.iter().zip(&want).filter(|pair| differs(*pair)).count();
        if apart as f64 > ties * adv.len() as f64 {
            return Err(format!("{apart} of {} values are more than {tolerance:.0e} apart", adv.len()));
        }
        let mut logits = vec![0.0; n * k];
        net.logits(adv, &mut logits).map_err(|e| e.to_string())?;
        let column = |part: &str| archive.find(&format!("{name}.{part}"));
        let mut same = 0;
        for i in 0..n {
            let (row, z) = (i * d..(i + 1) * d, &logits[i * k..(i + 1) * k]);
            if adv[row.clone()].iter().zip(&want[row.clone()]).any(differs) {
                continue;
            }
            same += 1;
            if let Some(ce) = column("ce") {
                let got = Loss::CrossEntropy.value(z, Goal::Untargeted { label: images.y[i] });
                close(&format!("loss of image {i}"), got, ce.data[i], 1e-4)?;
            }
            if let Some(pred) = column("pred").filter(|p| p.data[i] != f64::from(argmax(z))) {
                return Err(format!("image {i} is predicted {}, expected {}", argmax(z), pred.data[i]));
            }
            if let Some(norms) = column("norms_linf_l2_l1") {
                let all = [crate::Norm::Linf, crate::Norm::L2, crate::Norm::L1];
                for (norm, want) in all.iter().zip(&norms.data[3 * i..]) {
                    let got = norm.distance(&adv[row.clone()], &images.x[row.clone()]);
                    close(&format!("{norm} norm of image {i}"), got, *want, 1e-4)?;
                }
            }
        }
        let correct = out.records.iter().filter(|r| r.adversarial_correct).count();
        let (got, want) = (correct as f64 / n as f64, config.number("robust_acc")?);
        let slack = (n - same) as f64 / n as f64 + 1e-6;
        if (got - want).abs() > slack {
            return Err(format!("robust accuracy {got:.4}, expected {want:.4}"));
        }
        Ok(format!("{apart} of {} values apart, robust accuracy {got:.4}", adv.len()))
    }
}

/// Fails unless `got` is `want` up to `tolerance`, relative for large numbers.
pub(super) fn close(what: &str, got: f64, want: f64, tolerance: f64) -> Result<(), String> {
    if (got - want).abs() <= tolerance * want.abs().max(1.0) {
        return Ok(());
    }
    Err(format!("{what} is {got}, expected {want}"))
}

/// Fails unless all of `got` is within `tolerance` of `want`, relative to the largest of them.
pub(super) fn all_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what} holds {} values, expected {}", want.len(), got.len()));
    }
    let scale = want.iter().fold(1e-12f64, |m, v| if v.is_finite() { m.max(v.abs()) } else { m });
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got == want || (got - want).abs() <= tolerance * scale;
        if !same {
            return Err(format!("{what}: value {i} is {got}, expected {want}"));
        }
    }
    Ok(())
}

/// Attacks every sample to the end and keeps the examples, as the libraries do.
pub(super) fn exhaust(
    attack: &str,
    model: &mut dyn Differentiable<f64>,
    samples: &Samples<'_, f64>,
    eps: f64,
) -> Result<Outcome<f64>, String> {
    let attack: Attack = attack.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let mut options = Options {
        batch: samples.len(),
        early_exit: false,
        attack_misclassified: true,
        keep_adversarial: true,
        ..Options::default()
    };
    once(&attack, Access::White(model), samples, eps, 0, &mut options)
}

/// One outcome at one eps in the unit box.
pub(super) fn once<T: Real>(
    attack: &Attack,
    model: Access<'_, T>,
    samples: &Samples<'_, T>,
    eps: f64,
    seed: u64,
    options: &mut Options<'_>,
) -> Result<Outcome<T>, String> {
    let outcomes = run(attack, model, samples, &[eps as f32], &InputBox::unit(), seed, options);
    outcomes.map_err(|e| e.to_string())?.pop().ok_or_else(|| "no outcome".to_owned())
}
