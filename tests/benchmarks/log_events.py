"""log_events beside the article's way, and how it stands a bad day (`soak`)."""

from __future__ import annotations

import contextlib
import json
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.benchmarks import soak
from tests.benchmarks.realistic_events import realistic_events
from tests.benchmarks.report import Goal, Section, Spread, Table
from tests.benchmarks.table_server import Faults, TableServer, size_of, units_of
from tests.benchmarks.table_server import Table as ItemTable
from tests.benchmarks.workers import Worker
from tests.sandbox.account import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.realistic_events import Sent
    from tests.benchmarks.table_server import Seen
    from tests.benchmarks.workers import Done

_EVENTS: Final = 10_000
_REPETITIONS: Final = 10
_SLICE: Final = _EVENTS // _REPETITIONS
_PART: Final = 200
_WARM_UP: Final = 200
_SEED: Final = 4
_BEGINS: Final = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH: Final = 100

# Waiting is measured with fewer events: the article's way waits for each of them.
_LATENCY: Final = 0.006
_WAITED: Final = 50

_CPU_GOAL: Final = 0.07
_CALLS_GOAL: Final = 0.05
_RECORD_UNITS_GOAL: Final = 2
_INDEX_UNITS_GOAL: Final = 1

_OURS: Final = "**log_events**"
_QUIET: Final = "log_events, no task failed"
_ARTICLE: Final = "the article's ¹"
_WHOLE: Final = "the article's, keeping the whole event ²"

_HANDLER: Final = "functions.log_events.handler"
_RIVAL: Final = "tests.benchmarks.rivals.log_events_article"
_TABLES: Final = {_OURS: "events", _QUIET: "quiet", _ARTICLE: "article", _WHOLE: "whole"}

_INTRODUCTION = """\
{events} events of whole task lives, {size} bytes in the middle, {failed} of them a failed task's
last. *Of ¹* and *of ²* are ratios within one repetition, to the two ways so marked: the article's
as it is, and keeping as much as **log_events**."""

_NOTES = """\
- Each way is a warm handler in a process of its own, invoked with JSON and answering it, as
  Lambda's runtime does. All speak plain HTTP to the same local server, which is not counted.
- {repetitions} repetitions, the ways in turn, each with {slice} other events; figures are for
  10,000. CPU is user and system time of the process. *Wall* is measured with {waited} events a
  repetition and a server that takes {latency} ms for an answer.
- **log_events** gets batches of {batch} messages. It keeps the whole event, and sends alerts;
  without failed tasks there is nothing to alert about.
- **the article's** gets one event for each invocation, and only the task state changes: {tasks} of
  the {events}. It keeps up to seven fields. Its key, task definition and second, is not one for
  each event: of {tasks} events {kept} are left. *Keeping the whole event*, as **log_events** does,
  is the same code with `detail` put as it is; of {part} events a repetition.
- Write units are those of DynamoDB's rules for the sizes of the items that were stored, without
  the marks of alerts. **log_events** keeps the whole event in them."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """One slice of the events, one way."""

    events: int
    done: Done
    seen: Seen

    def per_10k(self, value: float) -> float:
        return value * 10_000 / self.events


@dataclass(frozen=True, slots=True)
class _Way:
    """A way, its worker, and what was measured of it."""

    worker: Worker
    payloads: Callable[[Iterable[Sent]], list[str]]
    picks: Callable[[Sent], bool]
    most: int = _SLICE
    """Events of a slice that it gets."""
    cpu: list[_Measured] = field(default_factory=list)
    waits: list[_Measured] = field(default_factory=list)


def measure(_folder: Path) -> Section:
    """Measure both ways, then soak ours."""
    events = realistic_events(_EVENTS, seed=_SEED, begins=_BEGINS)
    ways, kept = _measure(events)
    ratios, like_for_like = (_ratios(ways, to) for to in (_ARTICLE, _WHOLE))
    # No event here is of a task that launch_task launched: its index stays empty.
    index_units = {name: each for name, each in _index_units(kept[_OURS]).items() if each}
    soaked = soak.run(table_properties())
    return Section(
        title="log_events",
        parts=[
            _INTRODUCTION.format(
                events=f"{_EVENTS:,}",
                size=Spread.of([len(event.body) for event in events]),
                failed=sum(bool(event.failed_task) for event in events),
            ),
            _table(ways, ratios, like_for_like),
            _units_table(kept),
            _index_table(index_units),
            _NOTES.format(
                repetitions=_REPETITIONS,
                slice=f"{_SLICE:,}",
                waited=_WAITED,
                part=_PART,
                latency=f"{_LATENCY * 1000:.0f}",
                batch=_BATCH,
                tasks=f"{sum(event.is_of_task for event in events):,}",
                events=f"{_EVENTS:,}",
                kept=f"{len(kept[_ARTICLE]):,}",
            ),
            *soaked.parts,
        ],
        goals=[
            Goal(f"CPU, as a part of the article's, at most {_CPU_GOAL}", ratios[_OURS], _CPU_GOAL),
            Goal(
                f"write calls for each event of a full batch, at most {_CALLS_GOAL}: 20 in a call",
                Spread.of(
                    [one.seen.calls["BatchWriteItem"] / one.events for one in ways[_QUIET].cpu]
                ),
                _CALLS_GOAL,
            ),
            Goal(
                f"write units of a record with its whole event, mean, at most {_RECORD_UNITS_GOAL}",
                Spread.of(
                    [statistics.mean(units_of(size_of(json.loads(item))) for item in kept[_OURS])]
                ),
                _RECORD_UNITS_GOAL,
            ),
            *(
                Goal(
                    f"write units of its entry in {name}, most, at most {_INDEX_UNITS_GOAL}",
                    Spread.of([max(units)]),
                    _INDEX_UNITS_GOAL,
                )
                for name, units in index_units.items()
            ),
            *soaked.goals,
        ],
    )


def table_properties() -> dict[str, Any]:
    """Return the event table's properties from template.yaml, as CreateTable names them."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
    template = yaml.load((REPOSITORY / "template.yaml").read_text(), Loader)
    properties: dict[str, Any] = template["Resources"]["EventTable"]["Properties"]
    return properties


def _measure(events: Sequence[Sent]) -> tuple[dict[str, _Way], dict[str, list[str]]]:
    """Return what was measured, and the items that are left of the events, as JSON."""
    ours = table_properties()
    article = {
        "KeySchema": [
            {"AttributeName": "taskDefinitionArn", "KeyType": "HASH"},
            {"AttributeName": "time", "KeyType": "RANGE"},
        ]
    }
    tables = {_OURS: ours, _QUIET: ours, _ARTICLE: article, _WHOLE: article}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            TableServer.started({_TABLES[name]: table for name, table in tables.items()})
        )

        def worker(name: str, handler: str) -> Worker:
            return stack.enter_context(Worker.started(handler, _environment(server, name)))

        ways = {
            _OURS: _Way(worker(_OURS, _HANDLER), soak.batches, lambda _: True),
            _QUIET: _Way(
                worker(_QUIET, _HANDLER), soak.batches, lambda event: not event.failed_task
            ),
            _ARTICLE: _Way(worker(_ARTICLE, _RIVAL), _bodies, lambda event: event.is_of_task),
            _WHOLE: _Way(
                worker(_WHOLE, _RIVAL), _bodies, lambda event: event.is_of_task, most=_PART
            ),
        }
        warm_up = realistic_events(_WARM_UP, seed=_SEED + 1, begins=_BEGINS)
        for way in ways.values():
            _once(server, way, warm_up)
        before = {name: server.items(table).keys() for name, table in _TABLES.items()}
        for part in batched(events, _SLICE, strict=True):
            for way in ways.values():
                way.cpu.append(_once(server, way, part[: way.most]))
        kept = {
            # The marks of alerts are no records.
            name: [
                item
                for (partition, sort), item in server.items(table).items()
                if (partition, sort) not in before[name] and not partition.startswith("alert#")
            ]
            for name, table in _TABLES.items()
        }
        server.behave(Faults(latency=_LATENCY))
        for part in batched(events, _SLICE, strict=True):
            for way in ways.values():
                way.waits.append(_once(server, way, part[:_WAITED]))
    return ways, kept


def _once(server: TableServer, way: _Way, events: Sequence[Sent]) -> _Measured:
    picked = [event for event in events if way.picks(event)]
    done = way.worker.run(way.payloads(picked))
    if any(answer.get("batchItemFailures") for answer in done.answers):
        raise RuntimeError("a healthy server, and yet messages came back")
    return _Measured(len(picked), done, server.seen())


def _bodies(events: Iterable[Sent]) -> list[str]:
    return [event.body for event in events]


def _environment(server: TableServer, name: str) -> Mapping[str, str]:
    own = {"TABLE_NAME": _TABLES[name], "KEEPS_DETAIL": "yes" if name == _WHOLE else ""}
    return soak.environment(server, _TABLES[name]) | own


def _ratios(ways: Mapping[str, _Way], to: str) -> dict[str, Spread]:
    """Return each way's CPU for an event as a part of another's, by the repetitions."""
    return {
        name: Spread.of(
            [
                one.per_10k(one.done.cpu) / other.per_10k(other.done.cpu)
                for one, other in zip(way.cpu, ways[to].cpu, strict=True)
            ]
        )
        for name, way in ways.items()
    }


def _table(ways: Mapping[str, _Way], *ratios: Mapping[str, Spread]) -> Table:
    head = ("way", "CPU", "of ¹", "of ²", "API calls", "events in a write call", "wall")
    rows = []
    for name, way in ways.items():
        writes = "BatchWriteItem" if name in (_OURS, _QUIET) else "PutItem"
        seconds = Spread.of([one.per_10k(one.done.cpu) for one in way.cpu])
        calls = Spread.of([one.per_10k(one.seen.calls.total()) for one in way.cpu])
        in_a_call = Spread.of([one.events / one.seen.calls[writes] for one in way.cpu])
        wall = Spread.of([one.per_10k(one.done.wall) for one in way.waits])
        rows.append(
            (
                name,
                f"{seconds} s",
                *(str(each[name]) for each in ratios),
                str(calls),
                str(in_a_call),
                f"{wall} s",
            )
        )
    return Table(head, rows)


def _units_table(kept: Mapping[str, Sequence[str]]) -> Table:
    """Return what the items of each way cost to write, by their sizes."""
    rows = []
    for name, items in kept.items():
        sizes = [size_of(json.loads(item)) for item in items]
        rows.append(
            (name, f"{len(items):,}", f"{Spread.of(sizes)}", *_mean_and_most(map(units_of, sizes)))
        )
    head = ("way", "items", "bytes of an item", "write units, mean", "most")
    return Table(head, rows)


def _index_table(units: Mapping[str, Sequence[int]]) -> Table:
    return Table(
        ("index of **log_events**", "entries", "write units, mean", "most"),
        [(name, f"{len(each):,}", *_mean_and_most(each)) for name, each in units.items()],
    )


def _index_units(items: Sequence[str]) -> dict[str, list[int]]:
    """Return the write units of each entry of each index."""
    indexes = ItemTable(table_properties()).indexes
    return {
        name: [
            units_of(size_of(entry)) for item in items if (entry := index.entry(json.loads(item)))
        ]
        for name, index in indexes.items()
    }


def _mean_and_most(units: Iterable[int]) -> tuple[str, str]:
    values = list(units)
    return f"{statistics.mean(values):.2f}", str(max(values))
