"""Reads the event log and prints it: `python -m ecs_ops.events --cluster demo --failed`.

An entry point, as a handler is one; it runs on a person's machine, never in Lambda. It needs
`dynamodb:Query` on the table and its indexes, `dynamodb:Scan` for a question that neither the
table's key nor an index answers, and `cloudformation:DescribeStacks` unless `--table` is given.

Exit codes: 0 the question was answered, also with nothing; 2 it was not, and standard error says
why in one line.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecs_ops import event_view
from ecs_ops.aws.clients import aws_errors, client
from ecs_ops.aws.event_reader import EventReader, ecs_arn_prefix, table_of_stack
from ecs_ops.errors import AwsFailure, EcsOpsError, InvalidRequest
from ecs_ops.event_view import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecs_ops.event_view import Lifetime, Record

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Not on a terminal there is no width to keep to: a summary has 300 characters at most.
_LINE_WIDTH: Final = 360
_CHART_WIDTH: Final = 110
_LEAST_BAR: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the question on the command line; return the exit code."""
    now = datetime.now(UTC)
    asked = _parser().parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_LINE_WIDTH)
    try:
        question = _question(asked, now)
        records = _read(asked, question, now)
    except EcsOpsError as error:
        sys.stderr.write(f"events: {event_view.printable(str(error))}\n")
        return 2
    if asked.json:
        console.print_json(data=[event_view.unpacked(record) for record in records])
    elif not records:
        since = "" if question.since == _EVER else f" since {_time(question.since)} UTC"
        console.print(f"No event matches{since}.")
    elif asked.chart:
        print_chart(console, records, since=question.since, now=now)
    else:
        print_table(console, records)
    return 0


def print_table(console: Console, records: Sequence[Record]) -> None:
    """Print the records, those of one task together, and the newest at the bottom."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("task", no_wrap=True)
    table.add_column("what", overflow="fold")
    groups = event_view.by_resource(records)
    for group in groups:
        for record in group:
            table.add_row(
                Text(_time(event_view.time_of(record))),
                Text(event_view.printable(event_view.short_name(record["resourceArn"]))),
                Text(event_view.printable(record["summary"]), style=_style_of_event(record)),
            )
        if len(groups) < len(records):
            table.add_row()
    console.print(table)


def print_chart(
    console: Console, records: Sequence[Record], *, since: datetime, now: datetime
) -> None:
    """Print the life of every task among the records as a bar over one time axis."""
    lives = event_view.lifetimes(records)
    if not lives:
        console.print("No task is among these events: there is nothing to draw.")
        return
    begin, end = event_view.axis(lives, since, now)
    labels = [
        event_view.printable(f"{life.name} {event_view.short_name(life.arn)}") for life in lives
    ]
    margin = max(map(len, labels)) + 2
    notes = max(len(life.note) for life in lives) + 2
    total = console.width if console.is_terminal else _CHART_WIDTH
    width = max(total - margin - notes, _LEAST_BAR)
    picture = Text(no_wrap=True)
    for label, life in zip(labels, lives, strict=True):
        drawn = event_view.bar(life, begin=begin, end=end, width=width)
        # The blanks stay without style: some who draw this later drop blanks that lead a style.
        picture.append(f"{label:<{margin}}" + " " * (width - len(drawn.lstrip())))
        picture.append(drawn.lstrip(), style=_style_of_life(life))
        picture.append(f"  {event_view.printable(life.note)}\n")
    scale = event_view.scale(begin=begin, end=end, width=width)
    picture.append(f"{'UTC':<{margin}}{scale}\n", style="dim")
    console.print(picture)
    console.print(f"{_time(begin)} to {_time(end)} UTC   {event_view.LEGEND}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ecs_ops.events",
        description="Read the event log. It only reads.",
        epilog="Several filters must all hold. Times are in UTC.",
    )
    parser.add_argument("--task", default="", metavar="ARN", help="ARN, or id with --cluster")
    parser.add_argument(
        "--task-definition", default="", metavar="NAME", help="family:revision, or ARN"
    )
    parser.add_argument("--cluster", default="", metavar="NAME", help="name, or ARN")
    parser.add_argument("--service", default="", metavar="NAME", help="name, or ARN")
    parser.add_argument("--failed", action="store_true", help="only failures of tasks")
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="90m, 6h, 2d, or an ISO time (default: 24h; with --task all that is kept)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the records as a JSON array")
    form.add_argument("--chart", action="store_true", help="draw the lives of the tasks over time")
    table = parser.add_mutually_exclusive_group()
    table.add_argument("--table", metavar="NAME", help="the event table")
    table.add_argument(
        "--stack",
        default="ecs-ops",
        metavar="NAME",
        help="the stack whose table is read (default: %(default)s)",
    )
    return parser


def _question(asked: argparse.Namespace, now: datetime) -> Question:
    task = asked.task
    if task and not task.startswith("arn:"):
        if not asked.cluster:
            raise InvalidRequest("--task", "needs --cluster beside an id; or give the task's ARN")
        task = _arn(f"task/{_name(asked.cluster)}/{task}")
    definition = asked.task_definition
    if definition and not definition.startswith("arn:"):
        if ":" not in definition:
            raise InvalidRequest("--task-definition", "must be family:revision, or an ARN")
        definition = _arn(f"task-definition/{definition}")
    if asked.since is not None:
        since = event_view.moment_of(asked.since, now)
    else:
        since = _EVER if task else event_view.moment_of("24h", now)
    return Question(
        since=since,
        task=task,
        task_definition=definition,
        cluster=asked.cluster,
        service=asked.service,
        failed=asked.failed,
    )


def _read(asked: argparse.Namespace, question: Question, now: datetime) -> list[Record]:
    """Read as little of the table as the question allows; return what matches, in order."""
    table = asked.table or table_of_stack(_client("cloudformation"), asked.stack)
    reader = EventReader(_client("dynamodb"), table, now=now, whole=asked.json)
    if question.task:
        found = reader.of_task(question.task, question.since)
    elif question.task_definition:
        found = reader.of_task_definition(question.task_definition, question.since)
    elif question.failed and question.cluster:
        cluster = question.cluster
        arn = cluster if cluster.startswith("arn:") else _arn(f"cluster/{cluster}")
        found = reader.failures_in(arn, question.since)
    else:
        sys.stderr.write(
            f"Reading the whole table {table}: only --task, --task-definition, and --failed with "
            "--cluster have a key to look under.\n"
        )
        found = reader.all(question.since)
    kept = [record for record in found if event_view.matches(record, question, now)]
    if asked.chart and question.failed:
        # A failure is the last event of a life; the rest of it is under the task's key.
        tasks = {record["resourceArn"] for record in kept}
        kept = reader.of_tasks(sorted(tasks), question.since)
    return sorted(kept, key=lambda record: (record["eventKey"], record["resourceArn"]))


def _client(service: str) -> Any:
    try:
        with aws_errors("boto3.client"):
            return client(service)
    except AwsFailure as error:
        if error.code == "NoRegionError":
            raise InvalidRequest(
                "AWS_DEFAULT_REGION", "must be set, or the region of your profile"
            ) from error
        raise


def _arn(resource: str) -> str:
    return f"{ecs_arn_prefix(_client('sts'))}:{resource}"


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _style_of_event(record: Record) -> str:
    if record.get("outcome") == "failed":
        return "bold red"
    return {"RUNNING": "green", "STOPPED": "cyan"}.get(record.get("lastStatus", ""), "")


def _style_of_life(life: Lifetime) -> str:
    if life.failed:
        return "bold red"
    return "cyan" if life.stopped else "green"


if __name__ == "__main__":
    sys.exit(main())
