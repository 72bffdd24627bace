//! What can go wrong: in the model, in an attack's text, or in the question asked.

use std::error::Error;

/// A model could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A buffer does not hold a whole number of samples, or not as many as the others.
    #[error("{what} holds {got} values, expected {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Values the model needs there.
        expected: usize,
        /// Values it was given.
        got: usize,
    },
    /// Whatever the model itself reports.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl ModelError {
    /// Wraps a model's own error (or a message).
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// An attack or an audit could not run.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The model failed.
    #[error("the model failed: {0}")]
    Model(#[from] ModelError),
    /// A white-box attack was given a model without gradients.
    #[error("{attack} needs gradients and the model gives none: use a black-box attack or `Access::White`")]
    NeedsGradients {
        /// The attack, as text.
        attack: String,
    },
    /// A parameter makes no sense.
    #[error("{attack}: {parameter} = {value}, expected {expected}")]
    Parameter {
        /// The attack, as text.
        attack: String,
        /// The parameter's name.
        parameter: &'static str,
        /// The value it has.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The attack is not defined for this norm.
    #[error("{attack} is not defined for the {norm} norm")]
    Norm {
        /// The attack's name.
        attack: &'static str,
        /// The norm asked for.
        norm: crate::Norm,
    },
    /// The loss needs more classes than the model has.
    #[error("the {loss} loss needs at least {needed} classes, the model has {classes}")]
    Classes {
        /// The loss, as text.
        loss: String,
        /// Classes it needs.
        needed: usize,
        /// Classes there are.
        classes: usize,
    },
    /// Samples, labels, identifiers or bounds of different lengths.
    #[error("{what}: {got} where {expected} were expected ({samples} samples of {features} features)")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Length needed.
        expected: usize,
        /// Length given.
        got: usize,
        /// Samples in the question.
        samples: usize,
        /// Features per sample of the model.
        features: usize,
    },
    /// A label or target names a class the model does not have.
    #[error("sample {id}: {what} {class} of a model with {classes} classes")]
    Label {
        /// The sample's identifier.
        id: u32,
        /// `label` or `target`.
        what: &'static str,
        /// The class named.
        class: u8,
        /// Classes the model has.
        classes: usize,
    },
    /// A clean sample or its starting point lies outside the input box, so no attack could honour both the box and eps = 0.
    #[error("sample {id}: feature {feature} is {value}, outside the input box [{lo}, {hi}]")]
    OutsideBox {
        /// The sample's identifier.
        id: u32,
        /// Index of the feature.
        feature: usize,
        /// Its value.
        value: f64,
        /// Lower bound.
        lo: f64,
        /// Upper bound.
        hi: f64,
    },
    /// An eps is negative, not a number, or infinite where the attack needs a radius.
    #[error("{attack}: eps {eps} is not a usable radius")]
    Eps {
        /// The attack, as text.
        attack: String,
        /// The radius.
        eps: f32,
    },
    /// Bounds that are reversed or not finite.
    #[error("input box [{lo}, {hi}] at feature {feature}: bounds must be finite and ordered")]
    Bounds {
        /// Index of the feature.
        feature: usize,
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// An audit was asked about no correctly classified sample, so there is nothing robust to audit.
    #[error("none of the {samples} samples is classified correctly: there is no robustness to audit")]
    NothingToAudit {
        /// Samples given.
        samples: usize,
    },
}

/// An attack, norm or loss could not be read from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct ParseError {
    /// The text at fault.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ParseError {
    pub(crate) fn new(text: &str, reason: impl Into<String>) -> Self {
        Self { text: text.to_owned(), reason: reason.into() }
    }
}
