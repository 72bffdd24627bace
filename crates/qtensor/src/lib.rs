//! What a quantized value is: quantizers with QKeras semantics, scales, trits, keyed random streams.
#![forbid(unsafe_code)]
