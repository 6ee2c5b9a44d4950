#!/usr/bin/env python3
"""peers.py - bsd_bench beside FlexAttention, cuDNN, flash and materialised attention: one table. See README.md."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import lists  # noqa: E402
import ours  # noqa: E402
import table  # noqa: E402
from cells import CELLS  # noqa: E402

ITERATIONS = 12
MOST_ERROR = {"o": 1e-2, "gradient": 2e-2}  # of 16-bit results in norm; a mask that is wrong gives more than 0.1


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bench", default="bsd_bench", help="the program (default: in the search path)")
    p.add_argument("--quick", action="store_true", help="a third of the cells")
    p.add_argument("--only", nargs="*", default=[], help="cases of these names")
    p.add_argument("--hot", action="store_true", help="no cold measurements")
    p.add_argument("--autotune", action="store_true",
                   help="let PyTorch choose FlexAttention's tiles, half a minute a kernel")
    p.add_argument("--seconds", type=float, default=3600,
                   help="peers that do not compile in half of this are left out, no group is begun after it")
    p.add_argument("--folder", help="for lists, logs and results.json (default: a temporary one)")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    return p.parse_args()


def chosen_cells(options):
    cells = [c for c in CELLS if c.quick or not options.quick]
    return [c for c in cells if not options.only or c.case in options.only]


def groups_of(cells):
    groups = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups


# ---- workers --------------------------------------------------------------------------------------


class Worker:
    """A process that compiles and checks the peers of a group, then times them when told."""

    def __init__(self, group, folder):
        command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--folder", folder, "--worker", group]
        environment = dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS="1", OMP_NUM_THREADS="2")
        self.group, self.log = group, os.path.join(folder, f"{group}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            text=True, env=environment)

    def message(self):
        """What it says next; None if it has ended."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def first_message(self, seconds):
        """What it says once it has compiled and checked; None if it has not after so many seconds: it is ended."""
        timer = threading.Timer(max(0, seconds), self.end)
        timer.start()
        said = self.message()
        timer.cancel()
        return said

    def measure(self):
        """Its measurements, as they come."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        while (row := self.message()) is not None and "end" not in row:
            yield row
        if row is None:
            yield {"note": f"{self.group}: the peers' process ended early, see {self.log}"}

    def end(self):
        self.process.kill()
        self.process.wait()


# ---- ours -----------------------------------------------------------------------------------------


def export(bench, cells, results):
    """Lists of every cell, counted beside what the plan says of them."""
    def one(cell):
        plan = bench.dump(cell)
        counted = lists.count(cell, lists.read(bench.lists_file(cell), cell))
        said = (plan["active_blocks"], plan["active_pairs"])
        if counted != said:
            raise RuntimeError(f"{cell.name}: the lists hold {counted} blocks and pairs, the plan says {said}")
        return plan

    with ThreadPoolExecutor(8) as pool:
        for cell, plan in zip(cells, pool.map(one, cells)):
            results.describe(cell, plan["density"], plan["active_pairs"])


def check_ours(bench, cell):
    try:
        check = bench.check(cell, threads=3)
    except RuntimeError as problem:
        return f"ours: {problem}"
    worst = max(x or 0 for x in (check["o"], check["dq"], check["dk"], check["dv"]))
    return f"ours {worst:.1e}" if check["pass"] else "ours: WRONG by the oracle"


def time_ours(bench, cells, cold, results):
    device = ""
    for block in sorted({c.block for c in cells}):
        some = [c for c in cells if c.block == block]
        try:
            found, device = bench.time(some, cold, ITERATIONS)
        except RuntimeError as problem:
            results.notes.append(str(problem))
            continue
        for cell, result in zip(some, found):
            for which, key in (("forward", "fwd"), ("backward", "bwd")):
                results.add(cell, "ours", which, "cold" if cold else "hot", result[key]["ms"])
            results.kernels.add(result["kernel"])
    return device


def take(row, cells, results):
    """A worker's measurement, error or note."""
    if "note" in row:
        results.notes.append(row["note"])
        return
    cell = cells[row["cell"]]
    if "forward" in row:
        for which in table.PASSES:
            if row.get(which) is not None:
                results.add(cell, row["peer"], which, row["inputs"], row[which])
    if "errors" in row:
        for which, error, most in zip(table.PASSES, row["errors"], MOST_ERROR.values()):
            flag = "" if error <= most else " WRONG"
            results.errors[cell, which] = results.errors.get((cell, which), "") + f" flex {error:.1e}{flag}"


def measure(options, folder):
    """The whole; the exit status, 1 if something failed or is wrong. A missed gate is neither."""
    start, cells, results = time.time(), chosen_cells(options), table.Results()
    bench, groups = ours.Bench(options.bench, folder), groups_of(cells)
    export(bench, cells, results)
    workers = {g: Worker(g, folder) for g in groups}
    try:
        with ThreadPoolExecutor(4) as pool:
            for cell, said in zip(cells, pool.map(lambda c: check_ours(bench, c), cells)):
                results.errors[cell, "forward"] = results.errors[cell, "backward"] = said
        left = start + options.seconds / 2 - time.time()
        with ThreadPoolExecutor(len(workers)) as pool:
            for said in pool.map(lambda w: w.first_message(left), workers.values()):
                for row in said["rows"] if said else []:
                    take(row, cells, results)
        prepared, device = time.time() - start, ""
        for group, worker in workers.items():
            if time.time() - start > options.seconds:
                results.notes.append(f"{group}: not measured, the {options.seconds:.0f} seconds are over")
                continue
            device = time_ours(bench, groups[group], False, results) or device
            for row in worker.measure():
                take(row, cells, results)
            if not options.hot:
                time_ours(bench, groups[group], True, results)
            worker.end()
    finally:
        for worker in workers.values():
            worker.end()
    wrong = results.notes or any("WRONG" in text for text in results.errors.values())
    print(f"# {device}; ours: {', '.join(sorted(results.kernels))}; "
          f"compiled and checked in {prepared:.0f} s, all in {time.time() - start:.0f} s")
    table.write(results, cells, sys.stdout)
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump([dict(case=c.case, block=c.block, pattern=c.pattern, n=c.n, peer=p, kind=w, inputs=i, ms=ms)
                   for (c, p, w, i), ms in results.ms.items()], file, indent=0)
    return 1 if wrong else 0


def main():
    options = arguments()
    if options.worker:
        import worker
        worker.main(options, chosen_cells(options))
        return 0
    folder = options.folder or tempfile.mkdtemp(prefix="peers-")
    os.makedirs(folder, exist_ok=True)
    print(f"# lists, logs and results.json: {folder}")
    return measure(options, folder)


if __name__ == "__main__":
    sys.exit(main())
