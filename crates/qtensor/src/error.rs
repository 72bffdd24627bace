//! What can go wrong when a quantizer is parsed or applied.

/// A text that is not a quantizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text before the parenthesis is not a quantizer's name.
    #[error("unknown quantizer `{name}`; known: {known}")]
    UnknownName {
        /// The name given.
        name: String,
        /// Comma-separated names that exist.
        known: String,
    },
    /// A keyword the quantizer does not have.
    #[error("`{quantizer}` has no parameter `{keyword}`; it has: {known}")]
    UnknownKeyword {
        /// The quantizer's name.
        quantizer: &'static str,
        /// The keyword given.
        keyword: String,
        /// Comma-separated parameters that exist.
        known: String,
    },
    /// More positional arguments than parameters.
    #[error("`{quantizer}` takes at most {most} arguments, got {got}")]
    TooManyArguments {
        /// The quantizer's name.
        quantizer: &'static str,
        /// How many it takes.
        most: usize,
        /// How many were given.
        got: usize,
    },
    /// The same parameter given twice.
    #[error("`{quantizer}`: parameter `{keyword}` is given twice")]
    Repeated {
        /// The quantizer's name.
        quantizer: &'static str,
        /// The parameter.
        keyword: String,
    },
    /// A value of the wrong kind or outside its range.
    #[error("`{quantizer}`: {keyword} = `{value}` is not {expected}")]
    BadValue {
        /// The quantizer's name.
        quantizer: &'static str,
        /// The parameter.
        keyword: &'static str,
        /// The value given.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// Parentheses, quotes or commas that do not fit together.
    #[error("cannot read quantizer `{text}`: {why}")]
    Syntax {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A quantizer that cannot be applied to this tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// A slice whose length is not the product of the shape.
    #[error("{what} has {got} elements, shape {shape:?} needs {need}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The length it should have.
        need: usize,
    },
    /// A combination of parameters and phase QKeras has no meaning for (its assertions).
    #[error("`{quantizer}` in phase {phase:?}: {why}")]
    Unsupported {
        /// The quantizer's text form.
        quantizer: String,
        /// The phase asked for.
        phase: crate::Phase,
        /// Why not.
        why: &'static str,
    },
    /// A draw is needed and no random stream was given.
    #[error("`{quantizer}` draws random numbers in phase {phase:?} and needs a random stream")]
    NeedsStream {
        /// The quantizer's text form.
        quantizer: String,
        /// The phase asked for.
        phase: crate::Phase,
    },
    /// A scale cannot be computed from NaN or infinity.
    #[error("element {index} is {value}: no scale can be computed")]
    NotFinite {
        /// Position of the first such element.
        index: usize,
        /// The element.
        value: f64,
    },
    /// Codes do not fit the integer type asked for, or the quantizer has no integer codes.
    #[error("`{quantizer}` has no codes that fit {wanted}")]
    Codes {
        /// The quantizer's text form.
        quantizer: String,
        /// The integer type asked for.
        wanted: &'static str,
    },
    /// A scale axis the tensor does not have, or a block size that does not divide it.
    #[error("scale axis {axis} in blocks of {block} does not fit shape {shape:?}")]
    ScaleAxis {
        /// The axis.
        axis: usize,
        /// Elements per scale along it.
        block: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
}
