"""Run every section, print what was measured, and write it to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import cold_start, launch_task, log_events, recycle_service, run_task
from tests.benchmarks.report import document
from tests.sandbox.account import REPOSITORY

SECTIONS = {
    "run_task": run_task.measure,
    "log_events": log_events.measure,
    "recycle_service": recycle_service.measure,
    "launch_task": launch_task.measure,
    "cold_start": cold_start.measure,
}
_PAGE = REPOSITORY / "docs" / "benchmarks.md"


def main() -> int:
    """Return 1 when a goal was missed by more than its noise."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="one section; docs/ is left as it is"
    )
    chosen: list[str] | None = parser.parse_args().only
    load = os.getloadavg()[0]
    sections = []
    for name in chosen or SECTIONS:
        with tempfile.TemporaryDirectory() as folder:
            sections.append(SECTIONS[name](Path(folder)))
    page = document(sections, load)
    sys.stdout.write(page)
    if not chosen:
        _PAGE.write_text(page)
    return int(any(goal.is_failure for section in sections for goal in section.goals))


if __name__ == "__main__":
    sys.exit(main())
