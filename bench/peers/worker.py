"""worker.py - the peers of one group of cells, in a process of their own: compile, check, wait, time.

Speaks JSON lines on standard output: {"rows": [...]} when everything is compiled and checked, then, once told
"go", a row for each measurement, then {"end": 1}.
"""
import json
import sys

import torch
from torch.nn.attention.flex_attention import flex_attention

import attention
import lists
import ours
import reference
import timing

DEVICE = "cuda"
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def say(**what):
    print(json.dumps(what), file=protocol, flush=True)


def brief(problem):
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]


class Inputs:
    """Sets of q, k, v of a shape, the first of which is used alone where inputs are hot."""

    def __init__(self, cell, cold):
        torch.manual_seed(0)
        dtype = DTYPES[cell.dtype]
        size = 2 * (cell.heads + cell.kv_heads) * cell.n * cell.dim * dtype.itemsize
        self.sets = [self.make(cell, dtype) for _ in range(timing.cold_sets(size) if cold else 1)]
        self.gradient = torch.randn(1, cell.heads, cell.n, cell.dim, device=DEVICE, dtype=dtype)

    @staticmethod
    def make(cell, dtype):
        return tuple(torch.randn(1, h, cell.n, cell.dim, device=DEVICE, dtype=dtype, requires_grad=True)
                     for h in (cell.heads, cell.kv_heads, cell.kv_heads))


class FlexCell:
    """A cell's FlexAttention: made, compiled by its first call, compared with the reference, later timed."""

    def __init__(self, cell, number, folder, kernels, inputs):
        self.cell, self.number = cell, number
        rows = lists.read(ours.Bench(None, folder).lists_file(cell), cell)
        if len(lists.branches(cell.pattern)) > 1:
            self.flex = attention.FlexBranches(cell, rows, kernels.flex(cell.block), kernels.combine, DEVICE)
        else:
            self.flex = attention.Flex(cell, rows, kernels.flex(cell.block), DEVICE)
        fitted = [self.flex.fit(x) for x in inputs.sets[0]]
        gradient = self.flex.fit(inputs.gradient)
        output = self.flex.run(*fitted)
        gradients = torch.autograd.grad(output, fitted, gradient)
        with torch.no_grad():
            self.flex.run(*fitted)
        self.errors = reference.errors(cell, rows, cell.kv_heads - 1, inputs.sets[0], inputs.gradient,
                                       self.flex.unfit(output), [self.flex.unfit(g) for g in gradients])

    def time(self, inputs, cold):
        sets = [tuple(self.flex.fit(x) for x in s) for s in (inputs.sets if cold else inputs.sets[:1])]
        forward, backward = timing.forward_and_backward(self.flex.run, sets, self.flex.fit(inputs.gradient))
        say(cell=self.number, peer="flex", inputs="cold" if cold else "hot", forward=forward, backward=backward)


class Kernels:
    """Compiled functions. The default tiles of FlexAttention do not fit blocks of 64 tokens, the autotuner's do."""

    def __init__(self, autotune):
        if not autotune:
            attention.narrow_autotuning()
        self.default, self.tuned = attention.compiled(flex_attention), attention.compiled(flex_attention, True)
        self.always_tuned = autotune
        self.combine = attention.compiled(attention.combine)

    def flex(self, block):
        return self.tuned if self.always_tuned or block < 128 else self.default


def prepare(options, cells, numbers, inputs):
    """FlexAttention of every cell, checked; what does not work becomes a note."""
    kernels, ready, rows = Kernels(options.autotune), [], []
    for cell, number in zip(cells, numbers):
        if cell.dtype == "f32":  # is there for the materialised baseline; no tiles are known for FlexAttention
            continue
        try:
            flex = FlexCell(cell, number, options.folder, kernels, inputs)
        except Exception as problem:  # whatever a peer fails by, the table has the others
            rows.append(dict(note=f"{cell.name}: flex: {brief(problem)}"))
            continue
        ready.append(flex)
        rows.append(dict(cell=number, errors=flex.errors))
    return ready, rows


def time_dense(cells, numbers, inputs):
    """Once for all cells of the group, which have one shape."""
    cell = cells[0]
    if cell.dtype == "f32" or cell.documents or "window" in cell.pattern or ";" in cell.pattern:
        names = []  # no dense attention computes the same, or none of these has the type
    else:
        names = ["cudnn", "flash"] if cell.n <= 32768 else ["cudnn"]
    for name in names:
        run = attention.dense(name, cell.causal, cell.heads != cell.kv_heads)
        try:
            forward, backward = timing.forward_and_backward(run, inputs.sets[:1], inputs.gradient)
        except Exception as problem:
            say(note=f"{cell.name}: {name}: {brief(problem)}")
            continue
        for number in numbers:
            say(cell=number, peer=name, inputs="hot", forward=forward, backward=backward)


def time_materialised(cells, numbers, inputs):
    """The seed report's own cell: 8K at 90 %."""
    for cell, number in zip(cells, numbers):
        if cell.n == 8192 and cell.block == 64 and cell.pattern.endswith("density=0.1)"):
            with torch.no_grad():
                ms = timing.median_ms(attention.materialised, inputs.sets[:1])
            say(cell=number, peer="materialised", inputs="hot", forward=ms)


def main(options, cells):
    global protocol
    protocol, sys.stdout = sys.stdout, sys.stderr  # what PyTorch prints goes to the log
    torch._dynamo.config.cache_size_limit = 256
    mine = [(i, c) for i, c in enumerate(cells) if c.group == options.worker]
    numbers, group = [i for i, _ in mine], [c for _, c in mine]
    inputs = Inputs(group[0], not options.hot)
    ready, rows = prepare(options, group, numbers, inputs)
    torch.cuda.empty_cache()
    say(rows=rows)
    if sys.stdin.readline().strip() != "go":
        return
    for cold in (False,) if options.hot else (False, True):
        for flex in ready:
            try:
                flex.time(inputs, cold)
            except Exception as problem:
                say(note=f"{flex.cell.name}: flex: {brief(problem)}")
    time_dense(group, numbers, inputs)
    time_materialised(group, numbers, inputs)
    say(end=1)
