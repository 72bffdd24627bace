"""PyTorch on single 3x3 convolutions in f32: forward, input gradient and weight gradient."""

import functools
import os

import worker  # first: it keeps standard output for the protocol

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(worker.threads())

import torch

from kernel_shapes import CONVOLUTIONS, FLOAT, GRADIENTS, TRAINED, conv_name

torch.set_num_threads(worker.threads())
torch.set_num_interop_threads(1)
torch.manual_seed(0)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
HOW = ([1, 1], [1, 1], [1, 1])  # stride, padding, dilation


def conv(layout, what, batch, side, cin, cout):
    tensor = lambda *shape: torch.rand(shape).contiguous(memory_format=LAYOUTS[layout])
    x, w, dy = tensor(batch, cin, side, side), tensor(cout, cin, 3, 3), tensor(batch, cout, side, side)
    mask = [what == "input gradient", what == "weight gradient", False]

    def call():
        with torch.inference_mode():
            if what:
                torch.ops.aten.convolution_backward(dy, x, w, None, *HOW, False, [0, 0], 1, mask)
            else:
                torch.nn.functional.conv2d(x, w, padding=1)

    return worker.rate(call, batch * side * side * cin * cout * 9 / 1e9)


def works(layout):
    table = {conv_name(*s): functools.partial(conv, layout, None, *s) for s in CONVOLUTIONS}
    for s in CONVOLUTIONS + TRAINED:
        for what in GRADIENTS:
            table[f"{conv_name(*s)} {what}"] = functools.partial(conv, layout, what, *s)
    return table


capability = torch.backends.cpu.get_cpu_capability()
worker.serve([
    worker.Peer(
        f"PyTorch f32, {capability}, {layout}", torch.__version__, "GMAC/s", works(layout),
        ours=[*FLOAT, *(f"f32 {what}" for what in GRADIENTS)],
    )
    for layout in LAYOUTS
])
