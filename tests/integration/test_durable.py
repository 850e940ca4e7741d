"""The durable glue, under the SDK's own runner."""

from collections.abc import Callable
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python_testing import DurableFunctionTestResult

from ecs_ops.aws.durable import GaveUp, attempt, explain, run_step, wait_until
from ecs_ops.errors import AwsFailure, NotFound, Transient
from tests.durable_runner import run_durably


class Clock:
    """A clock that goes on by so many seconds whenever it is read."""

    def __init__(self, tick: float = 1.0) -> None:
        self.now = 1_000_000.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def run(flow: Callable[[DurableContext], Any]) -> DurableFunctionTestResult:
    return run_durably(lambda _event, context: flow(context))


def raising(error: Exception) -> Callable[[], None]:
    def func() -> None:
        raise error

    return func


def test_step_is_run_again_when_it_fails_for_a_moment() -> None:
    attempts: list[int] = []

    def func() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise Transient("busy")
        return "done"

    result = run(lambda context: run_step(context, "work", func))

    assert result.status.value == "SUCCEEDED"
    assert len(attempts) == 3


def test_step_is_given_up_when_it_stays_transient() -> None:
    attempts: list[int] = []

    def func() -> None:
        attempts.append(1)
        raise Transient("busy")

    assert run(lambda context: run_step(context, "work", func)).status.value == "FAILED"
    assert len(attempts) == 6


def test_step_is_not_run_again_when_a_retry_would_not_mend_it() -> None:
    attempts: list[int] = []

    def func() -> None:
        attempts.append(1)
        raise AwsFailure("RunTask", "AccessDenied", "no")

    assert run(lambda context: run_step(context, "work", func)).status.value == "FAILED"
    assert attempts == [1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFound("there is no cluster shop"), "there is no cluster shop"),
        (KeyError("taskArn"), "unexpected KeyError: 'taskArn'"),
    ],
)
def test_error_is_explained_the_same_when_it_came_out_of_a_step(
    error: Exception, told: str
) -> None:
    def flow(context: DurableContext) -> str:
        try:
            run_step(context, "work", raising(error))
        except Exception as stepped:  # noqa: BLE001 - what run_task does
            return explain(stepped)
        return ""

    assert explain(error) == told
    assert run(flow).result == f'"{told}"'


def test_wait_ends_when_what_was_waited_for_is_seen() -> None:
    looks: list[int | None] = []

    def check(last: int | None) -> int:
        looks.append(last)
        return (last or 0) + 1

    def flow(context: DurableContext) -> list[Any]:
        waited = wait_until(
            context, "count", check, lambda seen: seen == 4, deadline=2_000_000, clock=Clock()
        )
        return [waited.seen, waited.met]

    assert run(flow).result == "[4, true]"
    assert looks == [None, 1, 2, 3]


def test_last_sight_is_kept_when_the_deadline_comes_first() -> None:
    clock = Clock(tick=2)

    def flow(context: DurableContext) -> list[Any]:
        waited = wait_until(
            context,
            "count",
            lambda last: (last or 0) + 1,
            lambda _seen: False,
            deadline=1_000_005,
            clock=clock,
        )
        return [waited.seen, waited.met]

    assert run(flow).result == "[3, false]"


def test_wait_goes_on_when_a_look_gets_no_answer() -> None:
    answers: list[Any] = [Transient("busy"), "PENDING", Transient("busy"), "STOPPED"]

    def check(_last: str | None) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def flow(context: DurableContext) -> list[Any]:
        waited = wait_until(
            context,
            "stop",
            check,
            lambda seen: seen == "STOPPED",
            deadline=2_000_000,
            clock=Clock(),
        )
        return [waited.seen, waited.met]

    assert run(flow).result == '["STOPPED", true]'


def test_wait_gives_up_when_no_look_ever_gets_an_answer() -> None:
    clock = Clock()

    def check(_last: str | None) -> str:
        raise Transient("busy")

    def flow(context: DurableContext) -> list[Any]:
        waited = wait_until(context, "stop", check, bool, deadline=1_000_003, clock=clock)
        return [waited.seen, waited.met]

    assert run(flow).result == "[null, false]"


def test_wait_fails_when_a_look_is_refused() -> None:
    def check(_last: str | None) -> str:
        raise AwsFailure("DescribeTasks", "AccessDenied", "no")

    result = run(
        lambda context: (
            wait_until(context, "stop", check, bool, deadline=2_000_000, clock=Clock()).met
        )
    )

    assert result.status.value == "FAILED"
    assert result.error is not None
    assert result.error.message == "DescribeTasks failed: AccessDenied: no"


def test_attempt_goes_on_until_it_succeeds_when_it_fails_for_a_moment() -> None:
    answers: list[Any] = [Transient("busy")] * 9

    def func() -> str:
        if answers:
            raise answers.pop()
        return "done"

    def flow(context: DurableContext) -> str:
        return attempt(context, "work", func, deadline=2_000_000, clock=Clock())

    assert run(flow).result == '"done"'
    assert answers == []


@pytest.mark.parametrize(
    ("error", "told", "attempts"),
    [
        (Transient("busy hunter2"), "busy ***", 3),
        (AwsFailure("RunTask", "Denied", "hunter2"), "RunTask failed: Denied: ***", 1),
        (KeyError("hunter2"), "unexpected KeyError: '***'", 1),
        (NotFound(""), "NotFound", 1),
    ],
)
def test_attempt_gives_up_and_logs_no_secret_when_it_fails_for_good(
    error: Exception, told: str, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def func() -> None:
        looks.append(1)
        raise error

    def flow(context: DurableContext) -> str:
        try:
            attempt(
                context,
                "work",
                func,
                deadline=1_000_003,
                hide=lambda text: text.replace("hunter2", "***"),
                clock=clock,
            )
        except GaveUp as gave_up:
            return explain(gave_up)
        return ""

    clock = Clock()
    with caplog.at_level("DEBUG"):
        result = run(flow)

    assert result.result == f'"{told}"'
    assert len(looks) == attempts
    assert "hunter2" not in caplog.text
