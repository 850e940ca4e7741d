"""One module for each thing that AWS does and ministack does not.

Each has `install()`, which hooks it into the running server. They do not import one another, so
one that a later ministack makes superfluous is removed by deleting its file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def install_all() -> list[str]:
    """Install every extension of this folder; return their names."""
    names = sorted(module.name for module in iter_modules(__path__))
    for name in names:
        import_module(f"{__name__}.{name}").install()
    return names
