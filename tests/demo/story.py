"""How the demo speaks: steps with their times, on a terminal and off it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

_TITLE_WIDTH = 62
_WIDTH = 110


class DemoFailed(Exception):
    """Something was not what it should have been; says what."""


def expect(condition: object, what: str) -> None:
    """Raise DemoFailed unless the condition holds; `what` says what should have been."""
    if not condition:
        raise DemoFailed(what)


class Story:
    """Prints one step after another."""

    def __init__(self, console: Console | None = None) -> None:
        """Print to `console`, or to standard output: in colour on a terminal, plain elsewhere."""
        plain = Console(width=_WIDTH, highlight=False)
        self.console = console or (Console(highlight=False) if plain.is_terminal else plain)
        self.width = min(self.console.width, _WIDTH)
        self._spins = console is None and plain.is_terminal
        self._began = time.monotonic()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell of one step: what is happening while it lasts, and how long it took."""
        began = time.monotonic()
        try:
            if self._spins:
                with self.console.status(f"{title} …"):
                    yield
            else:
                yield
        except BaseException:
            self.console.print(f"[bold red]✘[/] {title}")
            raise
        seconds = time.monotonic() - began
        self.console.print(f"[bold green]✔[/] {title:<{_TITLE_WIDTH}} [dim]{seconds:5.1f} s[/]")

    def say(self, what: RenderableType) -> None:
        """Show what a step brought to light."""
        self.console.print(Padding(what, (0, 0, 1, 4)))

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]\n")

    def end(self) -> None:
        seconds = time.monotonic() - self._began
        self.console.print(f"[bold]All of it was verified. {seconds:.0f} seconds in all.[/]")
