"""What puts a service back after an execution that ended without a result."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import pytest

from ecs_ops.aws.durable import GaveUp
from ecs_ops.aws.ended_execution import EndedExecution
from ecs_ops.aws.recycle_lease import Holder
from ecs_ops.aws.recycle_rescue import rescue
from ecs_ops.aws.service_recycle import CONTINUATION, Outside
from ecs_ops.errors import InvalidRequest
from ecs_ops.recycle import RecycleRequest
from tests.ecs_simulator import EcsSimulator
from tests.inline_context import InlineContext
from tests.recycle_run import RecycleRun

if TYPE_CHECKING:
    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.recycle_rescue import Rescue

RUN = "arn:aws:lambda:us-west-2:111122223333:function:recycle:1/durable-execution/first/0a16"
FURTHER = f"{RUN.removesuffix('first/0a16')}{sha256(RUN.encode()).hexdigest()[:32]}-2/31bd"
HOLDER = Holder(RUN, 1, RUN)
EVENT = {"cluster_name": "shop", "service_name": "web", "role_arn": "arn:role"}
REFUSED = InvalidRequest("role_arn", "arn:role is not among those that are allowed")
INVALID, STEP = "ecs_ops.errors.InvalidRequest", "aws_durable_execution_sdk_python.exceptions."


class Rescued:
    """A recycle that raised the desired count of a service to 4, ended, and is picked up."""

    def __init__(self, *, refusals: int = 0) -> None:
        """Have the request refused so many times before it is let through."""
        self.service = EcsSimulator(desired_count=3)
        self.leases = RecycleRun(self.service, RecycleRequest("shop", "web")).leases
        self.told: list[tuple[Rescue, str]] = []
        self._refusals = refusals
        arn = self.service.describe().arn
        self.leases.take(arn, HOLDER, now=self.service.clock(), expires=self.service.clock())
        self.leases.record(
            arn,
            HOLDER,
            {
                "before": {"desired_count": 3, "bounds": None},
                "made": {"desired_count": 4, "bounds": None},
                "made_earlier": [],
            },
        )
        self.service.update_service(4)

    def go(self, ended: EndedExecution) -> Rescue | None:
        return rescue(
            cast("DurableContext", InlineContext(self.service.pass_time)),
            lambda: ended,
            self._outside_of,
            lambda done, problem: self.told.append((done, problem)),
            self.service.clock,
        )

    def _outside_of(self, _request: RecycleRequest) -> Outside:
        if self._refusals:
            self._refusals -= 1
            raise REFUSED
        return Outside(
            service=self.service,
            leases=self.leases,
            go_on=lambda name, _given: name,
            tell=lambda _report, _execution: None,
            clock=self.service.clock,
        )


@pytest.mark.parametrize("kind", [INVALID, f"{STEP}StepError"])
def test_nothing_is_put_back_when_the_same_refusal_ended_it_before_it_began(kind: str) -> None:
    rescued = Rescued(refusals=10_000)

    done = rescued.go(EndedExecution(RUN, "FAILED", EVENT, str(REFUSED), kind))

    assert done
    assert not done["put_back"]
    assert rescued.told == [(done, "")]


@pytest.mark.parametrize(
    ("status", "error", "kind", "given"),
    [
        ("FAILED", str(REFUSED), "ecs_ops.aws.durable.GaveUp", {}),
        ("FAILED", f"restore: {REFUSED}", INVALID, {}),
        ("FAILED", str(REFUSED), f"{STEP}WaitForConditionError", {}),
        ("STOPPED", str(REFUSED), INVALID, {}),
        ("FAILED", str(REFUSED), INVALID, {CONTINUATION: {"run": RUN, "number": 2}}),
    ],
    ids=["gave up", "another text", "another operation", "stopped", "a further execution"],
)
def test_operator_is_told_when_a_refusal_keeps_what_had_begun_from_being_put_back(
    status: str, error: str, kind: str, given: dict[str, Any]
) -> None:
    rescued = Rescued(refusals=10_000)

    with pytest.raises(GaveUp, match="is not among"):
        rescued.go(EndedExecution(FURTHER if given else RUN, status, EVENT | given, error, kind))

    ((_, problem),) = rescued.told
    assert problem == str(REFUSED)


def test_service_is_put_back_when_the_request_is_refused_at_first() -> None:
    rescued = Rescued(refusals=3)

    done = rescued.go(EndedExecution(RUN, "STOPPED", EVENT, ""))

    assert done
    assert done["put_back"]
    assert rescued.service.desired_count == 3
    assert rescued.leases.items == {}


def test_recycle_of_another_is_left_alone_when_somebody_makes_up_a_continuation() -> None:
    rescued = Rescued()
    made_up = {CONTINUATION: {"run": RUN, "number": 2}}

    assert (
        rescued.go(EndedExecution(f"{RUN[:-10]}other/77f0", "FAILED", EVENT | made_up, "")) is None
    )

    assert rescued.service.desired_count == 4
    assert rescued.leases.items


def test_service_is_left_to_a_further_execution_when_that_has_begun() -> None:
    rescued = Rescued()
    arn, now = rescued.service.describe().arn, rescued.service.clock()
    rescued.leases.renew(arn, Holder(RUN, 2, FURTHER), expires=now + 3_600)

    done = rescued.go(EndedExecution(RUN, "STOPPED", EVENT, ""))

    assert done
    assert not done["put_back"]
    assert rescued.service.desired_count == 4
    assert rescued.leases.items[arn]["execution"] == FURTHER
