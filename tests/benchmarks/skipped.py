"""Our own flow with time skipped: its real waits, on a clock that jumps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ecs_ops.aws.task_run import Outside, respond
from tests.fake_ecs_tasks import FakeTasks
from tests.inline_context import InlineContext
from tests.sandbox.account import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_durable_execution_sdk_python import DurableContext
    from aws_durable_execution_sdk_python.types import LambdaContext

    from ecs_ops.custom_resource import Answer
    from ecs_ops.verdict import TaskState

_EVENT = REPOSITORY / "events" / "run_task" / "create.json"


@dataclass(frozen=True, slots=True)
class Skipped:
    """How one request would have gone."""

    latency: float
    """Seconds from the end of the task to the beginning of the invocation that saw it."""
    looks: int
    """Number of DescribeTasks, one for each invocation."""


class _Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class _Sleeper(FakeTasks):
    """A task that takes so many seconds."""

    def __init__(self, clock: _Clock, seconds: float) -> None:
        super().__init__()
        self.ends = clock.now + seconds
        self.looks = 0
        self._clock = clock

    def describe(self, cluster: str, task_arn: str) -> TaskState | None:
        del cluster, task_arn
        self.looks += 1
        is_over = self._clock.now >= self.ends
        return self.task("STOPPED", exit_code=0) if is_over else self.task()


class _Around:
    """The stack, the log and CloudFormation's side."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def stack_status(self, stack_id: str) -> str:
        del stack_id
        return "CREATE_IN_PROGRESS"

    def statuses_above(self, stack_id: str) -> list[str]:
        del stack_id
        return []

    def last_lines(self, group: str, stream: str, region: str = "", limit: int = 10) -> list[str]:
        del group, stream, region, limit
        return []

    def answer(
        self, event: Mapping[str, Any], answer: Answer, lambda_context: LambdaContext | None
    ) -> None:
        del event, lambda_context
        self.answers.append(answer)


class _Context(InlineContext):
    lambda_context = None


def go(seconds: float, *, invocation: float) -> Skipped:
    """Run one request whose task takes so many seconds.

    Args:
        seconds: of the task, from RunTask to STOPPED.
        invocation: seconds that one look takes, besides the wait before it.
    """
    clock, around = _Clock(), _Around()

    def pass_time(delay: int) -> None:
        clock.now += delay + invocation

    event = json.loads(_EVENT.read_text())
    event["ResourceProperties"]["ServiceTimeout"] = "3600"
    tasks = _Sleeper(clock, seconds)
    outside = Outside(tasks=tasks, stacks=around, logs=around, answers=around, clock=clock)
    respond(event, cast("DurableContext", _Context(pass_time)), outside)
    (answer,) = around.answers
    if answer["Status"] != "SUCCESS":
        raise AssertionError(answer["Reason"])
    return Skipped(clock.now - tasks.ends, tasks.looks)
