"""AutoAttack's standard sequence by torchattacks, with the published parameters, on MLPerf Tiny's trained ResNet.

torchattacks' own `AutoAttack` runs ten steps of each; here its APGD-CE, APGD-T, FAB-T and Square get the hundred steps and
5,000 queries of Croce and Hein (2020), each on what the ones before left standing.

`TERNION_MODELS` names the directory of `mlperf_tiny_resnet8.safetensors`, `TERNION_DATA` that of CIFAR-10's binary version.
"""

import json
import os
import pathlib
import struct
import sys
import warnings

import worker  # first: it keeps standard output for the protocol

warnings.filterwarnings("ignore")

import numpy
import torch
import torch.nn.functional as F
import torchattacks

torch.set_num_threads(worker.threads())

# Images of a sample; every sample takes the next ones of the test set.
SLICE = 64
NEEDED = ("TERNION_MODELS", "TERNION_DATA")


def tensors(path):
    """A safetensors file of f32 as tensors; convolution kernels become PyTorch's."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensor = torch.tensor(numpy.frombuffer(data[begin:end], numpy.float32).reshape(entry["shape"]))
            found[name] = tensor.permute(3, 2, 0, 1).contiguous() if tensor.dim() == 4 else tensor
    return found


def images():
    """CIFAR-10's test set: images in [0, 1], labels."""
    root = pathlib.Path(os.environ["TERNION_DATA"])
    path = next(iter(sorted(root.rglob("test_batch.bin"))), None)
    if path is None:
        raise FileNotFoundError(f"no test_batch.bin of CIFAR-10 below {root}")
    rows = numpy.fromfile(path, numpy.uint8).reshape(-1, 3073)
    x = torch.tensor(rows[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    return x, torch.tensor(rows[:, 0].astype(numpy.int64))


class ResNet8(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        for name, tensor in weights.items():
            self.register_buffer(name.replace(".", "__"), tensor)

    def of(self, layer, i, part):
        return getattr(self, f"{layer}_{i}__{part}" if i else f"{layer}__{part}")

    def conv(self, x, i, stride=1):
        kernel = self.of("conv2d", i, "kernel")
        pad = kernel.shape[2] // 2
        if stride == 2 and pad:
            # TensorFlow's SAME: one row and column more on the far side.
            x, pad = F.pad(x, (0, 1, 0, 1)), 0
        return F.conv2d(x, kernel, self.of("conv2d", i, "bias"), stride, pad)

    def norm(self, x, i):
        mean, variance, gamma, beta = (
            self.of("batch_normalization", i, part) for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, 1e-3)

    def forward(self, x):
        a = F.relu(self.norm(self.conv(x * 255, 0), 0))
        b = F.relu(a + self.norm(self.conv(F.relu(self.norm(self.conv(a, 1), 1)), 2), 2))
        c = self.norm(self.conv(F.relu(self.norm(self.conv(b, 3, 2), 3)), 4), 4)
        c = F.relu(c + self.conv(b, 5, 2))
        d = self.norm(self.conv(F.relu(self.norm(self.conv(c, 6, 2), 5)), 7), 6)
        d = F.relu(d + self.conv(c, 8, 2))
        return d.mean((2, 3)) @ self.of("dense", 0, "kernel") + self.of("dense", 0, "bias")


def autoattack(eps):
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} must name the directories of the trained network and of CIFAR-10")
    model = ResNet8(tensors(pathlib.Path(os.environ["TERNION_MODELS"]) / "mlperf_tiny_resnet8.safetensors")).eval()
    x, y = images()
    shared = {"norm": "Linf", "eps": eps / 255, "n_restarts": 1, "seed": 0}
    attacks = [
        torchattacks.APGD(model, steps=100, loss="ce", **shared),
        torchattacks.APGDT(model, steps=100, n_classes=10, **shared),
        torchattacks.FAB(model, steps=100, multi_targeted=True, n_classes=10, **shared),
        torchattacks.Square(model, n_queries=5000, p_init=0.8, loss="margin", resc_schedule=False, **shared),
    ]
    seen = {"images": 0, "clean": 0, "robust": 0}

    def correct(x, y):
        with torch.no_grad():
            return model(x).argmax(1) == y

    def attack():
        begin = seen["images"] % (len(x) - SLICE + 1)
        part, labels = x[begin : begin + SLICE], y[begin : begin + SLICE]
        standing = correct(part, labels).nonzero().flatten()
        seen["clean"] += len(standing)
        for one in attacks:
            if len(standing):
                adversarial = one(part[standing], labels[standing])
                standing = standing[correct(adversarial, labels[standing])]
        seen["robust"] += len(standing)
        seen["images"] += SLICE
        share = 100 / seen["images"]
        print(
            f"torchattacks, eps {eps}/255: of {seen['images']} images {seen['clean']} clean, {seen['robust']} robust"
            f" ({share * seen['clean']:.2f} %, {share * seen['robust']:.2f} %)",
            file=sys.stderr,
        )

    return worker.milliseconds_of_one(attack)


works = {f"AutoAttack, {SLICE} images, eps {eps}/255": lambda eps=eps: autoattack(eps) for eps in (1, 4)}
version = f"{torchattacks.__version__}, PyTorch {torch.__version__}"
worker.serve([worker.Peer("torchattacks AutoAttack", version, "ms", works)])
