"""A whole recycle of a simulated service: its executions, one after the other, and its rescue.

It does what Lambda does around the flow: replays an execution whose process died, starts the
further ones, and reports to the rescue one that ended without a result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from aws_durable_execution_sdk_python.exceptions import DurableExecutionsError

from ecs_ops.aws.ended_execution import EndedExecution
from ecs_ops.aws.recycle_rescue import rescue
from ecs_ops.aws.service_recycle import Outside, continuation_of, recycle
from ecs_ops.errors import EcsOpsError
from ecs_ops.recycle import MOST_OPERATIONS, unpack
from tests.fake_leases import FakeLeases
from tests.inline_context import Death, InlineContext, Killed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_durable_execution_sdk_python import DurableContext

    from ecs_ops.aws.recycle_lease import Holder, Lease, Taken
    from ecs_ops.aws.recycle_rescue import Rescue
    from ecs_ops.recycle import Changes, Continued, RecycleRequest, Report
    from tests.ecs_simulator import EcsSimulator


_EXECUTIONS: Final = "arn:aws:lambda:us-west-2:111122223333:function:recycle:1/durable-execution"


@dataclass
class CountedLeases(FakeLeases):
    """Leases of which each use is a call of AWS to the simulator, so it can fail like one."""

    service: EcsSimulator = field(kw_only=True)

    def take(self, service_arn: str, holder: Holder, *, now: float, expires: float) -> Taken:
        with self.service.call("lease.take"):
            return super().take(service_arn, holder, now=now, expires=expires)

    def record(self, service_arn: str, holder: Holder, changes: Changes) -> None:
        with self.service.call("lease.record"):
            super().record(service_arn, holder, changes)
            self.service.announce(changes["made"])

    def renew(self, service_arn: str, holder: Holder, *, expires: float) -> Lease:
        with self.service.call("lease.renew"):
            return super().renew(service_arn, holder, expires=expires)

    def read(self, service_arn: str) -> Lease | None:
        with self.service.call("lease.read"):
            return super().read(service_arn)

    def seize(self, service_arn: str, holder: Holder, *, by: str) -> Changes | None:
        with self.service.call("lease.seize"):
            return super().seize(service_arn, holder, by=by)

    def release(self, service_arn: str, holder: Holder) -> None:
        with self.service.call("lease.release"):
            super().release(service_arn, holder)
            self.service.announce(None)


@dataclass
class RecycleRun:
    """One recycle, from its start until nothing of it is left to do."""

    service: EcsSimulator
    request: RecycleRequest
    deaths: list[Death] = field(default_factory=list)
    """When the process dies: one for each execution, counted by its effects."""
    gap: int = 10
    """Seconds until Lambda runs it again."""
    for_good: bool = False
    """Whether a death is the end of the execution: an operator's stop, or a timeout."""
    name: str = "first"
    """Of the first execution."""
    most_operations: int = MOST_OPERATIONS

    leases: CountedLeases = field(init=False)
    contexts: list[InlineContext] = field(default_factory=list, init=False)
    told: list[Report] = field(default_factory=list, init=False)
    rescued: list[Rescue] = field(default_factory=list, init=False)
    problem: Exception | None = field(default=None, init=False)
    """What an execution failed with."""

    def __post_init__(self) -> None:
        self.leases = CountedLeases(service=self.service)
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._names: dict[str, str] = {}

    def go(self) -> Report | None:
        """Run until the end; return the last report, or None when it ended without one."""
        self._waiting.append((f"{_EXECUTIONS}/{self.name}", {}))
        result = None
        while self._waiting:
            result = self._execute(*self._waiting.pop(0))
        # Only what another execution goes on from has none.
        return cast("Report | None", result)

    @property
    def surveyed(self) -> list[str]:
        """Return the ARNs of the tasks that were there at the start; none if it never looked."""
        found = json.loads(self.contexts[0].result("survey") or "{}").get("found") or {}
        tasks = unpack(found["tasks"]) if found else []
        return [f"{found['arn_prefix']}{task['id']}" for task in tasks]

    @property
    def outside(self) -> Outside:
        return Outside(
            service=self.service,
            leases=self.leases,
            go_on=self._start,
            tell=lambda report, _execution: self.told.append(report),
            clock=self.service.clock,
            most_operations=self.most_operations,
        )

    def _start(self, name: str, given: Mapping[str, Any]) -> str:
        with self.service.call("Invoke"):
            if name not in self._names:
                self._names[name] = f"{_EXECUTIONS}/{name}"
                # As it is after it was sent and received.
                self._waiting.append((self._names[name], json.loads(json.dumps(given))))
            return self._names[name]

    def _execute(self, arn: str, given: dict[str, Any]) -> Report | Continued | None:
        death = self.deaths.pop(0) if self.deaths else None
        context = InlineContext(self._pass_time, arn=arn, death=death)
        self.contexts.append(context)
        while True:
            try:
                return recycle(
                    self.request,
                    cast("DurableContext", context),
                    self.outside,
                    continuation_of(given, arn),
                )
            except Killed:
                if self.for_good:
                    self._rescue(EndedExecution(arn, "STOPPED", self._input(given), ""))
                    return None
                self.service.pass_time(self.gap)
                context.replay()
            except (EcsOpsError, DurableExecutionsError) as error:
                self.problem = error
                self._rescue(
                    EndedExecution(
                        arn,
                        "FAILED",
                        self._input(given),
                        str(error),
                        f"{type(error).__module__}.{type(error).__name__}",
                    )
                )
                return None

    def _input(self, given: dict[str, Any]) -> dict[str, Any]:
        names = {
            "cluster_name": self.request.cluster_name,
            "service_name": self.request.service_name,
        }
        return names | given

    def _rescue(self, ended: EndedExecution) -> None:
        context = InlineContext(self._pass_time, arn=f"{ended.arn}-rescue")
        self.service.pass_time(self.gap)
        while True:
            try:
                rescue(
                    cast("DurableContext", context),
                    lambda: ended,
                    lambda _request: self.outside,
                    lambda found, _execution: self.rescued.append(found),
                    self.service.clock,
                )
            except Killed:
                self.service.pass_time(self.gap)
                context.replay()
            else:
                return

    def _pass_time(self, seconds: int) -> None:
        self.service.pass_time(seconds)
