"""As torch_train.py, PyTorch and oneDNN held to AVX2: the instruction set that ours uses."""

import os

os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"

import torch_train  # noqa: F401
