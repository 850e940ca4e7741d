"""The arithmetic: what a load needs of each limit, where each limit is met, and what a load costs.

Every function grows with its load, or stays: more load never needs less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ecs_ops.recycle import LARGEST_SURVEY
from tests.scaling import figures as of
from tests.scaling.figures import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.scaling.figures import Quota

MONTH: Final = 30 * 86_400
"""Seconds."""
_DAYS: Final = 30
_EVENTS: Final = 10_000
"""What the figures of log_events are for."""
_NEAR: Final = 0.5


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit, by the load at which it is met."""

    name: str
    met_at: Range
    moved_by: str
    quota: Quota
    ours: bool = False
    """Whether it is a decision of our design that makes this quota count."""

    def used(self, load: float) -> Range:
        """Return which part of the limit a load takes; 1 is all of it."""
        return Range.of(load) / self.met_at

    def is_met(self, load: float) -> bool:
        """Whether the load meets the limit in some Region, or by some copy of AWS's page."""
        return self.used(load).high >= 1

    def is_near(self, load: float) -> bool:
        return self.used(load).high >= _NEAR


def first(limits: Sequence[Limit]) -> Limit:
    """Return the limit that a growing load meets first."""
    return min(limits, key=lambda limit: limit.met_at.low)


@dataclass(frozen=True, slots=True)
class Cost:
    """One part of a bill, in dollars."""

    what: str
    dollars: Range


def total(costs: Sequence[Cost]) -> Range:
    return sum((cost.dollars for cost in costs), Range(0, 0))


# ---------------------------------------------------------------- state changes


def batch_seconds() -> Range:
    """Return how long log_events takes for a full batch.

    At best as measured, with a whole processor. A function of 256 MB has a seventh of one: at
    worst its CPU time is as much longer, and it waits for AWS as long as before.
    """
    batches = _EVENTS / of.BATCH
    cpu, wall = of.LOG_CPU.value / batches, of.LOG_WALL.value / batches
    return Range(wall, wall - cpu + cpu * of.WHOLE_PROCESSOR / of.MEMORY)


def batch_size(rate: float) -> Range:
    """Return events of a batch: what one window of a second brings, for one poller or for five."""
    return Range(min(of.BATCH, max(1, rate / 5)), min(of.BATCH, max(1, rate)))


def concurrency(rate: float) -> Range:
    """Return how many invocations of log_events run at once while it keeps up."""
    return batch_seconds() * (rate / of.BATCH)


def event_limits(targets: int = 1) -> list[Limit]:
    """Return the limits of the event log, by state changes a second.

    Args:
        targets: of the rule: 1, or 2 with OpenSearch.
    """
    failing = of.FAILED.value / _EVENTS
    # A message for each failure; or one for each batch with a failure in it.
    mails = Range((1 - (1 - failing) ** of.BATCH) / of.BATCH, failing)
    # Received until deleted; and up to a second while the batch fills.
    in_flight = batch_seconds() + Range(0, 1)
    return [
        Limit(
            "Fargate launches, one account and Region",
            Range(1, 2) * of.FARGATE.figure * of.EVENTS_OF_A_TASK,
            "quota; instances; more accounts",
            of.FARGATE,
        ),
        Limit(
            "EventBridge, by Region",
            of.INVOCATIONS.figure / targets,
            "quota; `EventClusterArns`, `EventDetailTypes` send less",
            of.INVOCATIONS,
        ),
        Limit(
            "alerts by mail",
            of.MAILS.figure / mails,
            "`AlertEmail` empty, and a queue or function subscribed",
            of.MAILS,
            ours=True,
        ),
        Limit(
            "index: one task definition has all events",
            of.PARTITION.figure * _EVENTS / of.INDEXED.value,
            "nothing; design",
            of.PARTITION,
            ours=True,
        ),
        Limit(
            "table, new",
            of.NEW_TABLE.figure / of.RECORD_UNITS.value,
            "time: it grows, and the queue waits",
            of.NEW_TABLE,
        ),
        Limit(
            "table, grown", of.TABLE.figure / of.RECORD_UNITS.value, "quota; more stacks", of.TABLE
        ),
        Limit(
            "SQS: messages in flight",
            of.IN_FLIGHT.figure / in_flight,
            "quota; more stacks",
            of.IN_FLIGHT,
        ),
        Limit(
            "index: one cluster has all failures",
            of.PARTITION.figure * _EVENTS / of.FAILED.value,
            "nothing; design",
            of.PARTITION,
            ours=True,
        ),
        Limit(
            "Lambda: batches of the queue",
            of.MAPPING.figure * of.BATCH / batch_seconds(),
            "nothing; provisioned mode",
            of.MAPPING,
        ),
        Limit(
            "Lambda: concurrency of the account",
            of.CONCURRENCY.figure * of.BATCH / batch_seconds(),
            "quota",
            of.CONCURRENCY,
        ),
    ]


def event_costs(rate: float) -> list[Cost]:
    """Return what a month of these state changes a second costs; all are dollars a month."""
    events = rate * MONTH
    indexed, failed = of.INDEXED.value / _EVENTS, of.FAILED.value / _EVENTS
    # Beside record and entries: two marks of an alert for each failure.
    units = of.RECORD_UNITS.value + indexed + failed * 3
    # 100 bytes of every item are DynamoDB's own.
    kept = Range.of(of.RECORD_BYTES.value + 100) + (of.INDEX_ENTRY_BYTES + 100) * (indexed + failed)
    size = batch_size(rate)
    batches = Range.of(events) / size
    # A batch that is not full takes at least as long as a quarter of one: one call of DynamoDB.
    seconds = batch_seconds() * (Range.of(events) / of.BATCH)
    seconds = Range(
        max(seconds.low, batches.low * batch_seconds().low / 4),
        max(seconds.high, batches.high * batch_seconds().high / 4),
    )
    return [
        Cost("DynamoDB, writes", Range.of(events * units * of.WRITES.each)),
        # At least it is deleted when it expires, at most two days after.
        Cost(
            "DynamoDB, storage",
            kept
            * Range(of.RETENTION_DAYS, of.RETENTION_DAYS + 2)
            * (events / _DAYS * of.STORAGE.each),
        ),
        # One to send, and a tenth each to receive and to delete; at worst every message alone.
        Cost("SQS", (Range.of(2) / Range(min(10, size.low), 10) + 1) * (events * of.REQUESTS.each)),
        Cost("Lambda", batches * of.INVOKED.each + _compute(seconds)),
        Cost("CloudWatch Logs", batches * of.LOGGED_BYTES * of.LOGGED.each),
    ]


def _compute(seconds: Range) -> Range:
    return seconds * (of.MEMORY / 1024 * of.SECONDS.each)


# ---------------------------------------------------------------- custom resources


def answer_delay(resources: float) -> float:
    """Return seconds between two answered looks at one task, while so many are looked at."""
    return max(of.LOOK_PAUSE, resources / of.READS.figure.low)


def start_seconds(resources: float) -> Range:
    """Return how long it takes until the last of them has started its task.

    At the least by Fargate's launch rate with a full bucket, at the most by RunTask's own.
    """
    rate = of.FARGATE.figure.low
    return Range(max(0, resources - of.FARGATE_BURST) / rate, resources / rate)


def resource_limits() -> list[Limit]:
    """Return the limits of run_task, by custom resources at once."""
    looks = 1 / of.LOOK_PAUSE
    return [
        Limit(
            "ECS: looks at tasks",
            of.READS.figure / looks,
            "quota; fewer at once (`DependsOn`); design",
            of.READS,
            ours=True,
        ),
        Limit(
            "ECS: task definitions read in one second",
            Range.of(of.DEFINITION_BURST),
            "nothing: tried again, all within a minute",
            of.DEFINITION_READS,
        ),
        Limit(
            "Fargate: started in one second",
            Range(of.FARGATE.figure.low, of.FARGATE_BURST),
            "nothing: tried again; quota",
            of.FARGATE,
        ),
        Limit(
            "Lambda: executions started in one second",
            of.STARTS.figure,
            "nothing: Lambda's own queue waits",
            of.STARTS,
        ),
        Limit(
            "CloudFormation: resources of a template",
            of.RESOURCES.figure,
            "several stacks",
            of.RESOURCES,
        ),
        Limit(
            "Lambda: concurrency of the account",
            of.CONCURRENCY.figure,
            "quota",
            of.CONCURRENCY,
        ),
        Limit(
            "Lambda: checkpoints of looks",
            of.CHECKPOINTS.figure / (looks * Range(1, 2)),
            "quota",
            of.CHECKPOINTS,
        ),
    ]


def resource_costs(resources: float) -> list[Cost]:
    """Return what so many custom resources cost once, each with a task of ten minutes."""
    looks = of.LOOKS_OF_TEN_MINUTES
    return [
        Cost(
            "Lambda, operations",
            Range.of(resources * (looks + of.OTHER_OPERATIONS) * of.STEPS.each),
        ),
        Cost("Lambda, data written", resources * looks * of.STORED.each * of.STORED_BYTES),
        Cost(
            "Lambda, time and requests",
            _compute(Range.of(resources * of.RUN_BILLED.value))
            + resources * looks * of.INVOKED.each,
        ),
        Cost("CloudWatch Logs", resources * looks * of.LOGGED.each * of.LOGGED_BYTES),
    ]


# ---------------------------------------------------------------- services


def recycle_calls(tasks: float) -> float:
    """Return API calls for each batch: a line through those of 100 and of 1,000 tasks."""
    small, large = of.RECYCLE_CALLS_100.value / 100, of.RECYCLE_CALLS_1000.value / 1_000
    return small + (large - small) * (tasks - 100) / 900


def recycle_batch_seconds(tasks: float) -> float:
    """Return seconds for each batch: those of 1,000 tasks, and its calls more, one by one."""
    seconds = of.RECYCLE_HOURS_1000.value * 3_600 / 1_000
    return seconds + (recycle_calls(tasks) - recycle_calls(1_000)) * of.LATENCY


def recycle_seconds(tasks: float, batch: int) -> Range:
    """Return how long a recycle takes; at most with ECS's launches of a service in the way."""
    batches = tasks / batch
    seconds = batches * recycle_batch_seconds(tasks)
    return Range(seconds, seconds + batches * 60 * batch / of.SERVICE_LAUNCHES.figure.low)


def recycle_reads(tasks: float) -> float:
    """Return DescribeTasks and ListTasks a second, on average over a recycle."""
    return recycle_calls(tasks) / recycle_batch_seconds(tasks)


def recycle_limits() -> list[Limit]:
    """Return the limits of recycle_service, by tasks of the service."""
    per_call = 1 - of.READS.figure.low * of.LATENCY
    # A look is a ListTasks and a DescribeTasks for each hundred tasks, one after the other, while
    # the bucket fills again. A full bucket is one look's; the next one finds half of it.
    tasks_a_bucket = of.READ_BURST / per_call * of.TASKS_OF_A_PAGE / 2
    return [
        Limit(
            "first step: its stored result",
            Range.of(LARGEST_SURVEY / of.SURVEYED),
            "nothing: it refuses; design",
            of.STEP_BYTES,
            ours=True,
        ),
        Limit(
            "ECS: tasks of a service",
            of.TASKS_OF_A_SERVICE.figure,
            "quota; several services",
            of.TASKS_OF_A_SERVICE,
        ),
        Limit(
            "ECS: one look's calls",
            Range(tasks_a_bucket / 2, tasks_a_bucket),
            "quota; design",
            of.READS,
            ours=True,
        ),
    ]


def recycle_costs(tasks: float, batch: int) -> list[Cost]:
    """Return what a recycle costs once. Billed time is a line through that of 100 and of 1,000."""
    small, large = of.RECYCLE_BILLED_100.value / 100, of.RECYCLE_BILLED_1000.value / 1_000
    billed = small + (large - small) * (tasks - 100) / 900
    batches = tasks / batch
    return [
        Cost("Lambda, operations", of.OPERATIONS_OF_A_TASK * (batches * of.STEPS.each)),
        Cost("Lambda, time", _compute(Range.of(batches * billed))),
    ]


# ---------------------------------------------------------------- launches


def launch_limits() -> list[Limit]:
    """Return the limits of launch_task, by launches a second."""
    events = of.EVENTS_OF_A_TASK
    return [
        Limit("Fargate: launches", Range(1, 2) * of.FARGATE.figure, "quota; Spot", of.FARGATE),
        Limit(
            "index: all launches of one launcher",
            of.PARTITION.figure / (events * of.LAUNCH_ENTRY_UNITS),
            "several stacks; design",
            of.PARTITION,
            ours=True,
        ),
        Limit(
            "index: all launches of one task definition",
            of.PARTITION.figure / events,
            "several revisions; design",
            of.PARTITION,
            ours=True,
        ),
        Limit(
            "Lambda: concurrency of the account",
            of.CONCURRENCY.figure / of.LAUNCH_SECONDS,
            "`LauncherReservedConcurrency`, quota",
            of.CONCURRENCY,
        ),
    ]


def list_calls(profiles: int = 1) -> float:
    """Return ECS reads of one GET /runs, where so many tasks are known of each profile."""
    return profiles * 4 * of.LISTED / of.TASKS_OF_A_PAGE


def launch_costs(rate: float) -> list[Cost]:
    """Return what a month of launches costs, without the tasks themselves."""
    launches = rate * MONTH
    index = of.LAUNCH_ENTRY_UNITS * (launches * of.EVENTS_OF_A_TASK * of.WRITES.each)
    return [
        Cost("Lambda", _compute(launches * of.LAUNCH_SECONDS) + launches * of.INVOKED.each),
        Cost("CloudWatch Logs", launches * of.LOGGED.each * of.LOGGED_BYTES),
        Cost("event log, launcher's index", index),
        Cost("event log, the rest", total(event_costs(rate * of.EVENTS_OF_A_TASK))),
    ]


# ---------------------------------------------------------------- StackSets


def longest_stack_set_name() -> int:
    """Return characters of a stack set's name with which all functions' names are short enough.

    Its stacks are called `StackSet-<name>-<UUID>`, and the functions after the stacks.
    """
    given = len("StackSet-") + len("-") + 36
    return int(of.FUNCTION_NAME.figure.low) - given - len(of.LONGEST_SUFFIX)
