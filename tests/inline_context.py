"""A durable context without a service behind it: operations are done at once, in one thread.

It is for rules that need hundreds of runs. Suspension itself is the business of the SDK's own test
runner, in the integration tier. What is done here is dying: an execution can end at any of its
operations, before or after the effect, and be replayed from what had been stored until then.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aws_durable_execution_sdk_python.exceptions import StepError, WaitForConditionError
from aws_durable_execution_sdk_python.lambda_service import ErrorObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_durable_execution_sdk_python.config import Duration, StepConfig
    from aws_durable_execution_sdk_python.waits import WaitForConditionConfig


class Killed(BaseException):
    """The process died here: like the SDK's own suspension no Exception, so nothing catches it."""


@dataclass(frozen=True, slots=True)
class Death:
    """When the process dies."""

    at: int
    """Number of the effect: an attempt of a step, a poll, or a wait; 1 is the first."""
    after: bool
    """Whether the effect takes place, and only its result is not stored."""


@dataclass(slots=True)
class _Operation:
    """What is stored of an operation."""

    name: str
    attempts: int = 0
    state: str = ""
    """JSON: the result, or what the last poll left."""
    error: ErrorObject | None = None
    over: bool = False


class InlineContext:
    """What `ecs_ops.aws.durable` uses of a DurableContext; waits only call `pass_time`."""

    lambda_context: Any = None

    def __init__(
        self,
        pass_time: Callable[[int], None] = lambda _: None,
        *,
        arn: str = "arn:aws:lambda:us-west-2:111122223333:function:f:1/durable-execution/one/1",
        death: Death | None = None,
    ) -> None:
        self.logger = logging.getLogger(__name__)
        self.execution_context = SimpleNamespace(durable_execution_arn=arn)
        self.operations = 1
        """As Lambda counts them: 1, each attempt of a step, each wait, and for each
        wait_for_condition 1 and its polls."""
        self.suspensions = 0
        """How often nothing ran; each begins a new invocation."""
        self.effects: list[str] = []
        """Names of the operations that did something, in order: where it can die."""
        self._pass_time = pass_time
        self._death = death
        self._stored: list[_Operation] = []
        self._position = 0

    def replay(self) -> None:
        """Begin again at the top, with what is stored."""
        self._position = 0

    def result(self, name: str) -> str:
        """Return what is stored of an operation, as JSON; '' when it has not been done."""
        return next((operation.state for operation in self._stored if operation.name == name), "")

    def step(self, func: Callable[[Any], Any], name: str, config: StepConfig) -> Any:
        step = self._next(name)
        while not step.over:
            step.attempts += 1
            self.operations += 1
            try:
                step.state = self._do(name, lambda: func(None))
                step.over = True
            except Exception as error:  # noqa: BLE001 - as the SDK does it
                decision = config.retry_strategy and config.retry_strategy(error, step.attempts)
                if decision and decision.should_retry:
                    self._sleep(decision.delay_seconds)
                else:
                    step.error, step.over = ErrorObject.from_exception(error), True
        if step.error:
            step.error.raise_as_operation_error(StepError)
        return json.loads(step.state)

    def wait(self, duration: Duration, name: str) -> None:
        wait = self._next(name)
        if not wait.over:
            self.operations += 1
            # Lambda keeps the time, so a wait that has begun is over when its time is.
            self._do(name, lambda: self._sleep(duration.to_seconds()))
            wait.over = True

    def wait_for_condition(
        self, check: Callable[[Any, Any], Any], config: WaitForConditionConfig[Any], name: str
    ) -> Any:
        wait = self._next(name)
        if not wait.state:
            self.operations += 1
            wait.state = json.dumps(config.initial_state)
        while not wait.over:
            self.operations += 1
            try:
                state = self._do(name, lambda: check(json.loads(wait.state), self))
            except Exception as error:  # noqa: BLE001 - as the SDK does it
                wait.error, wait.over = ErrorObject.from_exception(error), True
                break
            wait.state = state
            wait.attempts += 1
            decision = config.wait_strategy(json.loads(wait.state), wait.attempts)
            if decision.should_continue:
                self._sleep(decision.delay_seconds)
            else:
                wait.over = True
        if wait.error:
            wait.error.raise_as_operation_error(WaitForConditionError)
        return json.loads(wait.state)

    def _next(self, name: str) -> _Operation:
        """Return what is stored of the next operation."""
        self._position += 1
        if self._position > len(self._stored):
            self._stored.append(_Operation(name))
        operation = self._stored[self._position - 1]
        if operation.name != name:
            raise AssertionError(f"the replay came to {name}, not to {operation.name} as before")
        return operation

    def _do(self, name: str, effect: Callable[[], Any]) -> str:
        """Do something, unless the process dies before; return it as it is stored."""
        self.effects.append(name)
        dies = self._death is not None and self._death.at == len(self.effects)
        if dies and self._death and not self._death.after:
            raise Killed
        try:
            return json.dumps(effect())
        finally:
            if dies:
                raise Killed

    def _sleep(self, seconds: int) -> None:
        self.suspensions += 1
        self._pass_time(seconds)
