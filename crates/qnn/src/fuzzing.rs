//! Bodies of the fuzz targets, also run by ordinary tests: whatever the bytes, readers answer and never panic.

use crate::checkpoint::{Checkpoint, sealed};
use crate::interop::Weights;
use crate::model::Model;

/// Reads `data` as every kind of file this crate reads, and as the payload of a file with a right header and checksum, so
/// that damage behind the checksum is met too. What reads as a model must write and read back as the same model.
///
/// # Panics
/// If a reader's answer contradicts itself; that is the finding.
pub fn model_file(data: &[u8]) {
    let path = "fuzz";
    for bytes in [data.to_vec(), sealed(data)] {
        if let Ok(model) = Model::from_bytes(&bytes, path) {
            let again = model.to_bytes().expect("a valid model can be written");
            assert_eq!(Model::from_bytes(&again, path).ok(), Some(model));
        }
        let _ = Checkpoint::from_bytes(&bytes, path);
    }
    let _ = Weights::from_bytes(data, path);
    if let Ok(model) = Model::from_safetensors(data, path) {
        let again = model.to_safetensors().expect("a valid model can be exported");
        assert_eq!(Model::from_safetensors(&again, path).ok(), Some(model));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{BatchNormQuantizers, InputGrid, Network, depthwise};
    use qtensor::stream::{self, Purpose};

    /// A small model of every kind of parameter.
    fn tiny() -> Model {
        let ternary = Some("stochastic_ternary(alpha=auto)".parse().unwrap());
        let relu = Some("quantized_relu(8, 2)".parse().unwrap());
        let mut network = Network::new("tiny", [3, 3, 1], InputGrid::UNIT_IMAGE, 2)
            .conv("c", 2, 3, 1, &ternary)
            .bn_act("c", &relu)
            .then("d", depthwise([2, 2], [1, 1], true, &ternary).multiplied(2).dilated([2, 1]))
            .bn_act("d", &relu)
            .classifier(&None);
        network.quantize_biases(&Some("quantized_bits(6, 1)".parse().unwrap()));
        network.quantize_batch_norms(&Some(BatchNormQuantizers::qkeras()));
        Model::new(network, 3).unwrap()
    }

    #[test]
    fn random_and_mutated_files_never_panic() {
        let model = tiny();
        let seeds = [
            model.to_bytes().unwrap(),
            // The payload alone: it gets its header and checksum after the mutation.
            model.to_bytes().unwrap().split_off(56),
            model.to_safetensors().unwrap(),
            Vec::new(),
        ];
        let mut rng = stream::stream(1, Purpose::Test, &[]);
        let mut below = |n: usize| stream::below(&mut rng, n.max(1) as u32) as usize;
        for round in 0..600 {
            let mut data = seeds[round % seeds.len()].clone();
            if data.is_empty() {
                data = (0..below(300)).map(|_| below(256) as u8).collect();
            }
            for _ in 0..below(6) {
                let at = below(data.len());
                match below(4) {
                    0 => data.truncate(at),
                    1 if !data.is_empty() => data[at] ^= 1 << below(8),
                    2 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                    _ => {
                        // A run of extreme bytes: lengths and dimensions out of all proportion.
                        let run = [0xff; 8];
                        let end = (at + run.len()).min(data.len());
                        data[at..end].copy_from_slice(&run[..end - at]);
                    }
                }
            }
            model_file(&data);
        }
    }
}
