#!/usr/bin/env python3
"""test_peers.py - what can be tested of the peers without a GPU; the part on masks needs PyTorch.

usage: BSD_BENCH=path/of/bsd_bench test_peers.py
"""
import dataclasses
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lists  # noqa: E402
import ours  # noqa: E402
import peers  # noqa: E402
import table  # noqa: E402
from cells import CELLS, Cell  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

PROGRAM = os.environ.get("BSD_BENCH", "bsd_bench")

SMALL = [
    Cell("plain", 512, "blocks=strided(1:2,density=0.3)", block=32, heads=4, kv_heads=4, dim=16),
    Cell("causal", 512, "blocks=strided(1:2,density=0.3)", block=32, heads=4, kv_heads=4, dim=16, causal=True),
    Cell("ragged", 475, "blocks=strided(1:2,density=0.3)", block=32, heads=4, kv_heads=4, dim=16),
    Cell("ragged", 475, "blocks=strided(1:2,density=0.3)", block=32, heads=2, kv_heads=2, dim=16, causal=True),
    Cell("documents", 512, "blocks=strided(1:2,density=0.3)", block=32, heads=2, kv_heads=2, dim=16,
         documents=(100, 64, 1, 347)),
    Cell("windowed", 512, "window=50:70,blocks=local(3,3)", block=32, heads=2, kv_heads=2, dim=16),
    Cell("GQA", 512, "blocks=random(5,3)", block=32, heads=4, kv_heads=2, dim=16),
    Cell("LongNet", 512, "w=128;w=256,r=2;r=4", block=32, heads=5, kv_heads=5, dim=16),
    Cell("LongNet", 512, "w=128;w=256,r=2;r=4", block=32, heads=2, kv_heads=2, dim=16, causal=True),
]


class WithBench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.bench = ours.Bench(PROGRAM, cls.scratch.name)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def rows(self, cell):
        plan = self.bench.dump(cell)
        return plan, lists.read(self.bench.lists_file(cell), cell)


class Lists(WithBench):
    def test_counts_are_the_plans(self):
        for cell in SMALL + [dataclasses.replace(c, n=min(c.n, 4096 if c.n % 64 == 0 else 4059)) for c in CELLS
                             if not c.documents and "LongNet" != c.case]:
            plan, rows = self.rows(cell)
            self.assertEqual(lists.count(cell, rows), (plan["active_blocks"], plan["active_pairs"]), cell.name)

    def test_bad_lines_are_refused(self):
        path = os.path.join(self.scratch.name, "bad")
        for text in ("0 0 0 0 0 1 2\n", "0 0 0 0: 1\n", "0 0 0 0 0: 2 1\n", "0 0 0 0 0: 1 1\n"):
            with open(path, "w") as file:
                file.write(text)
            with self.assertRaises(ValueError):
                lists.read(path, SMALL[0])

    def test_names_are_distinct(self):
        self.assertEqual(len({c.name for c in CELLS}), len(CELLS))

    def test_groups_share_a_shape(self):
        for cells in peers.groups_of(CELLS).values():
            self.assertEqual(len({(c.n, c.heads, c.kv_heads, c.dim, c.dtype, c.causal, c.documents) for c in cells}), 1)


class Table(unittest.TestCase):
    def write(self, results, cells):
        text = io.StringIO()
        table.write(results, cells, text)
        return text.getvalue().splitlines()

    def results(self, cell, flex, own, cold=None):
        results = table.Results()
        results.describe(cell, 0.1, 10**9)
        results.add(cell, "flex", "forward", "hot", flex)
        results.add(cell, "ours", "forward", "hot", own)
        if cold is not None:
            results.add(cell, "ours", "forward", "cold", cold)
        return results

    def test_ratio_rate_and_verdict(self):
        cell = Cell("x", 32768, "blocks=full", gate_forward=1.5)
        _, forward, backward, *_, footer = self.write(self.results(cell, 0.6, 0.3), [cell])
        self.assertIn(" 2.00  1.50 pass", forward)
        self.assertIn(f"{4 * 64 * 1e9 / 0.3 / 1e9:.0f}", forward)
        self.assertIn(" - ", backward)
        self.assertTrue(footer.startswith("gates: 1 reached, 0 missed"), footer)
        self.assertIn("MISS", self.write(self.results(cell, 0.4, 0.3), [cell])[1])

    def test_limits_in_microseconds(self):
        cell = Cell("x", 8192, "blocks=full", limit_hot=0.012, limit_cold=0.018)
        text = "\n".join(self.write(self.results(cell, 0.017, 0.0119, 0.0181), [cell]))
        self.assertIn("hot: 11.9 us, gate 12 us: pass", text)
        self.assertIn("cold: 18.1 us, gate 18 us: MISS", text)

    def test_every_cell_has_a_line_without_measurements(self):
        results = table.Results()
        for cell in CELLS:
            results.describe(cell, 0.1, 10**9)
        lines = self.write(results, CELLS)
        self.assertEqual(len(lines), 2 + 2 * len(CELLS))
        self.assertIn("0 reached, 0 missed", lines[-1])

    def test_a_wrong_peer_is_flagged(self):
        results = table.Results()
        cell = SMALL[0]
        results.errors[cell, "forward"] = "ours 2e-3"
        peers.take(dict(cell=0, errors=(0.5, float("nan"))), [cell], results)
        self.assertEqual(results.errors[cell, "forward"], "ours 2e-3 flex 5.0e-01 WRONG")
        self.assertIn("WRONG", results.errors[cell, "backward"])


def allowed(mask, heads, n):
    """[heads][n][n]: what FlexAttention's kernels compute by a mask: mask_mod in partial blocks, all of full ones."""
    block, (nb, _) = mask.BLOCK_SIZE[0], mask.kv_indices.shape[-2:]
    tables = {False: (mask.kv_num_blocks, mask.kv_indices), True: (mask.full_kv_num_blocks, mask.full_kv_indices)}
    whole = torch.zeros(heads, nb * block, nb * block, dtype=torch.bool)
    for full, (counts, columns) in tables.items():
        for h in range(heads):
            for i in range(nb):
                for j in columns[0, h, i, :counts[0, h, i]].tolist():
                    q = torch.arange(i * block, (i + 1) * block)[:, None]
                    k = torch.arange(j * block, (j + 1) * block)[None, :].clamp_max(n - 1)
                    whole[h, i * block:(i + 1) * block, j * block:(j + 1) * block] |= (
                        torch.tensor(True) if full else mask.mask_mod(torch.tensor(0), torch.tensor(h), q, k))
    return whole[:, :n, :n]


def flex_attention(q, k, v, block_mask, enable_gqa=False, kernel_options=None, return_lse=False):
    """Stands in for FlexAttention, which has no backward on the CPU and no blocks there unless compiled."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    s = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    s = s.masked_fill(~allowed(block_mask, q.shape[1], q.shape[2])[None], float("-inf"))
    o = torch.nan_to_num(torch.softmax(s, -1)) @ v
    return (o, torch.logsumexp(s, -1)) if return_lse else o


@unittest.skipIf(torch is None, "no PyTorch")
class Masks(WithBench):
    def attend(self, cell, rows):
        import attention
        import reference
        torch.manual_seed(1)
        inputs = [torch.randn(1, h, cell.n, cell.dim, requires_grad=True)
                  for h in (cell.heads, cell.kv_heads, cell.kv_heads)]
        gradient = torch.randn(1, cell.heads, cell.n, cell.dim)
        if len(lists.branches(cell.pattern)) > 1:
            flex = attention.FlexBranches(cell, rows, flex_attention, attention.combine, "cpu")
        else:
            flex = attention.Flex(cell, rows, flex_attention, "cpu")
        fitted = [flex.fit(x) for x in inputs]
        output = flex.run(*fitted)
        gradients = torch.autograd.grad(output, fitted, flex.fit(gradient))

        def errors(wanted):
            return reference.errors(cell, wanted, cell.kv_heads - 1, inputs, gradient, flex.unfit(output),
                                    [flex.unfit(g) for g in gradients])

        return errors

    def test_flex_is_the_reference(self):
        for cell in SMALL:
            _, rows = self.rows(cell)
            for error in self.attend(cell, rows)(rows):
                self.assertLess(error, 2e-5, cell)

    def test_a_dropped_block_is_caught(self):
        for cell in SMALL:
            _, rows = self.rows(cell)
            spoilt = list(rows)
            last = max(i for i, r in enumerate(rows) if len(r.columns) > 1)
            spoilt[last] = dataclasses.replace(rows[last], columns=rows[last].columns[1:])
            for error in self.attend(cell, rows)(spoilt):
                self.assertGreater(error, 1e-3, cell)


@unittest.skipIf(torch is None, "no PyTorch")
class Tiles(unittest.TestCase):
    def fitting(self, block, tuned):
        """How many candidates that PyTorch has on an H100, for forward and backward, divide a block."""
        from torch._inductor import config
        from torch._inductor.template_heuristics.triton import CUDAConfigHeuristic
        candidates = CUDAConfigHeuristic()
        with mock.patch("torch.cuda.get_device_capability", lambda: (9, 0)), config.patch(max_autotune=tuned):
            for tiles in (candidates.get_flex_attn_fwd_configs(64, torch.bfloat16),
                          candidates.get_flex_attn_bwd_configs(64, torch.bfloat16)):
                yield sum(all(block % size == 0 for name, size in vars(tile).items() if name.startswith("block"))
                          for tile in tiles)

    def test_one_candidate_is_left_for_blocks_of_64(self):
        import attention
        self.assertEqual(list(self.fitting(64, False)), [0, 0])
        attention.narrow_autotuning()
        self.assertEqual(list(self.fitting(64, True)), [1, 1])
        self.assertEqual(list(self.fitting(128, False)), [1, 1])


if __name__ == "__main__":
    unittest.main()
