"""The durable glue run_task and recycle_service share: a step, and a wait that is not billed.

Three rules of the SDK shape it (aws-durable-execution-sdk-python 3.0, read in its source):

* A handler is run again from the top at every resumption. Whatever may differ between two runs -
  the clock, an answer of AWS - is read inside an operation, whose result is stored.
* An exception inside the check of `wait_for_condition` ends that wait for good, so a throttled
  poll must not raise.
* Suspension is a `BaseException`: `except Exception` never sees it, and `finally` always does.
  Put compensation into `except Exception`, never into `finally`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, cast

from aws_durable_execution_sdk_python import state
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryStrategyConfig, create_retry_strategy
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

from ecs_ops.errors import EcsOpsError, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_durable_execution_sdk_python import DurableContext
    from aws_durable_execution_sdk_python.types import WaitForConditionCheckContext

# At the end of an invocation the SDK's checkpoint thread notices only by this poll that it is to
# stop. Its own 0.1 s was half of what a look at a task was billed. See docs/decisions.md.
state._STOP_SIGNAL_POLL_SECONDS = 0.005  # noqa: SLF001 - there is no setting

# Transient again after six attempts, about half a minute apart in all, is not a hiccup any more.
# Everything else fails at once: the SDK's default would try a refused request six times.
RETRY_TRANSIENT = StepConfig(
    retry_strategy=create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=6,
            initial_delay=Duration.from_seconds(1),
            max_delay=Duration.from_seconds(30),
            retryable_error_types=[Transient],
        )
    )
)

# Seconds between attempts.
_LONGEST_PAUSE = 20
# A wait that backs off looks again after a twelfth of the time it has waited.
_PART_OF_THE_WAIT = 12


class GaveUp(EcsOpsError):
    """An operation did not succeed; the text says for a person why."""


class _Attempt[T](TypedDict):
    """What one attempt leaves; stored by the SDK as JSON."""

    value: T | None
    why: str
    """What went wrong; '' when nothing did."""
    again: bool


@dataclass(frozen=True, slots=True)
class Waited[T]:
    """How a wait ended."""

    seen: T | None
    """What the last check that got an answer returned; None when none did."""
    met: bool
    """Whether `seen` is what was waited for; False when the deadline came first."""
    polls: int = 0
    took: float = 0
    """Seconds from the first poll to the last."""


class _Poll[T](TypedDict):
    """What one poll leaves for the next; stored by the SDK as JSON."""

    seen: T | None
    met: bool
    left: float
    """Seconds to the deadline, read beside the check."""
    began: float
    """Epoch seconds of the first poll."""
    polls: int
    soon: bool
    """Whether the next poll is worth hurrying for."""


def run_step[T](context: DurableContext, name: str, func: Callable[[], T]) -> T:
    """Run `func` once and store its result, which must be JSON; retry only Transient.

    Steps are *at least* once: give every effect in `func` an identity of its own (a client token).

    Raises:
        aws_durable_execution_sdk_python.StepError: whatever `func` raised, by its text.
            `error_type` is the qualified name of the type; the object itself is gone, because a
            replay could not bring it back. Return an outcome when its type matters.
    """
    return context.step(lambda _: func(), name=name, config=RETRY_TRANSIENT)


def explain(error: Exception) -> str:
    """Say for a person what went wrong, in an operation or beside it.

    Our own errors speak for themselves, also from inside a step, where only their text and the
    qualified name of their type are left. Of any other the type is part of the message:
    a KeyError's text alone says nothing.
    """
    kind = getattr(error, "error_type", type(error).__name__)
    ours = isinstance(error, EcsOpsError) or kind.startswith(f"{EcsOpsError.__module__}.")
    return str(error) if ours else f"unexpected {kind}: {error}"


def wait_until[T](
    context: DurableContext,
    name: str,
    check: Callable[[T | None], T],
    done: Callable[[T], bool],
    *,
    deadline: float,
    max_delay: int = 3,
    backs_off: bool = False,
    soon: Callable[[T], bool] = lambda _: False,
    first_delay: int = 1,
    passing: tuple[type[EcsOpsError], ...] = (Transient,),
    clock: Callable[[], float] = time.time,
) -> Waited[T]:
    """Poll `check` until `done` likes what it returns, or until the deadline.

    Args:
        context: of the durable handler, or a child of it.
        name: of the operation in the execution's history.
        check: gets what the last answered check returned (None at first) and returns what it sees
            now, as JSON. What is `passing` inside it counts as no answer.
        done: pure; True ends the wait.
        deadline: epoch seconds. Take it from a step, or a replay moves it.
        max_delay: seconds between polls at most. Delays begin at one second and double. Every poll
            counts toward the 3,000 operations an execution may have.
        backs_off: whether the delay goes on growing, to a part of the time waited so far, so that
            a wait of a day takes a hundred polls.
        first_delay: seconds from the first poll to the second, where it is known to be in vain to
            look earlier.
        soon: pure; True when what was seen is worth another look at once, the deadline or not. It
            must not be so for ever.
        passing: errors that may be gone at the next poll.
        clock: epoch seconds; read only inside the check, so a replay sees the stored reading.

    Raises:
        aws_durable_execution_sdk_python.WaitForConditionError: `check` raised something other
            than those.
    """

    def poll(last: _Poll[T], poll_context: WaitForConditionCheckContext) -> _Poll[T]:
        seen, met, hurry = last["seen"], False, False
        try:
            seen = check(seen)
            met, hurry = done(seen), soon(seen)
        except passing as error:
            poll_context.logger.warning("%s: no answer this time: %s", name, error)
        now = clock()
        return {
            "seen": seen,
            "met": met,
            "left": deadline - now,
            "began": last["began"] or now,
            "polls": last["polls"] + 1,
            "soon": hurry,
        }

    def strategy(state: _Poll[T], attempt: int) -> WaitForConditionDecision:
        if state["met"] or (state["left"] <= 0 and not state["soon"]):
            return WaitForConditionDecision.stop_polling()
        # Capped before it is computed: a float exponent overflows after some thousand polls.
        growing = 1 if state["soon"] else 2 ** min(attempt - 1, 16)
        waited = deadline - state["left"] - state["began"]
        longest = max(max_delay, waited / _PART_OF_THE_WAIT) if backs_off else max_delay
        delay = max(1, min(growing, math.floor(longest), math.ceil(state["left"])))
        if attempt == 1 and not state["soon"]:
            delay = max(1, min(first_delay, math.ceil(state["left"])))
        return WaitForConditionDecision.continue_waiting(Duration(seconds=delay))

    first: _Poll[T] = {
        "seen": None,
        "met": False,
        "left": 0.0,
        "began": 0.0,
        "polls": 0,
        "soon": False,
    }
    last = context.wait_for_condition(
        poll, WaitForConditionConfig(wait_strategy=strategy, initial_state=first), name=name
    )
    return Waited(
        seen=last["seen"],
        met=last["met"],
        polls=last["polls"],
        took=deadline - last["left"] - last["began"],
    )


def attempt[T](
    context: DurableContext,
    name: str,
    func: Callable[[], T],
    *,
    deadline: float,
    hide: Callable[[str], str] = str,
    passing: tuple[type[EcsOpsError], ...] = (Transient,),
    clock: Callable[[], float] = time.time,
) -> T:
    """Run `func` once and store its result; again, for as long as there is time, if that may help.

    Unlike `run_step` it lets nothing raise inside the operation: the SDK logs such an exception
    as it is, and what AWS says may repeat what it was sent.

    Args:
        context: of the durable handler.
        name: of the operation in the execution's history.
        func: returns JSON. It runs at least once, so its effects need an identity of their own.
        deadline: epoch seconds, from a step.
        passing: errors after which another try may help.
        hide: takes what is secret out of an error's text, before it is stored.
        clock: epoch seconds.

    Raises:
        GaveUp: `func` raised, and the deadline has come or a retry would not mend it.
    """

    def check(_last: _Attempt[T] | None) -> _Attempt[T]:
        try:
            return {"value": func(), "why": "", "again": False}
        except Exception as error:  # noqa: BLE001 - told below, without what is secret
            why = hide(explain(error)) or type(error).__name__
            return {"value": None, "why": why, "again": isinstance(error, passing)}

    waited = wait_until(
        context,
        name,
        check,
        lambda seen: not seen["again"],
        deadline=deadline,
        max_delay=_LONGEST_PAUSE,
        clock=clock,
    )
    seen = cast("_Attempt[T]", waited.seen)
    if seen["why"]:
        context.logger.warning("%s: %s", name, seen["why"])
        raise GaveUp(seen["why"])
    return cast("T", seen["value"])
