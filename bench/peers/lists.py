"""lists.py - reads what `bsd_bench --dump-lists` writes: the active blocks, and the pairs in them.

A line is `branch head document segment row: column column ...`, columns ascending. Rows and columns are blocks
of gathered positions of a segment (README: Pattern text).
"""
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Branch:
    """A branch of a pattern's text, as far as masks and gathering need it."""

    width: int = 0  # w; 0: the whole document
    step: int = 1  # r
    left: int = -1
    right: int = -1

    def offset(self, head):
        return head % self.step


def branches(pattern):
    """The branches of a pattern's text. Only what cells.py uses: offset=mod, combine=sum."""
    found = []
    for text in pattern.split(";"):
        if "offset" in text or "combine" in text:
            raise ValueError(f"{text}: neither offset nor combine is understood here")
        items = dict(re.findall(r"(w|r|window)=(-?\d+(?::-?\d+)?)", text))
        left, right = (int(x) for x in items.get("window", "-1:-1").split(":"))
        found.append(Branch(int(items.get("w", 0)), int(items.get("r", 1)), left, right))
    return found


@dataclass(frozen=True)
class Row:
    """Active columns of a block row. `tokens`: gathered positions of its segment."""

    branch: int
    head: int
    document: int
    segment: int
    row: int
    columns: list
    tokens: int


def document_lengths(cell):
    return cell.documents or (cell.n,)


def segment_tokens(branch, length, head, segment):
    """Gathered positions of a segment: ceil((L - o) / r)."""
    width = branch.width if 0 < branch.width < length else length
    left = min(width, length - segment * width) - branch.offset(head)
    return max(0, -(-left // branch.step))


def read(path, cell):
    """All rows of a file, in its order."""
    parts, lengths, rows = branches(cell.pattern), document_lengths(cell), []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            place, _, columns = line.partition(":")
            try:
                b, head, document, segment, row = (int(x) for x in place.split())
                columns = [int(x) for x in columns.split()]
            except ValueError:
                raise ValueError(f"{path}:{number}: not 'branch head document segment row: columns'")
            if sorted(set(columns)) != columns:
                raise ValueError(f"{path}:{number}: columns are not ascending")
            tokens = segment_tokens(parts[b], lengths[document], head, segment)
            rows.append(Row(b, head, document, segment, row, columns, tokens))
    return rows


def is_full(cell, branch, tokens, row, column):
    """True if every pair of the two blocks counts."""
    b = cell.block
    first, last = row * b, min(row * b + b, tokens) - 1
    low, high = column * b, min(column * b + b, tokens) - 1
    return ((not cell.causal or high <= first) and (branch.right < 0 or high <= first + branch.right)
            and (branch.left < 0 or low >= last - branch.left))


def block_pairs(cell, branch, tokens, row, column):
    """Pairs of the two blocks that causal and window let count."""
    b = cell.block
    low, high = column * b, min(column * b + b, tokens)
    if is_full(cell, branch, tokens, row, column):
        return (min(row * b + b, tokens) - row * b) * (high - low)
    count = 0
    for i in range(row * b, min(row * b + b, tokens)):
        first = max(low, i - branch.left) if branch.left >= 0 else low
        end = min(high, i + branch.right + 1) if branch.right >= 0 else high
        end = min(end, i + 1) if cell.causal else end
        count += max(0, end - first)
    return count


def count(cell, rows):
    """(active blocks, active pairs), as bsd_bench counts them."""
    parts = branches(cell.pattern)
    pairs = sum(block_pairs(cell, parts[r.branch], r.tokens, r.row, c) for r in rows for c in r.columns)
    return sum(len(r.columns) for r in rows), pairs


def padded_starts(cell):
    """Where each document begins if each is padded to whole blocks, and the end of the last."""
    starts = [0]
    for length in document_lengths(cell):
        starts.append(starts[-1] + -(-length // cell.block) * cell.block)
    return starts
