"""Small multiples of a figure over time, as SVG that reads on light and on dark."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LEFT, _WIDTH, _HEIGHT, _GAP, _FOOT = 40, 720, 96, 44, 30
_RIGHT: Final = 14

_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-weight: 600; fill: #1f2328 }
.grid { stroke: #d0d7de } .asked { stroke: #8c959f; stroke-dasharray: 4 3 }
.line { fill: none; stroke: #0969da; stroke-width: 1.5 } .below { fill: #cf222e }
.end { stroke: #cf222e; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #3d444d }
  .asked { stroke: #7d8590 } .line { stroke: #58a6ff } .below { fill: #ff7b72 }
  .end { stroke: #ff7b72 }
}"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One line, of steps."""

    title: str
    steps: Sequence[tuple[float, int]]
    """Seconds, and the figure from then on."""
    ends: float
    """Seconds; a mark is set there when it `failed`."""
    failed: bool
    levels: tuple[int, int]
    """Lowest and highest figure of the axis."""


def panels(charts: Sequence[Panel], *, asked: int, seconds: float, about: str) -> str:
    """Draw the charts under each other, over the same time; what is below `asked` is filled."""
    height = len(charts) * (_HEIGHT + _GAP) + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(about)}</title><style>{_STYLE}</style>",
    ]
    for number, chart in enumerate(charts):
        top = number * (_HEIGHT + _GAP) + _GAP - 10
        parts += _chart(chart, top, asked=asked, seconds=seconds)
    for minute in range(0, int(seconds // 60) + 1, 5):
        parts.append(_text(_x(minute * 60, seconds), height - 18, f"{minute}", anchor="middle"))
    parts.append(_text(_WIDTH - _RIGHT, height - 4, "minutes", anchor="end"))
    return "\n".join([*parts, "</svg>\n"])


def _chart(chart: Panel, top: float, *, asked: int, seconds: float) -> Iterator[str]:
    low, high = chart.levels

    def y(level: float) -> float:
        return round(top + _HEIGHT * (high - level) / (high - low), 1)

    yield _text(_LEFT, top - 9, chart.title, kind="title")
    for level in {low, asked, high}:
        yield _text(_LEFT - 6, y(level) + 4, str(level), anchor="end")
    yield _line("grid", _LEFT, y(low), _WIDTH - _RIGHT, y(low))
    for (at, level), (until, _) in zip(chart.steps, [*chart.steps[1:], (seconds, 0)], strict=True):
        if level < asked:
            x = _x(at, seconds)
            yield (
                f'<rect class="below" x="{x}" y="{y(asked)}" width="{_x(until, seconds) - x:.1f}"'
                f' height="{y(level) - y(asked):.1f}"/>'
            )
    first, *rest = chart.steps
    path = f"M{_x(first[0], seconds)} {y(first[1])}"
    path += "".join(f"H{_x(at, seconds)}V{y(level)}" for at, level in rest)
    yield f'<path class="line" d="{path}H{_x(seconds, seconds)}"/>'
    yield _line("asked", _LEFT, y(asked), _WIDTH - _RIGHT, y(asked))
    if chart.failed:
        x = _x(chart.ends, seconds)
        yield _line("end", x, top, x, y(low))


def _x(at: float, seconds: float) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(at, seconds) / seconds, 1)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
