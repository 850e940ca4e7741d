"""Run a durable function in this process, suspended and replayed as Lambda does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import (
    DurableFunctionTestResult,
    DurableFunctionTestRunner,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def run_durably(
    flow: Callable[[Any, DurableContext], Any], event: Any = None, *, name: str = "execution"
) -> DurableFunctionTestResult:
    """Run `flow` as a durable function to its end; its waits take no time.

    Args:
        flow: the handler, not yet decorated. It is run again at every resumption, so a fake clock
            belongs outside of it.
        event: the input.
        name: of the execution; part of its ARN.
    """
    return run_handler(durable_execution(flow), event, name=name)


def run_handler(
    handler: Callable[[Any, Any], Any], event: Any = None, *, name: str = "execution"
) -> DurableFunctionTestResult:
    """Run a handler that is a durable function already."""
    with DurableFunctionTestRunner(handler=handler, poll_interval=0.01) as runner:
        result: DurableFunctionTestResult = runner.run(
            input=json.dumps(event), execution_timeout=60, execution_name=name
        )
    # The runner stops its event loop, but leaves it open.
    runner._scheduler._loop.close()
    return result
