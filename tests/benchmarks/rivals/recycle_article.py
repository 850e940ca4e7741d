"""The way of the article: one task after the other, in one invocation of a Lambda function.

It runs over the simulator, which calls what AWS names so. Where the article leaves it open it is
given the benefit: botocore tries a throttled call again, and a minimum is raised only if there is
one. Its two waits after a stop, for the new task and for stability, are both `services_stable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ecs_ops.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecs_ops.recycle import Bounds
    from tests.ecs_simulator import EcsSimulator

# Lambda's longest timeout.
LAMBDA_ENDS: Final = 900
# botocore 1.43, ecs/waiters-2.json: services_stable.
WAITER_PAUSE: Final = 15
_WAITER_LOOKS: Final = 40
_RETRY_AFTER: Final = 1


class LambdaTimeout(BaseException):
    """Lambda ends the process: no `except Exception`, and no clean-up, ever sees it."""


class WaiterError(Exception):
    """The service was not stable in time."""


@dataclass(frozen=True, slots=True)
class ArticleWay:
    """The recycle of one service."""

    service: EcsSimulator
    wait_time: int

    def run(self) -> None:
        """Replace every task.

        Raises:
            LambdaTimeout: 15 minutes are over; the service stays as it is.
            WaiterError: the service did not become stable; it stays as it is.
        """
        service = self.service
        service.at(LAMBDA_ENDS, self._die)
        _, _, desired_count = self._call(service.counts)
        bounds = self._call(service.bounds)
        tasks = self._call(self._list_tasks)
        if bounds:
            more: Bounds = {"lowest": desired_count + 1, "highest": bounds["highest"]}
            self._call(lambda: service.register_scalable_target(more))
        self._call(lambda: service.update_service(desired_count + 1))
        self._wait_until_stable()
        for task in tasks:
            self._stop(task)
            self._wait_until_stable()
            service.pass_time(self.wait_time)
        if bounds:
            self._call(lambda: service.register_scalable_target(bounds))
        self._call(lambda: service.update_service(desired_count))

    def _die(self) -> None:
        raise LambdaTimeout

    def _list_tasks(self) -> list[str]:
        with self.service.call("ListTasks"):
            return self.service.kept

    def _stop(self, task: str) -> None:
        self._call(lambda: self.service.stop(task))

    def _wait_until_stable(self) -> None:
        for _ in range(_WAITER_LOOKS):
            deployments, running, desired_count = self._call(self.service.counts)
            if deployments == 1 and running == desired_count:
                return
            self.service.pass_time(WAITER_PAUSE)
        raise WaiterError

    def _call[T](self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except Transient:
                self.service.pass_time(_RETRY_AFTER)
