"""The deployed stack: one local account for the whole run, with the built bundle in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.sandbox import stack
from tests.sandbox.account import Account, temporary_account

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A local account of this run's own, with the demo cluster and nothing else."""
    with temporary_account(tmp_path_factory.mktemp("account")) as running:
        stack.create_demo_cluster(running)
        yield running


@pytest.fixture(scope="session")
def outputs(account: Account, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build the bundle, deploy it as a user does, and return the stack's outputs."""
    # The first of the parallel workers builds, for all of them.
    built = tmp_path_factory.getbasetemp().parent / "built"
    with FileLock(f"{built}.lock"):
        if not built.exists() or "PYTEST_XDIST_WORKER" not in os.environ:
            stack.build()
            built.touch()
    return stack.deploy(account)


@pytest.fixture(autouse=True)
def _stack(request: pytest.FixtureRequest) -> None:
    """Every test here runs against the stack, but for those of the account itself."""
    if "sandbox" not in request.path.parts[-2:]:
        request.getfixturevalue("outputs")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cells the fault matrix of run_task had."""
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)
    ]
    cells = {
        name
        for report in reports
        for key, name in getattr(report, "user_properties", ())
        if key == "cell"
    }
    if cells:
        terminalreporter.write_line(f"fault matrix of run_task: {len(cells)} cells ran")
