"""Draws docs/events.svg: an hour in which one release of a service fails, as the reader shows it.

PYTHONPATH=layers/common .venv/bin/python -m tests.demo.event_log docs/events.svg
"""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ecs_ops.event_record import read_event, record_of
from ecs_ops.event_view import Question, Record, matches
from ecs_ops.events import print_chart, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
HOUR_AGO = NOW - timedelta(hours=1)
WIDTH = 126
_ARN = "arn:aws:ecs:eu-central-1:111122223333"
_DEPLOYED = ("ServiceSchedulerInitiated", "Scaling activity initiated by deployment")
_EXITED = ("EssentialContainerExited", "Essential container in task exited")


def main() -> None:
    """Draw into the file that is named on the command line."""
    console = Console(
        file=io.StringIO(), record=True, force_terminal=True, width=WIDTH, highlight=False
    )
    records = list(_hour())
    failures = Question(since=HOUR_AGO, cluster="shop", failed=True)
    console.print("[bold]$ make events ARGS='--cluster shop --failed --since 1h'[/]\n")
    print_table(console, [one for one in records if matches(one, failures, NOW)])
    console.print("\n[bold]$ make events ARGS='--cluster shop --chart --since 1h'[/]\n")
    print_chart(console, records, since=HOUR_AGO, now=NOW)
    console.save_svg(sys.argv[1], title="make events")


def _hour() -> Iterator[Record]:
    """web:42 runs out of memory again and again, beside tasks that do well."""
    yield from _task("b41f0c77", "web:41", 1.2, 2.1, stopped=30.6, exit_code=143, why=_DEPLOYED)
    yield from _task("5d0a9e13", "web:41", 1.3, 2.4)
    yield from _task("e7c2165b", "web:41", 1.3, 2.2)
    yield from _task("90aa4b3f", "migrate:9", 20.1, 21.3, stopped=26.8, exit_code=0, why=_EXITED)
    yield from _task("0a16c2d1", "web:42", 28.0, 29.4, stopped=33.2, exit_code=137, why=_EXITED)
    yield from _task("c39d7e04", "web:42", 33.9, 35.2, stopped=38.7, exit_code=137, why=_EXITED)
    yield from _task("7be81f26", "web:42", 39.3, 40.8, stopped=44.5, exit_code=137, why=_EXITED)
    yield from _task("2f64d0ac", "web:41", 46.0, 47.3)
    yield from _task("d8137b90", "report:3", 52.0, 53.1)


def _task(
    task: str,
    definition: str,
    created: float,
    started: float,
    *,
    stopped: float | None = None,
    exit_code: int = 0,
    why: tuple[str, str] = ("", ""),
) -> Iterator[Record]:
    """Yield the records of a task; moments are minutes of the hour, stopping takes half of one."""
    family = definition.partition(":")[0]
    detail: dict[str, Any] = {
        "taskArn": f"{_ARN}:task/shop/{task}55e14f0f9d2b6a7c8e9f0a1b",
        "clusterArn": f"{_ARN}:cluster/shop",
        "taskDefinitionArn": f"{_ARN}:task-definition/{definition}",
        "group": "service:web" if family == "web" else f"family:{family}",
        "containers": [{"name": "app"}],
    }
    yield _record(detail, "PENDING", 1, created)
    yield _record(detail, "RUNNING", 2, started)
    if stopped is not None:
        detail |= {
            "stopCode": why[0],
            "stoppedReason": why[1],
            "containers": [{"name": "app", "exitCode": exit_code}],
        }
        yield _record(detail, "DEPROVISIONING", 3, stopped - 0.5)
        yield _record(detail, "STOPPED", 4, stopped)


def _record(detail: dict[str, Any], status: str, version: int, minute: float) -> Record:
    event = {
        "id": f"{detail['taskArn']}-{version}",
        "time": (HOUR_AGO + timedelta(minutes=minute)).isoformat(),
        "detail-type": "ECS Task State Change",
        "detail": detail | {"lastStatus": status, "version": version},
    }
    record: Record = record_of(
        read_event(json.dumps(event)), retention_days=14, now=int(NOW.timestamp())
    )
    return record


if __name__ == "__main__":
    main()
