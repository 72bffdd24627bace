"""PyTorch on the CNN of the group `train`: a training step, one with an input Jacobian penalty by double backward, inference."""

import os

import worker  # first: it keeps standard output for the protocol

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(worker.threads())

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(worker.threads())
torch.set_num_interop_threads(1)
torch.manual_seed(0)
BATCH = 128


class Subject:
    """The network, a batch and an optimizer in one memory format."""

    def __init__(self, layout):
        layers, channels = [], 3
        for out, pool in ((32, 0), (32, 1), (64, 0), (64, 1), (128, 0), (128, 1)):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
            channels = out
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10)).to(memory_format=layout)
        self.x = torch.rand(BATCH, 3, 32, 32).contiguous(memory_format=layout)
        self.y = torch.randint(0, 10, (BATCH,))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step(self):
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.x), self.y).backward()
        self.optimizer.step()

    def penalised_step(self):
        self.optimizer.zero_grad()
        x = self.x.clone().requires_grad_()
        logits = self.net(x)
        v = torch.randn(BATCH, 10)
        v = v / v.norm(dim=1, keepdim=True)
        (gradient,) = torch.autograd.grad((logits * v).sum(), x, create_graph=True)
        penalty = 0.5 * 10 * (gradient**2).sum() / BATCH
        (F.cross_entropy(logits, self.y) + 0.01 * penalty).backward()
        self.optimizer.step()

    def inference(self, n):
        self.net.eval()
        x = self.x[:n].clone(memory_format=torch.preserve_format)

        def call():
            with torch.inference_mode():
                self.net(x)

        return call


LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


def steps(layout, penalised):
    subject = Subject(LAYOUTS[layout])
    for _ in range(3):
        subject.penalised_step() if penalised else subject.step()


if (grow := worker.asked_to_grow()) is not None:
    worker.grown(lambda: steps(grow[0], "penalised" in grow))
    raise SystemExit


def works(name):
    layout = LAYOUTS[name]
    return {
        "memory of a training step": lambda: worker.mebibytes(name),
        "memory of a training step with input JR": lambda: worker.mebibytes(name, "penalised"),
        "training step": lambda: worker.milliseconds(Subject(layout).step),
        "training step with input JR": lambda: worker.milliseconds(Subject(layout).penalised_step),
        "inference of 1": lambda: worker.milliseconds(Subject(layout).inference(1)),
        "inference of 64": lambda: worker.milliseconds(Subject(layout).inference(64)),
    }


capability = torch.backends.cpu.get_cpu_capability()
worker.serve([
    worker.Peer(f"PyTorch f32, {capability}, {layout}", torch.__version__, "ms", works(layout)) for layout in LAYOUTS
])
