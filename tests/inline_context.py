"""A durable context without a service behind it: operations are done at once, in one thread.

It is for rules that need hundreds of runs. Suspension and replay are the business of the SDK's own
test runner, in the integration tier.
"""

from __future__ import annotations

import json
import logging
from itertools import count
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python.exceptions import StepError, WaitForConditionError
from aws_durable_execution_sdk_python.lambda_service import ErrorObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_durable_execution_sdk_python.config import Duration, StepConfig
    from aws_durable_execution_sdk_python.waits import WaitForConditionConfig


class InlineContext:
    """What `ecs_ops.aws.durable` uses of a DurableContext; waits only call `pass_time`."""

    def __init__(self, pass_time: Callable[[int], None] = lambda _: None) -> None:
        self.logger = logging.getLogger(__name__)
        self._pass_time = pass_time

    def step(self, func: Callable[[Any], Any], name: str, config: StepConfig) -> Any:
        del name
        for attempt in count(1):
            try:
                return _stored(func(None))
            except Exception as error:  # noqa: BLE001 - as the SDK does it
                decision = config.retry_strategy and config.retry_strategy(error, attempt)
                if not decision or not decision.should_retry:
                    ErrorObject.from_exception(error).raise_as_operation_error(StepError)
                self._pass_time(decision.delay_seconds)
        raise AssertionError

    def wait(self, duration: Duration, name: str) -> None:
        del name
        self._pass_time(duration.to_seconds())

    def wait_for_condition(
        self, check: Callable[[Any, Any], Any], config: WaitForConditionConfig[Any], name: str
    ) -> Any:
        del name
        state = _stored(config.initial_state)
        for attempt in count(1):
            try:
                state = _stored(check(state, self))
            except Exception as error:  # noqa: BLE001 - as the SDK does it
                ErrorObject.from_exception(error).raise_as_operation_error(WaitForConditionError)
            decision = config.wait_strategy(state, attempt)
            if not decision.should_continue:
                return state
            self._pass_time(decision.delay_seconds)
        raise AssertionError


def _stored(value: Any) -> Any:
    """Return the value as it is after it was stored and read again."""
    return json.loads(json.dumps(value))
