"""The deployed stack: one local account for the whole run, with the built bundle in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
def outputs(account: Account) -> dict[str, str]:
    """Build the bundle, deploy it as a user does, and return the stack's outputs."""
    stack.build()
    return stack.deploy(account)


@pytest.fixture(autouse=True)
def _stack(request: pytest.FixtureRequest) -> None:
    """Every test here runs against the stack, but for those of the account itself."""
    if "sandbox" not in request.path.parts[-2:]:
        request.getfixturevalue("outputs")
