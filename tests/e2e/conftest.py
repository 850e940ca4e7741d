"""The deployed stack: one local account for the whole run, with the built bundle in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from tests.e2e import permissions
from tests.sandbox import stack
from tests.sandbox.account import Account, temporary_account

if TYPE_CHECKING:
    from collections.abc import Iterator


CALLS = pytest.StashKey[list[permissions.Call]]()


@pytest.fixture(scope="session")
def account(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Account]:
    """A local account of this run's own, with the demo cluster and nothing else."""
    with temporary_account(tmp_path_factory.mktemp("account")) as running:
        stack.create_demo_cluster(running)
        yield running
        pytestconfig.stash[CALLS] += permissions.recorded(running)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build the bundle: the first of the parallel workers does, for all of them."""
    mark = tmp_path_factory.getbasetemp().parent / "built"
    with FileLock(f"{mark}.lock"):
        if not mark.exists() or "PYTEST_XDIST_WORKER" not in os.environ:
            stack.build()
            mark.touch()


@pytest.fixture(scope="session")
def outputs(account: Account, built: None) -> dict[str, str]:  # noqa: ARG001 (it comes first)
    """Deploy the bundle as a user does, and return the stack's outputs."""
    return stack.deploy(account)


@pytest.fixture(autouse=True)
def _stack(request: pytest.FixtureRequest) -> None:
    """Every test here runs against the stack, but for those of the account itself."""
    if "sandbox" not in request.path.parts[-2:]:
        request.getfixturevalue("outputs")


# ---------------------------------------------------------------- permissions
FOUND = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--each-permission",
        action="store_true",
        help="fail for what the functions' policies grant and none of these tests uses",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CALLS], config.stash[FOUND] = [], []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what the account of a parallel worker has recorded."""
    node.config.stash[CALLS] += getattr(node, "workeroutput", {}).get("calls", [])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail for what was denied; and for what was not needed, where all tests are there to say."""
    config = session.config
    calls = config.stash[CALLS]
    if hasattr(config, "workeroutput"):
        config.workeroutput["calls"] = calls
        return
    if not stack.BUILT_TEMPLATE.exists():
        return
    passed, grants = exitstatus == pytest.ExitCode.OK, permissions.built()
    all_are_there = passed and config.getoption("--each-permission")
    problems = [f"denied  {line}" for line in permissions.denied(calls, grants)]
    if all_are_there:
        problems += [f"unused  {line}" for line in permissions.unused(calls, grants)]
    if problems and passed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if all_are_there and not problems:
        problems = [permissions.praise(grants)]
    config.stash[FOUND] = problems


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cells the fault matrix of run_task had, and what is wrong with permissions."""
    if found := terminalreporter.config.stash[FOUND]:
        terminalreporter.section("permissions of the functions")
        terminalreporter.write_line("\n".join(found))
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
