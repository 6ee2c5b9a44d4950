"""bench_inputs.py - the random inputs of bsd_bench in PyTorch: element x of a tensor is the same number there.

Pair p of tensor t takes the word mix(mix(mix(seed) ^ t) ^ p), splitmix64's finaliser, and Box and Muller's
transform of two uniform numbers of 24 bits (see bench/README.md). Cosine and logarithm of another library may
differ in the last bit of fp32, before rounding to the dtype.
"""
import torch

TENSORS = {"q": 0, "k": 1, "v": 2, "do": 3}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
PIECE = 1 << 24  # pairs that are made at a time


def signed(value):
    """A 64-bit word as PyTorch's int64 holds it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def shifted(z, bits):
    """A logical shift to the right of int64 words."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z):
    z = z + signed(0x9E3779B97F4A7C15)
    z = (z ^ shifted(z, 30)) * signed(0xBF58476D1CE4E5B9)
    z = (z ^ shifted(z, 27)) * signed(0x94D049BB133111EB)
    return z ^ shifted(z, 31)


def normals(tensor, seed, first, count, device):
    """Elements first .. first+count-1 of a tensor in fp32."""
    stream = mix(mix(torch.tensor(signed(seed), device=device)) ^ TENSORS[tensor])
    pairs = torch.arange(first // 2, (first + count + 1) // 2, device=device)
    word = mix(stream ^ pairs)
    u1 = (shifted(word, 40) + 1).float() * 2.0**-24
    angle = (word & 0xFFFFFF).float() * torch.tensor(2.0**-24 * 6.28318531, dtype=torch.float32, device=device)
    radius = torch.sqrt(-2 * torch.log(u1))
    both = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten()
    return both[first % 2:first % 2 + count]


def shard(tensor, seed, n, first, count, heads, dim, dtype, device):
    """Tokens first .. first+count-1 of n: [count][heads][dim]."""
    assert first + count <= n
    out = torch.empty(count * heads * dim, dtype=DTYPES[dtype], device=device)
    for at in range(0, out.numel(), 2 * PIECE):
        now = min(2 * PIECE, out.numel() - at)
        out[at:at + now] = normals(tensor, seed, first * heads * dim + at, now, device)
    return out.view(count, heads, dim)
