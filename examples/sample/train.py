#!/usr/bin/env python3
"""Trains a small byte-level decoder on a text file and exports q, k, v of one of its layers.

    python3 train.py TEXT --out FOLDER

Writes FOLDER/q.npy, k.npy, v.npy: float16, shape [context][heads][64], of the middle layer on the first
`context` bytes of held-out text. q and k are taken after the rotary embedding and before any scaling:
the layer's attention is softmax(q k^T / 8) v under a causal mask, which the script checks at the end.
Needs PyTorch 2 and NumPy; minutes on a GPU.
"""
import argparse
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HEAD_DIM = 64
HELD_OUT = 0.05  # the last part of the text, never trained on


def rotary_tables(length, device):
    """cos, sin [length][HEAD_DIM / 2]: position i turns pair d by i / 10000^(2d / HEAD_DIM)."""
    rate = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2, device=device).float() / HEAD_DIM)
    angle = torch.outer(torch.arange(length, device=device).float(), rate)
    return angle.cos(), angle.sin()


def rotate(x, tables):
    """x [B][H][n][D], in fp32: pairs are (d, d + D/2)."""
    cos, sin = tables
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(heads * HEAD_DIM, 3 * heads * HEAD_DIM, bias=False)
        self.project = nn.Linear(heads * HEAD_DIM, heads * HEAD_DIM, bias=False)
        self.record = None  # a dict here gets q, k, v and the output, all [B][H][n][D]

    def forward(self, x, tables):
        batch, n, width = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.heads, HEAD_DIM).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, tables).to(v.dtype), rotate(k, tables).to(v.dtype)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # scale 1 / sqrt(HEAD_DIM)
        if self.record is not None:
            self.record.update(q=q, k=k, v=v, o=o)
        return self.project(o.transpose(1, 2).reshape(batch, n, width))


class Layer(nn.Module):
    def __init__(self, heads, dropout):
        super().__init__()
        width = heads * HEAD_DIM
        self.norm1, self.attention = nn.LayerNorm(width), Attention(heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, tables):
        x = x + self.dropout(self.attention(self.norm1(x), tables))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Decoder(nn.Module):
    def __init__(self, layers, heads, dropout):
        super().__init__()
        width = heads * HEAD_DIM
        self.embed = nn.Embedding(256, width)
        self.layers = nn.ModuleList(Layer(heads, dropout) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                into_residual = name.endswith(("project.weight", "mlp.2.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * layers) if into_residual else 1))

    def forward(self, tokens):
        tables = rotary_tables(tokens.shape[1], tokens.device)
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, tables)
        return self.head(self.norm(x))


def bits_per_byte(model, batch):
    """Mean over the bytes of batch [B][n + 1] that have one before them."""
    logits = model(batch[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()) / math.log(2)


def windows(text, context, starts):
    return torch.stack([text[s : s + context + 1] for s in starts]).long()


@torch.no_grad()
def held_out_loss(model, text, args):
    """Bits per byte over all whole windows of the held-out text."""
    model.eval()
    starts = list(range(0, len(text) - args.context, args.context))
    total = 0.0
    for i in range(0, len(starts), args.batch):
        with autocast(args.device):
            batch = windows(text, args.context, starts[i : i + args.batch])
            total += bits_per_byte(model, batch).item() * len(batch)
    model.train()
    return total / len(starts)


def autocast(device):
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def progress_of(step, began, args):
    """0 at the start, 1 at the last step or when the time is up."""
    return max(step / args.steps, (time.time() - began) / (60 * args.minutes))


def train(model, text, held_out, args):
    decayed = [w for w in model.parameters() if w.dim() == 2]
    others = [w for w in model.parameters() if w.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1},
                                   {"params": others, "weight_decay": 0.0}],
                                  lr=args.rate, betas=(0.9, 0.95))
    began, step = time.time(), 0
    while (progress := progress_of(step, began, args)) < 1:
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = args.rate * cosine * min(1, (step + 1) / 100)
        starts = torch.randint(len(text) - args.context, (args.batch,)).tolist()
        with autocast(args.device):
            loss = bits_per_byte(model, windows(text, args.context, starts))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % args.report == 0:
            print(f"step {step:5d}  {time.time() - began:6.1f} s  train {loss.item():.4f}  "
                  f"held out {held_out_loss(model, held_out, args):.4f} bits per byte", flush=True)
    print(f"{step} steps of {args.batch} x {args.context} bytes, {time.time() - began:.1f} s; held out "
          f"{held_out_loss(model, held_out, args):.4f} bits per byte", flush=True)


@torch.no_grad()
def export(model, held_out, args):
    """Runs the held-out text in fp32, writes q, k, v, and checks that they give the layer's output."""
    model.eval()
    attention = model.layers[args.layer].attention
    attention.record = record = {}
    model(held_out[None, : args.context].long())
    arrays = {}
    for name in ("q", "k", "v"):
        arrays[name] = record[name][0].transpose(0, 1).half().cpu().contiguous().numpy()
        np.save(args.out / f"{name}.npy", arrays[name])
    q, k, v = (torch.from_numpy(arrays[name]).double().transpose(0, 1) for name in ("q", "k", "v"))
    scores = q @ k.transpose(1, 2) / math.sqrt(HEAD_DIM)
    mask = torch.ones(args.context, args.context, dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(mask, -math.inf), dim=-1)
    o = record["o"][0].double().cpu()
    error = ((weights @ v - o).norm() / o.norm()).item()
    print(f"layer {args.layer} of {args.layers}: {arrays['q'].shape} {arrays['q'].dtype}; softmax(q k^T / "
          f"sqrt(D)) v differs from the layer's own attention by {error:.2e}")
    if not error < 5e-3:
        raise SystemExit("q, k, v do not reproduce the layer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", type=pathlib.Path, help="plain text, a few megabytes")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--layer", type=int, default=3, help="the layer to export, from 0")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=60, help="end earlier after this time")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=int, default=200, help="steps between two lines")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    text = torch.frombuffer(bytearray(args.text.read_bytes()), dtype=torch.uint8).to(args.device)
    cut = len(text) - int(HELD_OUT * len(text))
    if len(text) - cut <= args.context:
        raise SystemExit(f"{args.text}: {len(text)} bytes are too few, the held-out {HELD_OUT:.0%} "
                         f"must be longer than the context of {args.context}")
    model = Decoder(args.layers, args.heads, args.dropout).to(args.device)
    print(f"{sum(w.numel() for w in model.parameters()):,} parameters, {cut:,} bytes to train on, "
          f"{len(text) - cut:,} held out")
    args.out.mkdir(parents=True, exist_ok=True)
    train(model, text[:cut], text[cut:], args)
    export(model, text[cut:], args)


if __name__ == "__main__":
    main()
