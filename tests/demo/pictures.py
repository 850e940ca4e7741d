"""Pictures of tasks over time, in text: a row for each task, a column for each moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STARTING, RUNNING, STOPPING = "░", "█", "▒"
_GLYPHS = {
    "PROVISIONING": STARTING,
    "PENDING": STARTING,
    "ACTIVATING": STARTING,
    "RUNNING": RUNNING,
    "DEACTIVATING": STOPPING,
    "STOPPING": STOPPING,
    "DEPROVISIONING": STOPPING,
}
LEGEND = f"{STARTING} starting  {RUNNING} running  {STOPPING} stopping"


@dataclass(frozen=True)
class Span:
    """One state of a task, from `start` to `end` in seconds."""

    start: float
    end: float
    glyph: str


@dataclass(frozen=True)
class Row:
    """One task: what is written left and right of its spans."""

    label: str
    spans: Sequence[Span]
    note: str = ""
    style: str = ""


def spans_of(looks: Sequence[tuple[float, str]], end: float) -> list[Span]:
    """Return the spans of a task seen in these states at these moments, in order.

    Args:
        looks: (seconds, `lastStatus`); STOPPED and what is no state at all leave a gap.
        end: seconds, when the last state ended.
    """
    spans: list[Span] = []
    for (start, status), (until, _) in zip(looks, [*looks[1:], (end, "")], strict=True):
        glyph = _GLYPHS.get(status)
        if glyph and spans and spans[-1].glyph == glyph and spans[-1].end == start:
            spans[-1] = Span(spans[-1].start, until, glyph)
        elif glyph:
            spans.append(Span(start, until, glyph))
    return spans


def draw(rows: Iterable[Row], *, width: int, end: float) -> Text:
    """Draw the rows over the time from 0 to `end` seconds, `width` columns wide."""
    rows = list(rows)
    margin = max((len(row.label) for row in rows), default=0)
    picture = Text()
    for row in rows:
        line = [" "] * width
        for span in row.spans:
            first = int(span.start / end * width)
            last = max(first + 1, round(span.end / end * width))
            line[first:last] = span.glyph * (min(last, width) - first)
        picture.append(f"{row.label:<{margin}}  ")
        bars = "".join(line)
        # The blanks stay without style: some who draw this later drop blanks that lead a style.
        picture.append(" " * (width - len(bars.lstrip())))
        picture.append(bars.lstrip(), style=row.style)
        picture.append(f"  {row.note}".rstrip() + "\n")
    return picture


def lowest(counts: Sequence[tuple[float, int]], *, width: int, end: float) -> str:
    """Return one digit for each column: the lowest count that was seen in it, or since before it.

    Args:
        counts: (seconds, count), in order; at least one.
        width: columns.
        end: seconds at the right edge.
    """
    columns: Mapping[int, list[int]] = {column: [] for column in range(width)}
    for moment, count in counts:
        columns[min(int(moment / end * width), width - 1)].append(count)
    digits, last = "", counts[0][1]
    for column in range(width):
        seen = columns[column]
        digits += str(min(seen or [last]))
        last = seen[-1] if seen else last
    return digits
