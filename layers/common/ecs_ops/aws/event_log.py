"""Keeps ECS events: each one in the table once, and a person told once of each failed task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ecs_ops.aws.event_table import key_of
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.errors import AwsFailure, NotFound, Transient
from ecs_ops.event_record import containers_disagree, is_past_retention, record_of
from ecs_ops.task_alert import by_place

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ecs_ops.aws.ecs_tasks import EcsTasks
    from ecs_ops.aws.event_table import EventTable
    from ecs_ops.aws.metrics import Put
    from ecs_ops.aws.task_alerts import TaskAlerts
    from ecs_ops.event_record import EcsEvent, EventRecord

_SECONDS_FOR_ALERTS: Final = 15.0
"""Left for them when the table is busy: one hot key must not keep people from hearing of others."""


class EventLog:
    """The table, and the alerts about what is in it."""

    def __init__(
        self,
        table: EventTable,
        alerts: TaskAlerts,
        tasks: Callable[[], EcsTasks],
        *,
        retention_days: int,
        clusters: Collection[str] = (),
        put: Put = unmeasured,
    ) -> None:
        """Take what the log is made of.

        Args:
            table: where the records go.
            alerts: how people hear of a failed task.
            tasks: makes the adapter of ECS. Few batches need it.
            retention_days: how long a record is kept, counted from when its event happened.
            clusters: ARNs of those whose events are kept; empty for all. An event that names no
                cluster is kept.
            put: writes metrics.
        """
        self._put = put
        self._table = table
        self._alerts = alerts
        self._tasks = tasks
        self._retention_days = retention_days
        self._clusters = frozenset(clusters)
        self._essential: dict[str, frozenset[str]] = {}

    def keep(
        self, events: Mapping[str, EcsEvent], *, now: int, time_left: Callable[[], float]
    ) -> frozenset[str]:
        """Record the events and tell of the failed tasks among them.

        Those that ECS has to be asked about come last: while it hangs, the others are kept.

        Args:
            events: by the id of the message that brought it.
            now: epoch seconds.
            time_left: seconds that may still be spent.

        Returns:
            Ids of the messages that are to come back, because their record is not written, their
            alert not sent, or because ECS did not say which container decides. The others are
            done for good.

        Raises:
            NotFound: the table is not there.
            AwsFailure: AWS refused all of it (no permission, for example).
        """
        disputed = {
            message: event for message, event in events.items() if containers_disagree(event.detail)
        }
        certain = {message: event for message, event in events.items() if message not in disputed}
        records = self._records(certain, {}, now)
        back = self._keep(records, events, now, time_left, reserve=_SECONDS_FOR_ALERTS)
        if disputed:
            essential, doubtful = self._ask(disputed, time_left)
            records = self._records(disputed, essential, now)
            # ECS may have taken most of the time, and who is in doubt is not told of.
            back |= self._keep(records, events, now, time_left, reserve=0, doubtful=doubtful)
        return back

    def _keep(
        self,
        records: Mapping[str, EventRecord],
        events: Mapping[str, EcsEvent],
        now: int,
        time_left: Callable[[], float],
        *,
        reserve: float,
        doubtful: Collection[str] = (),
    ) -> frozenset[str]:
        unwritten = self._table.write(records.values(), time_left=lambda: time_left() - reserve)
        untold = self._alerts.send(
            [
                record
                for message, record in records.items()
                if message not in doubtful
                and key_of(record) not in unwritten
                # Nobody wants to be woken by a replay. And whether it was told is forgotten.
                and not is_past_retention(
                    events[message], retention_days=self._retention_days, now=now
                )
            ],
            now=now,
            time_left=time_left,
        )
        back = frozenset(
            message
            for message, record in records.items()
            if message in doubtful
            or key_of(record) in unwritten
            or ("outcome" in record and record.get("taskArn") in untold)
        )
        self._count(record for message, record in records.items() if message not in back)
        return back

    def _count(self, kept: Iterable[EventRecord]) -> None:
        """Count the tasks that stopped: once in a batch, however often ECS tells of each."""
        stopped = [one for one in kept if "taskArn" in one and one.get("lastStatus") == "STOPPED"]
        for (cluster, service), tasks in by_place(stopped).items():
            self._put({"TasksStopped": len(tasks)}, Cluster=cluster, Service=service)

    def _records(
        self, events: Mapping[str, EcsEvent], essential: Mapping[str, Collection[str]], now: int
    ) -> dict[str, EventRecord]:
        """Return the records of the events that are kept."""
        records = {
            message: record_of(
                event,
                retention_days=self._retention_days,
                now=now,
                essential=essential.get(message),
            )
            for message, event in events.items()
        }
        return {
            message: record
            for message, record in records.items()
            if not self._clusters or record.get("clusterArn") in {None, *self._clusters}
        }

    def _ask(
        self, events: Mapping[str, EcsEvent], time_left: Callable[[], float]
    ) -> tuple[dict[str, frozenset[str]], set[str]]:
        """Return the essential containers of these tasks, and the messages that are in doubt."""
        essential: dict[str, frozenset[str]] = {}
        doubtful: set[str] = set()
        silent: set[str] = set()
        for message, event in events.items():
            definition = str(event.detail.get("taskDefinitionArn") or "")
            where = definition.partition(":task-definition/")[0]
            if not definition or where in silent:
                continue
            if doubtful or time_left() <= 0:
                # What ECS has no time for once, it has no time for the next moment.
                doubtful.add(message)
                continue
            try:
                essential[message] = self._essential_containers(definition)
            except Transient:
                doubtful.add(message)
            except AwsFailure:
                # Then all containers decide. One call in vain is enough, for each account and
                # Region: another's is refused always, and that says nothing of our own.
                silent.add(where)
            except NotFound:
                pass  # Then, too.
        return essential, doubtful

    def _essential_containers(self, task_definition: str) -> frozenset[str]:
        """Ask once for each revision: it never changes."""
        if task_definition not in self._essential:
            self._essential[task_definition] = frozenset(
                container.name
                for container in self._tasks().containers(task_definition)
                if container.essential
            )
        return self._essential[task_definition]
