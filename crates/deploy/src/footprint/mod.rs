//! What a network costs on a device: flash, RAM and multiply-accumulates, whether or not it can be lowered.
//!
//! *Flash* is weights and epilogue tables. A ternary (or binary) weight takes 2 bits, or 1.6 with five trits to a byte; rows
//! are not padded in these figures; a dilated kernel has zeros between its elements, which are stored and multiplied. Other kernels of at most 8 bits take a byte a weight; float ones 4 bytes.
//! Tables take, per output channel, 13 bytes of fixed point before an activation quantizer, 8 bytes (f32 scale and bias) for
//! logits and float layers; [`Footprint::of_program`] counts the tables of the program itself, thresholds included.
//!
//! *RAM* is the arena of [`crate::arena`] plus 4 bytes a logit. What is stored: the input, every activation and every pool. A
//! convolution, dense layer, normalisation or sum whose only reader is a normalisation, sum or activation is never stored
//! but computed, position by position, where it is read (both branches of a residual sum together); flatten and dropout are
//! other names of what they read. Stored elements take 1 byte for codes, 2 for sums of codes under an average pool, else 4.

mod memory;
mod table;

use qnn::kernel_quantizer;
use qnn::network::{LayerOp, Network};
use serde::Serialize;

use crate::DeployError;
use crate::epilogue::IntegerEpilogue;
use crate::image::write_image;
use crate::program::{Epilogue, Program, StepOp};

pub use memory::Ram;

/// How a layer's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Trits.
    Ternary,
    /// Codes of at most 8 bits.
    Int8,
    /// f32.
    Float,
}

/// One layer with weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerFootprint {
    /// Its name.
    pub name: String,
    /// How its weights are stored.
    pub precision: Precision,
    /// Weights, biases not counted.
    pub weights: u64,
    /// Bytes of them at 2 bits a trit.
    pub bytes: u64,
    /// Bytes of them at five trits a byte.
    pub bytes_base3: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
}

/// Multiply-accumulates of one inference by weight precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Macs {
    /// With trits: additions and subtractions.
    pub ternary: u64,
    /// With 8-bit weights.
    pub int8: u64,
    /// With float weights.
    pub float: u64,
}

impl Macs {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.ternary + self.int8 + self.float
    }
}

/// What a network costs; see the module's documentation for what is counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// Name of the network.
    pub network: String,
    /// Layers with weights.
    pub layers: Vec<LayerFootprint>,
    /// Bytes of weights at 2 bits a trit.
    pub weight_bytes: u64,
    /// Bytes of weights at five trits a byte.
    pub weight_bytes_base3: u64,
    /// Bytes of epilogue tables.
    pub table_bytes: u64,
    /// Bytes of the model image (weights, tables, header, records), if there is a program.
    pub image_bytes: Option<u64>,
    /// Working memory.
    pub ram: Ram,
    /// Work of one inference.
    pub macs: Macs,
}

impl Footprint {
    /// The footprint of any network.
    ///
    /// # Errors
    /// Bad wiring or shapes.
    pub fn of_network(net: &Network) -> Result<Self, DeployError> {
        let shapes = net.shapes()?;
        let (mut layers, mut macs, mut table_bytes) = (Vec::new(), Macs::default(), 0);
        for (i, (layer, shape)) in net.layers.iter().zip(&shapes).enumerate() {
            let Some((_, kernel)) = shape.params.iter().find(|(suffix, _)| *suffix == "kernel") else {
                continue;
            };
            let stored = |n: u64| n / taps(&layer.op, false) * taps(&layer.op, true);
            let weights = stored(kernel.iter().product::<usize>() as u64);
            let layer_macs = stored(shape.macs);
            let precision = precision(&layer.op);
            let (bytes, bytes_base3, work) = match precision {
                Precision::Ternary => (weights.div_ceil(4), weights.div_ceil(5), &mut macs.ternary),
                Precision::Int8 => (weights, weights, &mut macs.int8),
                Precision::Float => (4 * weights, 4 * weights, &mut macs.float),
            };
            *work += layer_macs;
            let logits = i + 1 == net.layers.len();
            let per_channel = if precision == Precision::Float || logits { 8 } else { 13 };
            table_bytes += per_channel * shape.output[2] as u64;
            let name = layer.name.clone();
            layers.push(LayerFootprint { name, precision, weights, bytes, bytes_base3, macs: layer_macs });
        }
        Ok(Self {
            network: net.name.clone(),
            weight_bytes: layers.iter().map(|l| l.bytes).sum(),
            weight_bytes_base3: layers.iter().map(|l| l.bytes_base3).sum(),
            layers,
            table_bytes,
            image_bytes: None,
            ram: memory::ram(net, &shapes)?,
            macs,
        })
    }

    /// The footprint of a lowered network, with the tables and the image as they are.
    ///
    /// # Errors
    /// As [`Self::of_network`] and [`write_image`].
    pub fn of_program(net: &Network, program: &Program) -> Result<Self, DeployError> {
        let tables = program.steps.iter().map(|s| step_tables(&s.op)).sum();
        let image = write_image(program)?.len() as u64;
        Ok(Self { table_bytes: tables, image_bytes: Some(image), ..Self::of_network(net)? })
    }

    /// Bytes of flash at 2 bits a trit.
    pub fn flash(&self) -> u64 {
        self.weight_bytes + self.table_bytes
    }

    /// Bytes of flash at five trits a byte.
    pub fn flash_base3(&self) -> u64 {
        self.weight_bytes_base3 + self.table_bytes
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// The same topology with 8-bit weights and activations everywhere: what a footprint is compared with.
pub fn eight_bit_twin(net: &Network) -> Network {
    let parse = |text: &str| text.parse().ok();
    let mut twin = net.clone();
    for layer in &mut twin.layers {
        match &mut layer.op {
            LayerOp::Conv2d { quantizer, .. }
            | LayerOp::DepthwiseConv2d { quantizer, .. }
            | LayerOp::Dense { quantizer, .. } => *quantizer = parse("quantized_bits(8, 0, alpha=auto)"),
            LayerOp::Activation { quantizer } => *quantizer = parse("quantized_relu(8, 2)"),
            _ => {}
        }
    }
    twin
}

/// Sizes of MLPerf Tiny's 8-bit reference models, in bytes of their `.tflite` files (mlcommons/tiny @1afd2c9): the
/// image classifier ResNetv1-8 and the keyword spotter DS-CNN.
pub const MLPERF_TINY: [(&str, u64); 2] = [("resnet8 .tflite", 98_496), ("ds_cnn .tflite", 53_936)];

/// Positions of a convolution's kernel, with or without the zeros that a dilation puts between them; 1 for other layers.
fn taps(op: &LayerOp, spread: bool) -> u64 {
    match op {
        LayerOp::Conv2d { kernel, dilation, .. } | LayerOp::DepthwiseConv2d { kernel, dilation, .. } => {
            let along = |i: usize| {
                let distance = if spread { dilation[i] } else { 1 };
                ((kernel[i] - 1) * distance + 1) as u64
            };
            along(0) * along(1)
        }
        _ => 1,
    }
}

fn precision(op: &LayerOp) -> Precision {
    match kernel_quantizer(op) {
        Some(q) if q.trits() => Precision::Ternary,
        Some(q) if q.bits() <= 8 => Precision::Int8,
        _ => Precision::Float,
    }
}

fn step_tables(op: &StepOp) -> u64 {
    let float = || {
        op.branches().iter().map(|b| {
            let tables = 1 + usize::from(b.affine.bias.is_some()) + 2 * usize::from(b.affine.norm.is_some());
            4 * (tables * b.affine.scale.len()) as u64
        })
    };
    match op {
        StepOp::Compute { epilogue: Epilogue::Integer(channels), .. } => {
            let bytes = |c: &IntegerEpilogue| match c {
                IntegerEpilogue::Multiplier { .. } => 13,
                IntegerEpilogue::Thresholds { at, .. } => 13 + 4 * at.len() as u64,
                IntegerEpilogue::Float { .. } => 13 + 16,
            };
            channels.iter().map(bytes).sum()
        }
        StepOp::Compute { .. } | StepOp::Logits { .. } => float().sum(),
        StepOp::MaxPool { .. } | StepOp::SumPool { .. } => 0,
    }
}
