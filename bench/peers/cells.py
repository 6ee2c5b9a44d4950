"""cells.py - what is measured: shapes, patterns and the gates that a cell must reach."""
from dataclasses import dataclass, field

K = 1024


@dataclass(frozen=True)
class Cell:
    """One pattern on one shape. Rates count 4 (forward) or 10 (backward) times dim per active pair."""

    case: str
    n: int
    pattern: str
    block: int = 64
    heads: int = 8
    kv_heads: int = 8
    dim: int = 64
    dtype: str = "bf16"
    causal: bool = False
    documents: tuple = ()  # lengths; none: one document
    gate_forward: float = None  # times as fast as FlexAttention at the same block size
    gate_backward: float = None
    limit_hot: float = None  # ms of the forward
    limit_cold: float = None
    quick: bool = False

    @property
    def group(self):
        """Cells of a group share a process of peers, its compiled kernels and dense measurements."""
        return "-".join(str(x) for x in (self.case.split()[0], self.n, self.heads, self.kv_heads, self.dim, self.dtype))

    @property
    def key(self):
        """What cells at other block sizes have in common."""
        return (self.group, self.pattern)

    @property
    def name(self):
        return "".join(c if c.isalnum() else "_" for c in f"{self.group}-{self.pattern}-b{self.block}")[:120]

    def options(self, cu_seqlens_file=None):
        """The options of bsd_bench that pose this problem, without its pattern."""
        words = ["-l", self.n, "--heads", self.heads, "--kv-heads", self.kv_heads, "--dim", self.dim,
                 "--block", self.block, "--dtype", self.dtype]
        words += ["--causal"] if self.causal else []
        words += ["--cu-seqlens", cu_seqlens_file] if self.documents else []
        return [str(w) for w in words]


def strided(density):
    return f"blocks=strided(1:2,density={density})"


# LongNet's own geometric branches at 32K; every branch is 2048 gathered tokens a segment.
LONGNET = "w=2048;w=4096,r=2;w=8192,r=4;w=16384,r=8;r=16"
DOCUMENTS = (5000, 8192, 1021, 700, 6144, 3333, 8000, 378)

D64 = dict(gate_forward=1.5, gate_backward=1.35)
D64_AT_002 = dict(gate_forward=1.45, gate_backward=1.35)
D128 = dict(heads=16, kv_heads=16, dim=128, block=128, gate_forward=1.7, gate_backward=1.2)
AT_8K = dict(gate_forward=1.4, gate_backward=1.15)

CELLS = [
    Cell("8K", 8 * K, strided(0.1), **AT_8K, quick=True),
    Cell("8K", 8 * K, strided(0.02), gate_backward=1.15, limit_hot=0.012, limit_cold=0.018, quick=True),
    Cell("8K", 8 * K, strided(0.1), block=128, **AT_8K),
    Cell("8K", 8 * K, strided(0.02), block=128, gate_backward=1.15),
    Cell("32K", 32 * K, strided(0.1), **D64, quick=True),
    Cell("32K", 32 * K, strided(0.05), **D64),
    Cell("32K", 32 * K, strided(0.02), **D64_AT_002, quick=True),
    Cell("32K", 32 * K, strided(0.1), block=128, **D64, quick=True),
    Cell("32K", 32 * K, strided(0.05), block=128, **D64),
    Cell("32K", 32 * K, strided(0.02), block=128, **D64_AT_002, quick=True),
    Cell("32K random", 32 * K, "blocks=random(51,3)", gate_forward=1.3, quick=True),
    Cell("32K random", 32 * K, "blocks=random(10,3)", gate_forward=1.3),
    Cell("128K", 128 * K, strided(0.1), block=128, **D64),
    Cell("128K", 128 * K, strided(0.02), block=128, **D64_AT_002),
    Cell("D128", 32 * K, strided(0.1), **D128, quick=True),
    Cell("D128", 32 * K, strided(0.05), **D128),
    Cell("D128", 32 * K, strided(0.02), **D128, quick=True),
    Cell("causal", 32 * K, strided(0.1), causal=True, **D64, quick=True),
    Cell("causal", 32 * K, strided(0.1), causal=True, block=128, **D64),
    Cell("ragged", 32 * K - 37, strided(0.1), **D64),
    Cell("documents", 32 * K, strided(0.1), documents=DOCUMENTS, **D64),
    Cell("windowed", 32 * K, "window=1024:1024,blocks=local(16,16)", **D64),
    Cell("GQA8:2", 32 * K, strided(0.1), kv_heads=2, **D64),
    Cell("LongNet", 32 * K, LONGNET, block=128),
    Cell("f32", 8 * K, strided(0.1), dtype="f32"),
]
assert sum(DOCUMENTS) == 32 * K
