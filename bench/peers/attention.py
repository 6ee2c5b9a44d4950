"""attention.py - the peers: FlexAttention over bsd_bench's lists, dense attention, materialised attention.

Tensors are [1][heads][n][dim]; every function returns o.
"""
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, and_masks

import lists

# Tiles that fit 64-token sparse blocks: of those that PyTorch's autotuner tries, what it takes on an H100 (its only
# candidate forward, the fastest of twelve backward).
FORWARD_64 = dict(block_m=64, block_n=64, num_stages=3, num_warps=4)
BACKWARD_64 = dict(block_m1=64, block_n1=64, block_m2=64, block_n2=64, num_stages=4, num_warps=4)


def compiled(function, autotune=False):
    return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs" if autotune else None)


def narrow_autotuning():
    """Leaves the autotuner one candidate for 64-token blocks, so that it has nothing to time: half a minute a kernel
    otherwise. Tiles given as kernel_options do not do: the backward refuses such blocks by its default tiles, which
    do not fit them, before it looks at the options. For the whole process: a backward is compiled in a thread of
    its own."""
    from torch._inductor.template_heuristics.triton import CUDAConfigHeuristic, FlexBwDConfig, FlexConfig
    tiles = CUDAConfigHeuristic()
    tiles.flex_attn_fwd_autotune_configs = [FlexConfig(**FORWARD_64)]
    tiles.flex_attn_bwd_autotune_configs = [FlexBwDConfig(**BACKWARD_64)]


# ---- block masks ----------------------------------------------------------------------------------


def block_tables(rows, heads, nb, is_full, start, device):
    """Counts [1][heads][nb] and columns [1][heads][nb][nb] of partial and of full blocks. start(row): where the
    row's own segment begins, in blocks."""
    tables = [[torch.zeros(1, heads, nb, dtype=torch.int32), torch.zeros(1, heads, nb, nb, dtype=torch.int32)]
              for _ in range(2)]
    for r in rows:
        at = start(r)
        chosen = [[], []]
        for column in r.columns:
            chosen[is_full(r, column)].append(at + column)
        for (counts, columns), some in zip(tables, chosen):
            counts[0, r.head, at + r.row] = len(some)
            columns[0, r.head, at + r.row, :len(some)] = torch.tensor(some, dtype=torch.int32)
    return [t.to(device) for pair in tables for t in pair]


def make_mask(rows, heads, length, block, is_full, start, mask_mod, device):
    nb = -(-length // block)
    partial, partial_columns, full, full_columns = block_tables(rows, heads, nb, is_full, start, device)
    return BlockMask.from_kv_blocks(partial, partial_columns, full, full_columns, BLOCK_SIZE=block,
                                    mask_mod=mask_mod, seq_lengths=(length, length))


def token_mask(cell, branch, valid):
    """What causal, window and ends of documents let count of a partial block; None: everything."""
    n, left, right, tests = cell.n, branch.left, branch.right, []
    if cell.causal:
        tests.append(lambda b, h, q, k: q >= k)
    if left >= 0:
        tests.append(lambda b, h, q, k: k >= q - left)
    if right >= 0:
        tests.append(lambda b, h, q, k: k <= q + right)
    if valid is not None:
        tests.append(lambda b, h, q, k: valid[k])
    elif n % cell.block:
        tests.append(lambda b, h, q, k: k < n)
    return and_masks(*tests) if len(tests) > 1 else tests[0] if tests else None


class Padded:
    """Packed documents for FlexAttention, whose blocks do not begin where a document does: each is padded to
    whole blocks. Tensors are padded before anything is timed."""

    def __init__(self, cell, device):
        self.starts = lists.padded_starts(cell)
        lengths = lists.document_lengths(cell)
        self.length = self.starts[-1]
        self.positions = torch.cat([torch.arange(s, s + n) for s, n in zip(self.starts, lengths)]).to(device)
        self.valid = torch.zeros(self.length, dtype=torch.bool, device=device)
        self.valid[self.positions] = True

    def pad(self, x):
        padded = x.new_zeros(*x.shape[:2], self.length, x.shape[3])
        padded[:, :, self.positions] = x.detach()
        return padded.requires_grad_(x.requires_grad)

    def unpad(self, x):
        return x[:, :, self.positions]


class Flex:
    """FlexAttention over a cell's lists. `fit` brings tensors into the form that `run` takes, `unfit` back."""

    def __init__(self, cell, rows, kernel, device):
        branch, = lists.branches(cell.pattern)
        padded = Padded(cell, device) if cell.documents else None
        starts = [s // cell.block for s in padded.starts] if padded else [0]
        length = padded.length if padded else cell.n
        ragged = {d: -(-n // cell.block) - 1 for d, n in enumerate(lists.document_lengths(cell)) if n % cell.block}

        def is_full(r, column):
            return ragged.get(r.document) != column and lists.is_full(cell, branch, r.tokens, r.row, column)

        self.mask = make_mask(rows, cell.heads, length, cell.block, is_full, lambda r: starts[r.document],
                              token_mask(cell, branch, padded.valid if padded else None), device)
        self.fit = padded.pad if padded else lambda x: x
        self.unfit = padded.unpad if padded else lambda x: x
        self.kernel, self.grouped = kernel, cell.heads != cell.kv_heads

    def run(self, q, k, v):
        return self.kernel(q, k, v, block_mask=self.mask, enable_gqa=self.grouped)


# ---- branches -------------------------------------------------------------------------------------


class Select(torch.autograd.Function):
    """x[:, h, positions[h]]. Each position is taken once, so that its gradient is put, not added."""

    @staticmethod
    def forward(x, positions):
        return torch.take_along_dim(x, positions[None, :, :, None], 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])
        ctx.n = inputs[0].shape[2]

    @staticmethod
    def backward(ctx, gradient):
        positions, = ctx.saved_tensors
        whole = gradient.new_zeros(*gradient.shape[:2], ctx.n, gradient.shape[3])
        return whole.scatter_(2, positions[None, :, :, None].expand_as(gradient), gradient), None


def combine(outputs, logs, steps, offsets):
    """Branches by their softmax denominators. offsets[b]: [heads][step], 1 where a head takes that residue."""
    weights, values = [], []
    for o, log, step, chosen in zip(outputs, logs, steps, offsets):
        _, heads, m, dim = o.shape
        whole = torch.where(chosen[:, None, :], log[..., None], float("-inf"))
        weights.append(whole.reshape(1, heads, m * step))
        values.append(o[:, :, :, None, :].expand(1, heads, m, step, dim).reshape(1, heads, m * step, dim))
    scale = torch.softmax(torch.stack(weights), 0)
    return sum(s[..., None] * v for s, v in zip(scale, values)).to(outputs[0].dtype)


class FlexBranches:
    """A user's LongNet on FlexAttention: gather what a branch selects, attend, combine the branches by lse. All of
    it is timed. The step divides each segment, so that the token at place p of its head's selection is p // r."""

    def __init__(self, cell, rows, kernel, combiner, device):
        self.kernel, self.combiner = kernel, combiner
        parts = lists.branches(cell.pattern)
        self.steps = [b.step for b in parts]
        self.fit = self.unfit = lambda x: x
        self.positions, self.masks, self.chosen = [], [], []
        for index, branch in enumerate(parts):
            width = branch.width or cell.n
            if width % branch.step or cell.n % width or width // branch.step % cell.block:
                raise ValueError(f"{cell.pattern}: segments of whole blocks are needed here")
            own = [branch.offset(h) for h in range(cell.heads)]
            starts = [torch.arange(o, cell.n, branch.step) for o in own]
            self.positions.append(torch.stack(starts).to(device))
            self.chosen.append(F.one_hot(torch.tensor(own), branch.step).bool().to(device))
            blocks = width // branch.step // cell.block
            self.masks.append(make_mask(
                [r for r in rows if r.branch == index], cell.heads, cell.n // branch.step, cell.block,
                lambda r, c, branch=branch: lists.is_full(cell, branch, r.tokens, r.row, c),
                lambda r, blocks=blocks: r.segment * blocks, token_mask(cell, branch, None), device))

    def run(self, q, k, v):
        outputs, logs = [], []
        for step, positions, mask in zip(self.steps, self.positions, self.masks):
            parts = (q, k, v) if step == 1 else [Select.apply(x, positions) for x in (q, k, v)]
            o, log = self.kernel(*parts, block_mask=mask, return_lse=True)
            outputs.append(o)
            logs.append(log)
        return self.combiner(outputs, logs, self.steps, self.chosen)


# ---- dense ----------------------------------------------------------------------------------------

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def dense(name, causal, grouped):
    def run(q, k, v):
        with sdpa_kernel(BACKENDS[name]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

    return run


def materialised(q, k, v):
    """The seed report's baseline."""
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
