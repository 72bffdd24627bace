//! The deploy stage: lowering with its proof, footprint, and the integer program's accuracy beside the trained network's.
use std::path::Path;

use deploy::{DeployError, Engine, Footprint, image, lower};
use qnn::Model;

use super::engine::Selected;
use super::{Deployment, Tick};
use crate::error::StudyError;

/// Name of the model image in a deployment stage's folder.
const IMAGE_FILE: &str = "model.image";
/// Name of the footprint's file.
const FOOTPRINT_FILE: &str = "footprint.json";
/// Samples per call of the integer engine.
const BATCH: usize = 256;

/// Lowers `model`, writes its image and footprint to `work`, and compares the program's predictions on the selected
/// samples with their labels and with what the trained network `expected`. A float network has no integer program; its
/// sizes are then those of its values.
pub(super) fn deploy(
    model: &Model,
    selected: &Selected,
    expected: &[u8],
    work: &Path,
    tick: Tick<'_>,
) -> Result<Deployment, StudyError> {
    let network = &model.network;
    let context = || StudyError::work(format!("deploying {}", network.name));
    let write = |file: &str, bytes: &[u8]| {
        let path = work.join(file);
        std::fs::write(&path, bytes).map_err(StudyError::io(&path))
    };
    let lowered = match lower(network, model) {
        Ok(lowered) => lowered,
        Err(reason @ DeployError::Unsupported { .. }) => {
            let footprint = Footprint::of_network(network).map_err(context())?;
            write(FOOTPRINT_FILE, footprint.to_json().as_bytes())?;
            return Ok(Deployment {
                integer: false,
                note: format!("no integer program: {reason}"),
                flash: footprint.flash(),
                ram: footprint.ram.peak() as u64,
                samples: 0,
                correct: 0,
                agree: 0,
            });
        }
        Err(error) => return Err(context()(error)),
    };
    let footprint = Footprint::of_program(network, &lowered.program).map_err(context())?;
    write(FOOTPRINT_FILE, footprint.to_json().as_bytes())?;
    write(IMAGE_FILE, &image::write_image(&lowered.program).map_err(context())?)?;
    let report = &lowered.report;
    let note = format!(
        "{} channels proved equal to the trained network over {} accumulator values; logits {}",
        report.channels,
        report.values,
        if report.logits_exact {
            "equal bit for bit".to_owned()
        } else {
            format!("within {:.1e}", report.logit_error)
        }
    );
    let engine = Engine::new(lowered.program).map_err(context())?;
    let d: usize = network.input.iter().product();
    let mut predicted: Vec<usize> = Vec::with_capacity(expected.len());
    let mut classes = vec![0; BATCH];
    for codes in selected.codes.chunks(BATCH * d) {
        let n = codes.len() / d;
        engine.predict(codes, n, &mut classes[..n]).map_err(context())?;
        predicted.extend(&classes[..n]);
        tick(predicted.len() as u64, expected.len() as u64, "samples on the integer program");
    }
    let equal = |others: &[u8]| predicted.iter().zip(others).filter(|(p, o)| **p == usize::from(**o)).count();
    Ok(Deployment {
        integer: true,
        note,
        flash: footprint.image_bytes.unwrap_or_else(|| footprint.flash()),
        ram: footprint.ram.peak() as u64,
        samples: predicted.len(),
        correct: equal(&selected.labels),
        agree: equal(expected),
    })
}
