#!/usr/bin/env python3
"""scaling_table.py - the results of scaling-study.sh as one table, and as files that bsd_bench --plot reads.

usage: scaling_table.py DIRECTORY RANKS REHEARSAL    (RANKS: the most that ran; REHEARSAL 1: times mean nothing)
Reads DIRECTORY/raw/NAME-pRANKS.json, peers.jsonl and raw/deadline.log; writes summary.txt (also printed),
results.csv, strong.json, weak.json and best_setting. Exit status 1 if bits, bytes, checks or deadlines are wrong.
"""
import csv
import glob
import json
import os
import re
import statistics
import sys

# Targets at the most ranks.
STRONG, STRONG_FROM, WEAK, EXPOSED = 0.90, 1 << 20, 0.95, 0.05
NOISE = 0.01  # by which a setting must be faster than the default to be taken
PASSES = ("fwd", "bwd")


def load(directory):
    """[(name, ranks, document, result)] of every run."""
    runs = []
    for path in sorted(glob.glob(os.path.join(directory, "raw", "*.json"))):
        match = re.fullmatch(r"(.+)-p(\d+)\.json", os.path.basename(path))
        if match is None:
            continue
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        runs += [(match[1], document, result) for result in document["results"]]
    return runs


def kind(result):
    """A pattern's short name: LongNet's has another text for each length."""
    text = result["pattern"]
    return "longnet" if text.startswith("w=") else text.replace("blocks=", "")


def tokens(n):
    return f"{n >> 20}M" if n % (1 << 20) == 0 else f"{n >> 10}K" if n % 1024 == 0 else str(n)


def label(result):
    return (f"{kind(result)} {tokens(result['n'])} H{result['heads']} D{result['dim']} b{result['block']}"
            f"{' causal' if result['causal'] else ''}")


def percent(value):
    return "-" if value is None else f"{100 * value:.1f}%"


# ---- right or wrong ------------------------------------------------------------------------------


def judge_bits(runs, lines):
    """One digest for each problem, whatever the ranks and the layout."""
    groups, wrong = {}, 0
    for name, _, r in runs:
        if r["hash"] is not None:
            key = (r["dtype"], r["causal"], r["n"], r["pattern"], r["heads"], r["kv_heads"], r["dim"], r["block"])
            groups.setdefault(key, []).append((r["hash"], name, r["ranks"], r["layout"]))
    for key, members in groups.items():
        if len({m[0] for m in members}) > 1:
            wrong += 1
            lines.append(f"  BITS DIFFER: {key}: " + ", ".join(f"{m[0]} {m[1]} p{m[2]}" for m in members))
    if groups:
        ranks = sorted({m[2] for members in groups.values() for m in members})
        layouts = sorted({m[3].split(":")[0] for members in groups.values() for m in members})
        lines.append(f"bits: {sum(map(len, groups.values()))} digests of {len(groups)} problems, ranks {ranks}, layouts "
                     f"{', '.join(layouts)}: {'one digest each' if not wrong else f'{wrong} PROBLEMS DIFFER'}")
    return wrong


def judge_bytes(runs, lines):
    traffic = [(name, r, r["comm"][p]) for name, _, r in runs for p in PASSES if r["comm"][p] and r["ranks"] > 1]
    wrong = [(name, r) for name, r, t in traffic if t["bytes_moved"] != t["bytes_lower_bound"]]
    if traffic:
        lines.append(f"bytes: {len(traffic)} passes over ranks, moved / lower bound "
                     f"{'1.000 in all' if not wrong else f'WRONG in {len(wrong)}, first {wrong[0][0]}'}")
    return len(wrong)


def judge_checks(runs, lines):
    checked = [(name, r) for name, _, r in runs if r["check"]]
    wrong = [name for name, r in checked if not r["check"]["pass"]]
    if checked:
        lines.append(f"oracle: {len(checked) - len(wrong)} of {len(checked)} within bounds {' '.join(wrong)}")
    return len(wrong)


def judge_deadline(directory, lines):
    path = os.path.join(directory, "raw", "deadline.log")
    if not os.path.exists(path):
        return 0
    with open(path, encoding="utf-8") as file:
        last = (file.read().strip().splitlines() or ["nothing"])[-1]
    lines.append(f"deadline: {last.replace('kill-rank.sh: ', '')}")
    match = re.search(r"(\d+) of (\d+) cases passed", last)
    return 0 if match and match[1] == match[2] or "skipped" in last else 1


# ---- scaling -------------------------------------------------------------------------------------


def add_efficiency(runs, prefix, per_rank):
    """The runs of a kind with their efficiency: the rate of a rank over that with the fewest ranks that ran."""
    curves = {}
    for name, document, r in runs:
        if name.startswith(prefix):
            size = r["n"] // r["ranks"] if per_rank else r["n"]
            key = (name, size, kind(r), r["heads"], r["dim"], r["block"], r["causal"], r["dtype"])
            curves.setdefault(key, []).append((document, r))
    for members in curves.values():
        members.sort(key=lambda m: m[1]["ranks"])
        first = members[0][1]
        for _, r in members:
            r["scaling"] = "weak" if per_rank else "strong"
            r["scaling_efficiency"] = {
                p: (r[p]["tflops"] / r["ranks"]) / (first[p]["tflops"] / first["ranks"]) if r[p] and first[p] else None
                for p in PASSES}
    return curves


def exposed(result, a_pass):
    traffic = result["comm"][a_pass]
    if not traffic or traffic["exposed_ms"] is None or not result[a_pass]:
        return None
    return traffic["exposed_ms"] / result[a_pass]["ms"]


def share_of_allgather(result):
    moved = sum(result["comm"][p]["bytes_moved"] for p in PASSES if result["comm"][p])
    gathered = sum(result["comm"][p]["bytes_allgather"] for p in PASSES if result["comm"][p])
    return moved / gathered if gathered else None


def ring_bytes(result, a_pass):
    """What a ring moves: K and V to every rank, backward also fp32 dK and dV once around."""
    width = {"f32": 4, "bf16": 2, "f16": 2}[result["dtype"]]
    elements = result["n"] * result["kv_heads"] * 2 * result["dim"] * result["batch"]
    keys = (result["ranks"] - 1) * elements * width
    return 0 if result["ranks"] == 1 else keys + (result["ranks"] * elements * 4 if a_pass == "bwd" else 0)


def verdict(result, target, judged, rehearsal):
    if rehearsal:
        return ""
    values = [result["scaling_efficiency"][p] for p in PASSES]
    gates = [v is not None and v >= target for v in values]
    gates += [exposed(result, p) is not None and exposed(result, p) <= EXPOSED for p in PASSES]
    return "" if not judged else "pass" if all(gates) else "MISS"


def scaling_lines(curves, target, least, most, rehearsal, lines):
    for members in curves.values():
        r, first = members[-1][1], members[0][1]
        if r["ranks"] == first["ranks"]:
            continue
        e = r["scaling_efficiency"]
        judged = r["ranks"] == most and r["n"] >= least
        lines.append(f"  {label(r):<44} {first['ranks']:>2}->{r['ranks']} {r['fwd']['ms']:9.3f} {r['bwd']['ms']:9.3f} "
                     f"{percent(e['fwd']):>7} {percent(e['bwd']):>7} {percent(exposed(r, 'fwd')):>7} "
                     f"{percent(exposed(r, 'bwd')):>7} {percent(share_of_allgather(r)):>7}  "
                     f"{verdict(r, target, judged, rehearsal)}")


# ---- peers, predictions, tuning --------------------------------------------------------------------


def peer_lines(directory, runs, most, lines):
    path = os.path.join(directory, "peers.jsonl")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        peers = [json.loads(line) for line in file if line.strip()]
    for p in peers:
        if p["error"]:
            lines.append(f"  {p['peer']} n {p['n']}, {p['ranks']} ranks, error " +
                         " ".join(f"{k} {v:.1e}" for k, v in p["error"].items()))
            continue
        ours = {kind(r): r for _, _, r in runs if r.get("scaling") == "strong" and r["n"] == p["n"] and
                r["ranks"] == p["ranks"] and (r["heads"], r["dim"]) == (p["heads"], p["dim"])}
        faster = ", ".join(f"{k} {p['fwd_ms'] / r['fwd']['ms']:.1f}x {p['bwd_ms'] / r['bwd']['ms']:.1f}x"
                           for k, r in ours.items() if r["fwd"] and r["bwd"])
        if p["ranks"] == most:
            lines.append(f"  {p['peer']} {tokens(p['n'])} on {p['ranks']}: {p['fwd_ms']:.2f} {p['bwd_ms']:.2f} ms, "
                         f"{p['fwd_tflops'] / p['ranks']:.0f} {p['bwd_tflops'] / p['ranks']:.0f} TFLOP/s a rank; "
                         f"ours faster: {faster or 'not run'}")


def prediction_lines(runs, lines):
    errors = {}
    for name, _, r in runs:
        for p in PASSES:
            predicted = r["predicted"][f"{p}_ms"]
            if name.startswith(("strong", "weak")) and predicted and r[p]:
                errors.setdefault(r["ranks"], []).append(abs(predicted / r[p]["ms"] - 1))
    if errors:
        lines.append("predicted against measured, median error: " + ", ".join(
            f"{percent(statistics.median(e))} on {ranks} ({len(e)})" for ranks, e in sorted(errors.items())))


def tune_lines(directory, runs, lines):
    """The lines, and in best_setting the setting that is the fastest by more than the noise, if one is."""
    base = {kind(r): r for name, _, r in runs if name == "tune-BSD_STAGES-auto"}
    found, ratios = {}, {}
    for name, _, r in runs:
        b = base.get(kind(r))
        if name.startswith("tune-") and b is not None:
            setting = "=".join(name[5:].rsplit("-", 1))
            ratios.setdefault(setting, []).extend(r[p]["ms"] / b[p]["ms"] for p in PASSES)
            found.setdefault(setting, []).append(
                f"{kind(r)} {r['fwd']['ms'] / b['fwd']['ms']:.3f} {r['bwd']['ms'] / b['bwd']['ms']:.3f} "
                f"({percent(exposed(r, 'fwd'))} {percent(exposed(r, 'bwd'))}, {r['stages']} stages)")
    for setting, texts in sorted(found.items()):
        lines.append(f"  {setting:<32} {'; '.join(texts)}")
    means = {setting: statistics.mean(r) for setting, r in ratios.items()}
    best = min(means, key=means.get, default=None)
    with open(os.path.join(directory, "best_setting"), "w", encoding="utf-8") as file:
        file.write(f"{best}\n" if best and means[best] < 1 - NOISE else "")


# ---- files ---------------------------------------------------------------------------------------


def write_document(path, curves):
    """One document as bsd_bench --json writes it; the ranks are those of the largest run."""
    members = [m for curve in curves.values() for m in curve]
    if not members:
        return
    largest = max((document for document, _ in members), key=lambda d: len(d["ranks"]))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dict(largest, results=[r for _, r in members]), file, indent=2)


def write_csv(path, runs):
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["run", "pattern", "n", "heads", "kv_heads", "dim", "block", "dtype", "causal", "ranks", "layout",
                        "stages", "imbalance", "plan_ms"] +
                       [f"{p}_{c}" for p in PASSES for c in
                        ("ms", "ms_p5", "ms_p95", "tflops", "efficiency", "exposed_ms", "overlap", "predicted_ms",
                         "bytes_moved", "bytes_lower_bound", "bytes_allgather", "bytes_ring")])
        for name, _, r in runs:
            row = [name] + [r[k] for k in ("pattern", "n", "heads", "kv_heads", "dim", "block", "dtype", "causal", "ranks",
                                           "layout", "stages", "imbalance", "plan_ms")]
            for p in PASSES:
                time, traffic = r[p] or {}, r["comm"][p] or {}
                row += [time.get(k) for k in ("ms", "ms_p5", "ms_p95", "tflops")]
                row += [(r.get("scaling_efficiency") or {}).get(p), traffic.get("exposed_ms"), traffic.get("overlap"),
                        r["predicted"][f"{p}_ms"]]
                row += [traffic.get(k) for k in ("bytes_moved", "bytes_lower_bound", "bytes_allgather")]
                row.append(ring_bytes(r, p))
            table.writerow(row)


def main():
    directory, most, rehearsal = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"
    runs, lines = load(directory), []
    wrong = judge_bits(runs, lines) + judge_bytes(runs, lines) + judge_checks(runs, lines)
    wrong += judge_deadline(directory, lines)
    strong, weak = add_efficiency(runs, "strong", False), add_efficiency(runs, "weak", True)
    head = f"  {'':<44} ranks    fwd_ms    bwd_ms   eff_f   eff_b   exp_f   exp_b  bytes"
    if strong:
        lines += [f"strong scaling (target {percent(STRONG)} from {tokens(STRONG_FROM)} on, exposed at most "
                  f"{percent(EXPOSED)}; bytes as a share of an all-gather's)", head]
        scaling_lines(strong, STRONG, STRONG_FROM, most, rehearsal, lines)
    if weak:
        lines += [f"weak scaling (target {percent(WEAK)})", head]
        scaling_lines(weak, WEAK, 0, most, rehearsal, lines)
    if rehearsal and (strong or weak):
        lines.append("a rehearsal: ranks share what they run on, so times and efficiency mean nothing")
    for title, add in (("dense peers", lambda out: peer_lines(directory, runs, most, out)),
                       ("tuning: time over that of the default, exposed", lambda out: tune_lines(directory, runs, out))):
        found = []
        add(found)
        lines += [title] + found if found else []
    prediction_lines(runs, lines)
    write_document(os.path.join(directory, "strong.json"), strong)
    write_document(os.path.join(directory, "weak.json"), weak)
    write_csv(os.path.join(directory, "results.csv"), runs)
    with open(os.path.join(directory, "summary.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
