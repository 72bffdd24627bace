"""PGD and Square by torchattacks and foolbox on MLPerf Tiny's ResNet, in PyTorch's f32 on the CPU."""

import warnings

import worker  # first: it keeps standard output for the protocol

warnings.filterwarnings("ignore")

import foolbox
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchattacks

torch.set_num_threads(worker.threads())
torch.manual_seed(1)

BATCH = 128
# Square's queries per image and sample of time.
QUERIES = 20


class Same(nn.Conv2d):
    """TensorFlow's SAME padding: at stride 2 one row and column more on the far side."""

    def forward(self, x):
        if self.stride == (2, 2) and self.kernel_size == (3, 3):
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.kernel_size[0] // 2)


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.a, self.an = Same(cin, cout, 3, stride), nn.BatchNorm2d(cout)
        self.b, self.bn = Same(cout, cout, 3), nn.BatchNorm2d(cout)
        self.skip = Same(cin, cout, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = F.relu(self.an(self.a(x)))
        return F.relu(self.bn(self.b(y)) + self.skip(x))


class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = Same(3, 16, 3), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.dense = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.dense(x.mean((2, 3)))


model = ResNet8().eval()
for p in model.parameters():
    p.requires_grad_(False)
x = torch.rand(BATCH, 3, 32, 32)
with torch.no_grad():
    y = model(x).argmax(1)


def torchattacks_pgd():
    attack = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10)
    return worker.milliseconds(lambda: attack(x, y))


def foolbox_pgd():
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=2 / 255, steps=10)
    wrong = foolbox.criteria.Misclassification(y)
    return worker.milliseconds(lambda: attack.run(wrapped, x, wrong, epsilon=8 / 255))


def square():
    # A radius without effect on the predictions: every image stays under attack to the end.
    attack = torchattacks.Square(model, eps=1e-6, n_queries=QUERIES, n_restarts=1, p_init=0.8, loss="margin")
    return worker.rate(lambda: attack(x, y), BATCH * QUERIES)


version = f"{torchattacks.__version__}, PyTorch {torch.__version__}"
PGD, SQUARE = "PGD-10, batch 128", "Square, queries"
worker.serve([
    worker.Peer("torchattacks", version, "ms", {PGD: torchattacks_pgd}),
    worker.Peer("foolbox", foolbox.__version__, "ms", {PGD: foolbox_pgd}),
    worker.Peer("torchattacks Square", version, "1/s", {SQUARE: square}),
])
