#!/usr/bin/env python3
"""distributed.py - dense attention over ranks as PyTorch users do it: a ring, and an all-gather of K and V.

usage: mpirun -np N distributed.py [options], or torchrun --nproc-per-node N distributed.py [options]

Both peers run PyTorch's own attention kernels (flash on a GPU, its counterpart on the CPU) over
torch.distributed, one rank per GPU with NCCL, or gloo on CPUs, on the tensors of bsd_bench (same seed, same
numbers). Nothing is masked. Each rank holds a contiguous shard [n/N][heads][dim] of q, k, v.

  ring       K and V go round; each step's (o, lse) is merged in fp32; the next step's K and V travel while a
             step computes. Backward: dK and dV in fp32 go round with K and V.
  allgather  K and V of all ranks, then one call. Backward: gathered again, dK and dV reduce-scattered in fp32.

Rank 0 prints a JSON object per peer and length: times are medians over iterations of the slowest rank, tflops
count 4 D forward and 10 D backward per pair of all ranks together, bytes are received by all ranks together.
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_inputs  # noqa: E402


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--n", type=int, nargs="+", default=[262144], help="sequence lengths, divisible by the ranks")
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--dim", type=int, default=64)
    p.add_argument("--dtype", choices=["f32", "bf16", "f16"], default=None, help="default bf16 on a GPU, else f32")
    p.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--peers", nargs="+", choices=["ring", "allgather"], default=["ring", "allgather"])
    p.add_argument("--iters", type=int, default=5)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--check", action="store_true", help="compare with attention in fp64 on rank 0 (small n)")
    p.add_argument("--json", help="append the printed lines to this file")
    return p.parse_args()


# ---- PyTorch's kernels: tensors are [n][heads][dim], lse is [heads][n] fp32 -------------------------


def as_batch(x):
    return x.permute(1, 0, 2).unsqueeze(0)


def from_batch(x):
    return x.squeeze(0).permute(1, 0, 2)


class FlashCuda:
    name = "flash"

    @staticmethod
    def forward(q, k, v):
        o, lse, *self_ = torch.ops.aten._scaled_dot_product_flash_attention(as_batch(q), as_batch(k), as_batch(v))
        FlashCuda.rest = self_  # cum_seq_q, cum_seq_k, max_q, max_k, philox seed and offset, mask
        return from_batch(o), lse.squeeze(0)

    @staticmethod
    def backward(d_o, q, k, v, o, lse):
        cum_q, cum_k, _, _, seed, offset, _ = FlashCuda.rest
        grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            as_batch(d_o), as_batch(q), as_batch(k), as_batch(v), as_batch(o), lse.unsqueeze(0), cum_q, cum_k,
            q.shape[0], k.shape[0], 0.0, False, seed, offset)
        return [from_batch(g) for g in grads]


class FlashCpu:
    name = "flash_for_cpu"

    @staticmethod
    def forward(q, k, v):
        o, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(as_batch(q), as_batch(k), as_batch(v))
        return from_batch(o), lse.squeeze(0)

    @staticmethod
    def backward(d_o, q, k, v, o, lse):
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            as_batch(d_o), as_batch(q), as_batch(k), as_batch(v), as_batch(o), lse.unsqueeze(0), 0.0, False)
        return [from_batch(g) for g in grads]


# ---- the ring ------------------------------------------------------------------------------------


class Ring:
    name = "ring"

    def __init__(self, kernel, rank, ranks):
        self.kernel, self.rank, self.ranks = kernel, rank, ranks

    def post(self, tensor):
        """Sends to the next rank and takes from the one before: (what arrives, the requests)."""
        arriving = torch.empty_like(tensor)
        requests = dist.batch_isend_irecv([
            dist.P2POp(dist.isend, tensor, (self.rank + 1) % self.ranks),
            dist.P2POp(dist.irecv, arriving, (self.rank - 1) % self.ranks)])
        return arriving, requests

    @staticmethod
    def wait(posted):
        for request in posted[1]:
            request.wait()
        return posted[0]

    @staticmethod
    def merge(o, lse, o_new, lse_new):
        """Two partial results, o in fp32."""
        both = torch.logaddexp(lse, lse_new)
        weight, weight_new = torch.exp(lse - both).t().unsqueeze(-1), torch.exp(lse_new - both).t().unsqueeze(-1)
        return o.mul_(weight).addcmul_(o_new.float(), weight_new), both

    def forward(self, q, k, v):
        kv, o, lse = torch.stack([k, v]), None, None
        for step in range(self.ranks):
            posted = self.post(kv) if step + 1 < self.ranks else None
            o_new, lse_new = self.kernel.forward(q, kv[0], kv[1])
            o, lse = (o_new.float(), lse_new) if o is None else self.merge(o, lse, o_new, lse_new)
            kv = self.wait(posted) if posted else kv
        return o.to(q.dtype), lse

    def backward(self, d_o, q, k, v, o, lse):
        kv, dq, travelling = torch.stack([k, v]), torch.zeros_like(q, dtype=torch.float32), None
        for step in range(self.ranks):
            posted = self.post(kv) if step + 1 < self.ranks else None
            dq_new, dk_new, dv_new = self.kernel.backward(d_o, q, kv[0], kv[1], o, lse)
            dq += dq_new
            mine = torch.stack([dk_new, dv_new]).float()
            if travelling:
                mine += self.wait(travelling)
            travelling = self.post(mine) if self.ranks > 1 else (mine, [])
            kv = self.wait(posted) if posted else kv
        dk, dv = self.wait(travelling)
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)

    def bytes(self, shard, width):
        """Of all ranks, forward and backward; shard: elements of K of a rank."""
        hops = self.ranks * (self.ranks - 1)
        kv = hops * 2 * shard * width
        return kv, kv + (self.ranks * self.ranks * 2 * shard * 4 if self.ranks > 1 else 0)


# ---- the all-gather ------------------------------------------------------------------------------


class AllGather:
    name = "allgather"

    def __init__(self, kernel, rank, ranks):
        self.kernel, self.rank, self.ranks = kernel, rank, ranks

    def gather(self, x):
        whole = torch.empty((x.shape[0] * self.ranks, *x.shape[1:]), dtype=x.dtype, device=x.device)
        dist.all_gather_into_tensor(whole, x)
        return whole

    def scatter_sum(self, whole):
        mine = torch.empty((whole.shape[0] // self.ranks, *whole.shape[1:]), dtype=torch.float32, device=whole.device)
        dist.reduce_scatter_tensor(mine, whole.float().contiguous())
        return mine

    def forward(self, q, k, v):
        return self.kernel.forward(q, self.gather(k), self.gather(v))

    def backward(self, d_o, q, k, v, o, lse):
        dq, dk, dv = self.kernel.backward(d_o, q, self.gather(k), self.gather(v), o, lse)
        return dq, self.scatter_sum(dk).to(q.dtype), self.scatter_sum(dv).to(q.dtype)

    def bytes(self, shard, width):
        kv = self.ranks * (self.ranks - 1) * 2 * shard * width
        return kv, kv + self.ranks * (self.ranks - 1) * 2 * shard * 4


# ---- measuring -----------------------------------------------------------------------------------


def time_once(device, run):
    """Milliseconds of the slowest rank."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()
    if device.type == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = run()
        end.record()
        end.synchronize()
        ms = begin.elapsed_time(end)
    else:
        start = time.perf_counter()
        result = run()
        ms = 1e3 * (time.perf_counter() - start)
    slowest = torch.tensor([ms], device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return slowest.item(), result


def median_ms(options, device, run):
    samples = []
    for i in range(options.warmup + options.iters):
        ms, result = time_once(device, run)
        if i >= options.warmup:
            samples.append(ms)
    return statistics.median(samples), result


def reference(q, k, v, d_o):
    """o, dq, dk, dv in fp64, materialised."""
    q, k, v = (x.double().requires_grad_() for x in (q, k, v))
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
    o = torch.einsum("hij,jhd->ihd", torch.softmax(scores, -1), v)
    o.backward(d_o.double())
    return o.detach(), q.grad, k.grad, v.grad


def errors(options, n, results, device, ranks):
    """Of o, dq, dk, dv against the reference, in norm; the shards lie in rank order."""
    whole = []
    for x in results:
        parts = [torch.empty_like(x) for _ in range(ranks)]
        dist.all_gather(parts, x.contiguous())
        whole.append(torch.cat(parts).double())
    inputs = [bench_inputs.shard(t, options.seed, n, 0, n, options.heads, options.dim, options.dtype, device)
              for t in ("q", "k", "v", "do")]
    return {name: ((x - r).norm() / r.norm()).item()
            for name, x, r in zip(("o", "dq", "dk", "dv"), whole, reference(*inputs))}


def measure(options, peer, n, device, rank, ranks):
    local = n // ranks
    q, k, v, d_o = (bench_inputs.shard(t, options.seed, n, rank * local, local, options.heads, options.dim,
                                       options.dtype, device) for t in ("q", "k", "v", "do"))
    forward, (o, lse) = median_ms(options, device, lambda: peer.forward(q, k, v))
    backward, grads = median_ms(options, device, lambda: peer.backward(d_o, q, k, v, o, lse))
    pairs = options.heads * n * n
    moved = peer.bytes(local * options.heads * options.dim, q.element_size())
    return {"peer": peer.name, "kernel": peer.kernel.name, "n": n, "heads": options.heads, "dim": options.dim,
            "dtype": options.dtype, "ranks": ranks, "device": torch.cuda.get_device_name() if q.is_cuda else "CPU",
            "fwd_ms": forward, "bwd_ms": backward,
            "fwd_tflops": 4 * options.dim * pairs / forward * 1e-9,
            "bwd_tflops": 10 * options.dim * pairs / backward * 1e-9,
            "bytes_fwd": moved[0], "bytes_bwd": moved[1],
            "error": errors(options, n, (o, *grads), device, ranks) if options.check else None}


def start(options):
    env = os.environ
    rank = int(env.get("RANK", env.get("OMPI_COMM_WORLD_RANK", "0")))
    ranks = int(env.get("WORLD_SIZE", env.get("OMPI_COMM_WORLD_SIZE", "1")))
    local = int(env.get("LOCAL_RANK", env.get("OMPI_COMM_WORLD_LOCAL_RANK", "0")))
    env.setdefault("MASTER_ADDR", "127.0.0.1")
    env.setdefault("MASTER_PORT", "29533")
    env["NCCL_NVLS_ENABLE"] = "0"
    device = torch.device("cpu")
    if options.device == "cuda":
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if options.device == "cuda" else "gloo", rank=rank, world_size=ranks)
    return device, rank, ranks


def main():
    options = arguments()
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "f32")
    if options.device == "cuda" and options.dtype == "f32":
        sys.exit("distributed.py: flash attention on a GPU takes bf16 or f16, not f32")
    device, rank, ranks = start(options)
    for n in options.n:
        if n % ranks:
            sys.exit(f"distributed.py: n is {n}, which {ranks} ranks do not divide")
        for peer in (Ring, AllGather):
            if peer.name not in options.peers:
                continue
            kernel = FlashCuda if options.device == "cuda" else FlashCpu
            line = json.dumps(measure(options, peer(kernel, rank, ranks), n, device, rank, ranks))
            if rank == 0:
                print(line, flush=True)
                if options.json:
                    with open(options.json, "a", encoding="utf-8") as file:
                        file.write(line + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
