//! Networks: differentiable graph, layers, zoo, training loop, checkpoints, summaries.
#![forbid(unsafe_code)]
