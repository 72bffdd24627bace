"""The shapes of the group `kernels`, with the names that benches/src/shapes.rs gives them."""

# Endings of the names of our works that integer and float peers are compared with.
INTEGER = ["u8 x ternary", "2-bit x ternary", "1-bit x ternary"]
FLOAT = ["f32 x f32", "f32 x ternary"]
GRADIENTS = ["input gradient", "weight gradient"]

# m, k, n
GEMMS = [
    (1024, 27, 32), (1024, 288, 32), (256, 288, 64), (256, 576, 64), (64, 576, 128), (64, 1152, 128),
    (1, 2048, 10), (125, 64, 64), (512, 512, 512), (1, 4096, 4096), (128, 4096, 4096),
]

# batch, side, cin, cout: 3x3, stride 1, SAME
CONVOLUTIONS = [
    (1, 32, 32, 32), (1, 16, 64, 64), (1, 16, 32, 64), (1, 32, 16, 16), (1, 16, 128, 128), (1, 32, 64, 64),
    (1, 8, 128, 128), (1, 32, 3, 32), (64, 32, 32, 32),
]

# As above, of which only gradients are timed.
TRAINED = [(64, 16, 64, 64), (64, 8, 128, 128)]


def gemm_name(m, k, n):
    return f"gemm {m}x{k}x{n}"


def conv_name(batch, side, cin, cout):
    return f"conv3x3 {batch}x{side}x{side} {cin}->{cout}"


def copies(macs):
    """How many of an operation one graph holds, so that calling into a runtime costs little beside the work."""
    return max(1, min(16, int(4e6 / macs)))
