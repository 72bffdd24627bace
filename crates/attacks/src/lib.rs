//! Adversaries against anything that answers logits(x), and the robustness audit.
#![forbid(unsafe_code)]
