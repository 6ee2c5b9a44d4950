"""table.py - one table of ratios from the rows that the measurements gave."""

PASSES = ("forward", "backward")
SHORT = {"forward": "fwd", "backward": "bwd"}
FLOPS = {"forward": 4, "backward": 10}


def rate(cell, pairs, ms, which):
    """TFLOP/s over `pairs`."""
    return None if not ms else FLOPS[which] * cell.dim * pairs / ms / 1e9


def verdict(value, gate, at_most=False):
    if value is None or gate is None:
        return "-"
    return "pass" if (value <= gate if at_most else value >= gate) else "MISS"


def number(value, width, decimals):
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{decimals}f}"


def timing(cell, pairs, ms, which):
    return number(ms, 9, 4) + number(rate(cell, pairs, ms, which), 5, 0)


HEADER = (f"{'case':<11}{'H':>3}{'D':>4}{'block':>6}{'dens.':>7} {'':<4}"
          + "".join(f"{name + ' ms':>9}{'TF':>5}" for name in ("flex64", "flex128", "cudnn", "flash", "ours"))
          + f"{'ratio':>7}{'gate':>6} {'':<4} |{'flex cold':>10}{'ours cold':>10}{'TF':>5}{'ratio':>7}  error")


class Results:
    """Times in ms by (cell, peer, pass, hot or cold), with the pairs that each rate counts."""

    def __init__(self):
        self.ms, self.info, self.errors, self.notes, self.kernels = {}, {}, {}, [], set()

    def add(self, cell, peer, which, inputs, ms):
        self.ms[cell, peer, which, inputs] = ms

    def get(self, cell, peer, which, inputs="hot"):
        return self.ms.get((cell, peer, which, inputs))

    def describe(self, cell, density, pairs):
        self.info[cell] = (density, pairs)


def flex_times(results, cell, cells, which):
    """FlexAttention at both block sizes, each with the pairs of its own lists."""
    texts = []
    for block in (64, 128):
        same = [c for c in cells if c.key == cell.key and c.block == block and c.causal == cell.causal]
        ms = results.get(same[0], "flex", which) if same else None
        texts.append(timing(cell, results.info[same[0]][1] if same and same[0] in results.info else 0, ms, which))
    return "".join(texts)


def dense_pairs(cell):
    every = cell.n * (cell.n + 1) // 2 if cell.causal else cell.n * cell.n
    return cell.heads * every


def ratio_of(results, cell, which, inputs):
    flex, ours = results.get(cell, "flex", which, inputs), results.get(cell, "ours", which, inputs)
    return flex / ours if flex and ours else None


def line(results, cell, cells, which):
    density, pairs = results.info[cell]
    ours, cold = results.get(cell, "ours", which), results.get(cell, "ours", which, "cold")
    gate = cell.gate_forward if which == "forward" else cell.gate_backward
    ratio = ratio_of(results, cell, which, "hot")
    text = f"{cell.case:<11}{cell.heads:>3}{cell.dim:>4}{cell.block:>6}{density:7.4f} {SHORT[which]:<4}"
    text += flex_times(results, cell, cells, which)
    for peer in ("cudnn", "flash"):
        text += timing(cell, dense_pairs(cell), results.get(cell, peer, which), which)
    text += timing(cell, pairs, ours, which) + number(ratio, 7, 2) + number(gate, 6, 2)
    text += f" {verdict(ratio, gate):<4} |"
    text += number(results.get(cell, "flex", which, "cold"), 10, 4) + timing(cell, pairs, cold, which)
    text += number(ratio_of(results, cell, which, "cold"), 7, 2)
    return text + "  " + results.errors.get((cell, which), "")


def limits(results, cell):
    """Gates in ms instead of ratios."""
    for inputs, limit in (("hot", cell.limit_hot), ("cold", cell.limit_cold)):
        ours = results.get(cell, "ours", "forward", inputs)
        if limit is not None and ours is not None:
            yield (f"{cell.case} block {cell.block} {results.info[cell][0]:.4f} forward {inputs}: "
                   f"{ours * 1000:.1f} us, gate {limit * 1000:.0f} us: {verdict(ours, limit, at_most=True)}")


MATERIALISED_GATES = {"bf16": 80, "f32": 12}


def materialised(results, cell):
    """The seed report's comparison."""
    dense, ours = results.get(cell, "materialised", "forward"), results.get(cell, "ours", "forward")
    if dense and ours:
        gate = MATERIALISED_GATES[cell.dtype]
        yield (f"{cell.case} block {cell.block} {cell.dtype} {results.info[cell][0]:.4f} forward: "
               f"materialised {dense:.2f} ms, ours {ours:.4f} ms, {dense / ours:.1f} times, gate {gate}: {verdict(dense / ours, gate)}")


def write(results, cells, file):
    """The table, then what has no ratio, then how many gates were reached."""
    print(HEADER, file=file)
    shown = [c for c in cells if c in results.info]
    for cell in shown:
        for which in PASSES:
            print(line(results, cell, shown, which), file=file)
    extra = [text for cell in shown for text in (*limits(results, cell), *materialised(results, cell))]
    for text in extra + results.notes:
        print(text, file=file)
    verdicts = [verdict(ratio_of(results, c, w, "hot"), g) for c in shown
                for w, g in (("forward", c.gate_forward), ("backward", c.gate_backward))]
    verdicts += [text.rsplit(" ", 1)[-1] for text in extra]
    print(f"gates: {verdicts.count('pass')} reached, {verdicts.count('MISS')} missed, "
          f"{verdicts.count('-')} cells without one", file=file)
