#!/usr/bin/env python3
"""test_distributed.py - the ring and the all-gather give dense attention, on CPU ranks over gloo.

Needs PyTorch; without it the tests are skipped.
"""
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

try:
    import torch

    import bench_inputs
except ImportError:
    torch = None

# Relative errors that the kernels' own arithmetic explains; a shard left out gives more than 0.1.
BOUNDS = {"f32": 1e-5, "bf16": 1.2e-2}


def run(ranks, *options):
    """The objects that `ranks` processes print."""
    processes = []
    for rank in range(ranks):
        env = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
                   MASTER_PORT=str(20000 + os.getpid() % 10000), OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
        processes.append(subprocess.Popen(
            [sys.executable, os.path.join(HERE, "distributed.py"), "--device", "cpu", "--check", "--iters", "1",
             "--warmup", "0", *options], env=env, stdout=subprocess.PIPE, text=True))
    outputs = [p.communicate(timeout=120)[0] for p in processes]
    assert all(p.returncode == 0 for p in processes), "a rank failed"
    return [json.loads(line) for line in outputs[0].splitlines()]


@unittest.skipIf(torch is None, "no PyTorch")
class Distributed(unittest.TestCase):
    def judge(self, ranks, dtype):
        lines = run(ranks, "--n", "96", "192", "--heads", "3", "--dim", "16", "--dtype", dtype)
        self.assertEqual([(line["peer"], line["n"]) for line in lines],
                         [("ring", 96), ("allgather", 96), ("ring", 192), ("allgather", 192)])
        for line in lines:
            self.assertEqual(line["ranks"], ranks)
            self.assertGreater(line["fwd_ms"], 0)
            self.assertGreater(line["bwd_ms"], 0)
            for name, error in line["error"].items():
                self.assertLess(error, BOUNDS[dtype], f"{line['peer']} {name}")
        return lines

    def test_one_rank(self):
        for line in self.judge(1, "f32"):
            self.assertEqual((line["bytes_fwd"], line["bytes_bwd"]), (0, 0))

    def test_two_ranks(self):
        shard = 96 // 2 * 3 * 16
        ring, gather = self.judge(2, "f32")[:2]
        self.assertEqual(ring["bytes_fwd"], 2 * 2 * shard * 4)
        self.assertEqual(gather["bytes_fwd"], ring["bytes_fwd"])
        self.assertEqual(ring["bytes_bwd"] - ring["bytes_fwd"], 4 * 2 * shard * 4)

    def test_three_ranks(self):
        self.judge(3, "f32")

    def test_rounded(self):
        self.judge(2, "bf16")


@unittest.skipIf(torch is None, "no PyTorch")
class Inputs(unittest.TestCase):
    def test_mix_is_that_of_splitmix64(self):
        # the first outputs of splitmix64 with the states 0 and 1234567
        for state, expected in ((0, 0xE220A8397B1DCDAF), (1234567, 6457827717110365317)):
            self.assertEqual(bench_inputs.mix(torch.tensor(state)).item(), bench_inputs.signed(expected))

    def test_shards_are_parts_of_the_whole(self):
        whole = bench_inputs.shard("k", 7, 10, 0, 10, 3, 5, "f32", "cpu")
        for first in range(10):
            part = bench_inputs.shard("k", 7, 10, first, 10 - first, 3, 5, "f32", "cpu")
            self.assertTrue(torch.equal(part, whole[first:]))

    def test_numbers_are_normal_and_of_their_own(self):
        q = bench_inputs.shard("q", 0, 4096, 0, 4096, 4, 16, "f32", "cpu").flatten()
        k = bench_inputs.shard("k", 0, 4096, 0, 4096, 4, 16, "f32", "cpu").flatten()
        self.assertLess(abs(q.mean().item()), 0.01)
        self.assertLess(abs(q.var().item() - 1), 0.02)
        self.assertLess(abs((q * k).mean().item()), 0.01)


if __name__ == "__main__":
    unittest.main()
