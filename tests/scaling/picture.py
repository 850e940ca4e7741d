"""A ladder of limits over a logarithmic load, as SVG that reads on light and on dark."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scaling.figures import Range

_WIDTH, _LEFT, _RIGHT, _ROW, _HEAD, _FOOT = 720, 290, 14, 26, 34, 34
_FIRST, _LAST = 1, 6.4
"""Powers of ten at the ends of the axis."""
_LEAST: Final = 4
"""Pixels of a limit that is one figure."""

_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-weight: 600; fill: #1f2328 }
.grid { stroke: #d0d7de } .load { stroke: #8c959f; stroke-dasharray: 4 3 }
.limit { fill: #0969da } .ours { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title { fill: #f0f6fc } .grid { stroke: #3d444d }
  .load { stroke: #7d8590 } .limit { fill: #58a6ff } .ours { fill: #ff7b72 }
}"""


def ladder(
    limits: Sequence[tuple[str, Range, bool]], *, loads: Sequence[float], axis: str, about: str
) -> str:
    """Draw each limit where it is met, from the least figure to the most.

    Args:
        limits: name, where it is met, and whether it is our own.
        loads: marked from top to bottom.
        axis: what the load is.
        about: the picture in one sentence.
    """
    bottom = _HEAD + len(limits) * _ROW
    height = bottom + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(about)}</title><style>{_STYLE}</style>",
        _text(0, 16, "limit, in the order they are met; red: our design", kind="title"),
    ]
    for power in range(_FIRST, math.floor(_LAST) + 1):
        x = _x(10**power)
        parts.append(_line("grid", x, _HEAD - 4, x, bottom))
        parts.append(_text(x, bottom + 14, f"{10**power:,}", anchor="middle"))
    parts += [_line("load", _x(load), _HEAD - 12, _x(load), bottom) for load in loads]
    for number, (name, met_at, ours) in enumerate(limits):
        top = _HEAD + number * _ROW
        start, end = _x(met_at.low), _x(met_at.high)
        width = max(_LEAST, end - start)
        parts.append(_text(0, top + 16, name))
        parts.append(
            f'<rect class="{"ours" if ours else "limit"}" x="{start}" y="{top + 5}"'
            f' width="{width:.1f}" height="14" rx="2"/>'
        )
    parts.append(_text(_WIDTH - _RIGHT, bottom + 30, axis, anchor="end"))
    return "\n".join([*parts, "</svg>\n"])


def _x(load: float) -> float:
    part = (math.log10(load) - _FIRST) / (_LAST - _FIRST)
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(max(part, 0), 1), 1)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
