"""What is deployed can be imported, by itself: a handler that cannot would answer nobody."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sandbox.stack import BUILT_TEMPLATE

FUNCTIONS = [
    "RunTaskFunction",
    "LogEventsFunction",
    "RecycleServiceFunction",
    "LaunchTaskFunction",
]
_IMPORT = """
import sys
sys.path[:0] = sys.argv[1:]
import boto3, ecs_ops, handler
assert callable(handler.handler)
assert all(path.startswith(sys.argv[2]) for path in (boto3.__file__, ecs_ops.__file__))
"""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_is_imported_from_what_was_built_and_nothing_else(name: str) -> None:
    built = BUILT_TEMPLATE.parent
    layer = str(built / "CommonLayer" / "python")

    # -I and -S: no environment, no site-packages, only the artefact and the standard library.
    command = [sys.executable, "-I", "-S", "-c", _IMPORT, str(built / name), layer]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})

    assert done.returncode == 0, done.stderr
