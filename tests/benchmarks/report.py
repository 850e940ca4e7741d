"""What a section measured, as a page: tables of medians with their spread, and goals."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 100  # From here on, decimals are noise.
_LIBRARIES = ("aws-durable-execution-sdk-python", "boto3", "crhelper")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the half of them that lies around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        if self.low == self.high:
            return _figure(self.median)
        return f"{_figure(self.median)} ({_figure(self.low)} to {_figure(self.high)})"

    def scaled(self, factor: float, plus: float = 0) -> Spread:
        return Spread(*(value * factor + plus for value in (self.median, self.low, self.high)))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure was to be at most."""

    text: str
    found: Spread
    most: float

    @property
    def is_failure(self) -> bool:
        """Missed, and by more than its noise: the better half of the spread misses it too."""
        return self.found.low > self.most

    def __str__(self) -> str:
        if self.found.median <= self.most:
            verdict = "met"
        else:
            verdict = "missed" if self.is_failure else "missed, by less than its noise"
        return f"{self.text}: **{verdict}**, {self.found}"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        rows = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    title: str
    parts: Sequence[str | Table]
    goals: Sequence[Goal]

    def __str__(self) -> str:
        goals = "\n".join(f"- {goal}" for goal in self.goals)
        return "\n\n".join([f"## {self.title}", *map(str, self.parts), "### Goals", goals])


def document(sections: Sequence[Section], load: float) -> str:
    """Return the whole page; `load` is that of the machine before anything was measured."""
    day = datetime.now(tz=UTC).date().isoformat()
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    about = (
        "Made by `make bench`; do not edit. A figure is a median; in parentheses is the middle "
        "half of what was seen. Absolute times are those of one small machine: compare within a "
        f"table.\n\n{day} · {_processor()}, {os.cpu_count()} cores, load {load:.1f} before it "
        f"began · {platform.system()} · "
        f"CPython {platform.python_version()} · {libraries}"
    )
    return "\n\n".join(["# Benchmarks", about, *map(str, sections)]) + "\n"


def _processor() -> str:
    """Return the processor's architecture and, where it says so, its clock."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    clock = next((line.split(":")[1] for line in lines if line.startswith("cpu MHz")), "")
    return f"{platform.machine()} at {float(clock) / 1000:.1f} GHz" if clock else platform.machine()


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= _SHOWN else f"{value:.2g}" if value < 1 else f"{value:.1f}"
