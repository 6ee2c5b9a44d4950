"""reference.py - attention of one KV head in fp32, dense with multiplicities, plainly from the lists."""
import torch

import lists

CHUNK = 1 << 26  # scores held at a time


class BranchTokens:
    """Where each token stands in a branch: its gathered index, its block among all of the branch, if selected."""

    def __init__(self, cell, branch, head, device):
        index, block, chosen, self.first_block, blocks = [], [], [], {}, 0
        for document, length in enumerate(lists.document_lengths(cell)):
            width = branch.width if 0 < branch.width < length else length
            local = torch.arange(length)
            place = local % width - branch.offset(head)
            t = torch.div(place, branch.step, rounding_mode="floor")
            first = torch.zeros(length, dtype=torch.long)
            for segment in range(-(-length // width)):
                self.first_block[document, segment] = blocks
                first[segment * width:(segment + 1) * width] = blocks
                blocks += -(-lists.segment_tokens(branch, length, head, segment) // cell.block)
            index.append(t)
            chosen.append((place >= 0) & (place % branch.step == 0))
            block.append(torch.where(chosen[-1], first + t // cell.block, 0))
        self.index, self.block, self.chosen = (torch.cat(x).to(device) for x in (index, block, chosen))
        self.blocks = blocks


class Multiplicities:
    """How often each query of a head sees each key."""

    def __init__(self, cell, rows, head, device):
        self.cell, self.parts = cell, []
        for number, branch in enumerate(lists.branches(cell.pattern)):
            tokens = BranchTokens(cell, branch, head, device)
            active = torch.zeros(tokens.blocks, tokens.blocks, dtype=torch.bool)
            for r in rows:
                if r.head == head and r.branch == number:
                    first = tokens.first_block[r.document, r.segment]
                    active[first + r.row, [first + c for c in r.columns]] = True
            self.parts.append((branch, tokens, active.to(device)))

    def of(self, queries):
        """[queries][n], fp32; `queries` is a slice."""
        total = 0
        for branch, tokens, active in self.parts:
            row, column = tokens.index[queries, None], tokens.index[None, :]
            seen = active[tokens.block[queries]][:, tokens.block]
            seen &= tokens.chosen[queries, None] & tokens.chosen[None, :]
            if self.cell.causal:
                seen &= column <= row
            if branch.left >= 0:
                seen &= column >= row - branch.left
            if branch.right >= 0:
                seen &= column <= row + branch.right
            total = total + seen.float()
        return total


def attention(cell, rows, kv_head, q, k, v, gradient):
    """[o, dq] of the query heads of a KV head, [heads][n][dim], and its dk, dv [n][dim]."""
    group = cell.heads // cell.kv_heads
    heads = range(kv_head * group, (kv_head + 1) * group)
    q, gradient = (x.detach()[0, heads.start:heads.stop].float() for x in (q, gradient))
    k, v = (x.detach()[0, kv_head].float() for x in (k, v))
    o, dq, dk, dv = torch.zeros_like(q), torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    scale, chunk = cell.dim ** -0.5, max(1, CHUNK // cell.n)
    for i, head in enumerate(heads):
        seen = Multiplicities(cell, rows, head, q.device)
        for first in range(0, cell.n, chunk):
            at = slice(first, min(first + chunk, cell.n))
            m = seen.of(at)
            s = (q[i, at] @ k.T).mul_(scale).masked_fill_(m == 0, float("-inf"))
            s -= s.amax(1, keepdim=True).clamp_min(torch.finfo(s.dtype).min)
            p = m * s.exp_()
            p /= p.sum(1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
            o[i, at] = p @ v
            dv += p.T @ gradient[i, at]
            p *= gradient[i, at] @ v.T - (gradient[i, at] * o[i, at]).sum(1, keepdim=True)
            dq[i, at] = scale * (p @ k)
            dk += scale * (p.T @ q[i, at])
    return o, dq, dk, dv


def relative(found, expected):
    """||found - expected|| / ||expected||; a NaN stays one."""
    return ((found.float() - expected).norm() / expected.norm()).item()


def errors(cell, rows, kv_head, inputs, gradient, output, gradients):
    """Relative errors of o and of the worst gradient of one KV head."""
    o, *wanted = attention(cell, rows, kv_head, *inputs, gradient)
    group = cell.heads // cell.kv_heads
    own = slice(kv_head * group, (kv_head + 1) * group)
    found = [gradients[0][0, own], gradients[1][0, kv_head], gradients[2][0, kv_head]]
    worst = [relative(f, w) for f, w in zip(found, wanted)]
    return relative(output[0, own], o), max(worst) if all(x == x for x in worst) else float("nan")
