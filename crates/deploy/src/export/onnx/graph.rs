//! Builds the graph: nodes and constants with names of their own.

use super::OPSET;
use super::message::{Attribute, Graph, Model, Node, OperatorSet, Tensor, ValueInfo, element};
use crate::program::{Program, Window};

/// The version of the file format that came with [`OPSET`].
const IR_VERSION: i64 = 13;

#[derive(Default)]
pub(super) struct Builder {
    graph: Graph,
}

impl Builder {
    /// Appends a node; its output's name.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = format!("{}_{}", op.to_lowercase(), self.graph.node.len());
        self.push(op, inputs, &output, attributes);
        output
    }

    /// Appends a node whose output is the graph's.
    pub(super) fn named(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.push(op, inputs, output, Vec::new());
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) {
        self.graph.node.push(Node {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
    }

    /// A constant from its little-endian bytes; its name.
    pub(super) fn tensor(&mut self, data_type: i32, raw_data: Vec<u8>, shape: &[usize]) -> String {
        let name = format!("constant_{}", self.graph.initializer.len());
        let dims = shape.iter().map(|&n| n as i64).collect();
        self.graph.initializer.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }

    pub(super) fn floats(&mut self, values: &[f32], shape: &[usize]) -> String {
        self.tensor(element::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect(), shape)
    }

    pub(super) fn doubles(&mut self, values: &[f32], shape: &[usize]) -> String {
        self.tensor(element::DOUBLE, values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(), shape)
    }

    pub(super) fn longs(&mut self, values: &[i64], shape: &[usize]) -> String {
        self.tensor(element::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect(), shape)
    }

    pub(super) fn int8(&mut self, values: &[i8], shape: &[usize]) -> String {
        self.tensor(element::INT8, values.iter().map(|&v| v as u8).collect(), shape)
    }

    /// Trits in two's complement, four to a byte, earliest lowest.
    pub(super) fn int2(&mut self, values: &[i8], shape: &[usize]) -> String {
        let byte = |four: &[i8]| four.iter().rev().fold(0_u8, |byte, &v| byte << 2 | (v as u8 & 3));
        self.tensor(element::INT2, values.chunks(4).map(byte).collect(), shape)
    }

    pub(super) fn finish(self, program: &Program) -> Model {
        let graph = Graph {
            name: program.name.clone(),
            input: vec![ValueInfo::batch("input", element::UINT8, &program.input)],
            output: vec![
                ValueInfo::batch("accumulators", element::INT32, &[program.classes]),
                ValueInfo::batch("logits", element::FLOAT, &[program.classes]),
            ],
            ..self.graph
        };
        Model {
            ir_version: IR_VERSION,
            producer_name: "ternion".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: format!(
                "Input codes [batch, h, w, c]; the real value of a code is (code - {}) * {:e}. Exact with graph \
                 optimisations off or session.qdq_matmulnbits_accuracy_level = 1.",
                program.grid.zero_point, program.grid.scale
            ),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        }
    }
}

/// Attributes of a convolution or pool with `groups` groups.
pub(super) fn conv_attributes(w: &Window, groups: usize) -> Vec<Attribute> {
    // What the last window needs beyond the image; a valid convolution may leave rows over instead.
    let after = |out: usize, stride: usize, kernel: usize, size: usize, before: usize| {
        ((out - 1) * stride + kernel).saturating_sub(size + before)
    };
    let bottom = after(w.out_h, w.stride_h, w.kernel_h, w.in_h, w.pad_top);
    let right = after(w.out_w, w.stride_w, w.kernel_w, w.in_w, w.pad_left);
    vec![
        Attribute::ints("kernel_shape", &[w.kernel_h, w.kernel_w]),
        Attribute::ints("strides", &[w.stride_h, w.stride_w]),
        Attribute::ints("pads", &[w.pad_top, w.pad_left, bottom, right]),
        Attribute::int("group", groups as i64),
    ]
}
