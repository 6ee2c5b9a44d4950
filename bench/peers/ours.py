"""ours.py - runs bsd_bench and takes what it says from its JSON."""
import json
import os
import struct
import subprocess
import tempfile


def write_cu_seqlens(path, lengths):
    """A .npy file, version 1, of int64 offsets."""
    offsets = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({len(offsets)},), }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack(f"<{len(offsets)}q", *offsets))


class Bench:
    """A bsd_bench and a folder for what it reads and writes."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, cell, patterns, options, threads=None):
        """The JSON document of a run of several patterns on a cell's problem."""
        documents = None
        if cell.documents:
            documents = os.path.join(self.folder, f"{cell.name}.npy")
            write_cu_seqlens(documents, cell.documents)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".json") as out:
            command = [self.program, *cell.options(documents), *options, "--json", out.name]
            for pattern in patterns:
                command += ["--pattern", pattern]
            environment = dict(os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {}))
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            with open(out.name) as file:
                text = file.read()
            if not text:  # a failed check leaves results, and status 1
                raise RuntimeError(f"{done.stderr.strip()} ({' '.join(command)})")
            return json.loads(text)

    def lists_file(self, cell):
        return os.path.join(self.folder, f"{cell.name}.lists")

    def dump(self, cell):
        """Writes the lists, nothing is run; the plan's own figures."""
        options = ["--backend", "cpu", "--simulate", "1", "--dump-lists", self.lists_file(cell)]
        return self.run(cell, [cell.pattern], options)["results"][0]

    def check(self, cell, threads):
        """Forward and backward on the GPU once, compared with the fp64 oracle."""
        options = ["--backend", "cuda", "-n", "1", "-w", "0", "--check"]
        return self.run(cell, [cell.pattern], options, threads)["results"][0]["check"]

    def time(self, cells, cold, iterations):
        """Results of cells that differ by their pattern alone."""
        options = ["--backend", "cuda", "--graph", "-n", str(iterations), "-w", "3"] + (["--cold"] if cold else [])
        found = self.run(cells[0], [c.pattern for c in cells], options)
        return found["results"], found["ranks"][0]["device"]
