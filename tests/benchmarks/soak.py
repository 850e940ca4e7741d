"""A hundred thousand events on a bad day: what is sent once, twice and in no order is kept once.

The queue here is the harness: at least once, partial batch failures, a visibility timeout, and a
dead-letter queue. Its clock runs one second for each batch, and each function's clock is set by it,
so that leases end as they would and nobody waits for them.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched, count, islice
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.realistic_events import stream
from tests.benchmarks.report import Goal, Spread, Table
from tests.benchmarks.table_server import Faults, TableServer
from tests.benchmarks.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.benchmarks.realistic_events import Sent
    from tests.benchmarks.table_server import Seen

_EVENTS: Final = 100_000
_DUPLICATES: Final = 0.05
_THROTTLED: Final = 0.10
_UNPROCESSED: Final = 0.01
_WORKERS: Final = 2
_SEED: Final = 4
# A message comes out of a crowd of so many at any place, the whole of it some minutes of events.
_CROWD: Final = 2_000

# The queue, as in template.yaml.
_BATCH: Final = 100
_VISIBILITY: Final = 360
_RECEIVES: Final = 5
_QUEUE: Final = "arn:aws:sqs:eu-central-1:111122223333:ecs-ops-EventQueue"

# Seconds between two looks for a worker that waits for an answer; botocore gives up after ten.
_LOOK: Final = 0.2
# The calls that get no answer: in the middle of a batch's writes, after a mail that is not yet
# marked as sent, and after a claim whose mail is not yet sent.
_SILENT: Final = frozenset({("BatchWriteItem", 1_000), ("Publish", 300), ("PutItem", 600)})

_SAMPLE: Final = 5_000
_TASK_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
_ALERT: Final = "alert#"
_HANDLER: Final = "functions.log_events.handler"
_TABLE, _CLEAN_TABLE = "events", "clean"

_NOTES: Final = """\
### Soak

{events} events, {duplicates} % of them sent twice, out of order, to {workers} workers through a
queue that delivers at least once. The table throttles {throttled} % of the write calls and leaves
{unprocessed} % of the items unprocessed.

- Three workers get no answer to a call that had its effect, and are killed (SIGKILL) while they
  wait for it: one at a batch's writes, one after it published an alert that it had not marked as
  sent, one after it claimed an alert that it had not published. Their batches come back after the
  queue's visibility timeout. Only the second one can make a mail come twice.
- The queue's clock runs a second for each batch; the functions' clocks are set by it. Pauses
  between two tries are not waited for: the functions' clocks jump by them. Took {seconds} s.
- {sample} of the events, picked by chance, were written once more, in order, by one worker on a
  good day into another table: {equal} of the items are the same to the byte."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What the soak adds to the section."""

    parts: Sequence[str | Table]
    goals: Sequence[Goal]


@dataclass(slots=True)
class _Message:
    id: str
    body: str
    received: int = 0


def environment(server: TableServer, table: str) -> dict[str, str]:
    """Return log_events' environment, with all of AWS at this server."""
    return {
        "ALERT_TOPIC_ARN": "arn:aws:sns:eu-central-1:111122223333:alerts",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": server.endpoint,
        "EVENT_CLUSTER_ARNS": "",
        "EVENT_MASK_ENVIRONMENT": "true",
        "EVENT_RETENTION_DAYS": "3650",
        "EVENT_TABLE_NAME": table,
        "OPENSEARCH_ENDPOINT": "",
        "SEARCH_QUEUE_ARN": "",
    }


def batches(events: Iterable[Sent]) -> list[str]:
    """Return payloads for log_events: messages of these events, a hundred in each."""
    messages = [_Message(f"message-{event.id}", event.body) for event in events]
    return [_payload(some) for some in batched(messages, _BATCH, strict=False)]


def _payload(messages: Iterable[_Message]) -> str:
    """Return a batch of messages as Lambda gives it to a function."""
    records = [
        {
            "messageId": message.id,
            "receiptHandle": f"AQEB{message.id}",
            "body": message.body,
            "attributes": {"ApproximateReceiveCount": str(message.received)},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": _QUEUE,
            "awsRegion": "eu-central-1",
        }
        for message in messages
    ]
    return json.dumps({"Records": records})


class _Queue:
    """A standard queue with a dead-letter queue, on a clock of its own."""

    def __init__(self, messages: Iterator[_Message], now: float) -> None:
        self._messages = messages
        self.now = now
        self._hidden: deque[tuple[float, _Message]] = deque()
        """In the order in which they become visible: the timeout is one for all."""
        self.received = 0
        self.returned = 0
        self.dead: list[_Message] = []

    def receive(self) -> list[_Message]:
        """Return up to a batch of messages, hidden from others until they are deleted."""
        self.now += 1
        batch: list[_Message] = []
        while len(batch) < _BATCH:
            if self._hidden and self._hidden[0][0] <= self.now:
                message = self._hidden.popleft()[1]
            elif (following := next(self._messages, None)) is not None:
                message = following
            else:
                break
            message.received += 1
            if message.received > _RECEIVES:
                self.dead.append(message)
                continue
            batch.append(message)
        self.received += len(batch)
        return batch

    def give_back(self, messages: Iterable[_Message], received_at: float) -> None:
        """Take what was not deleted; it comes back when its visibility timeout ends."""
        for message in messages:
            self.returned += 1
            self._hidden.append((received_at + _VISIBILITY, message))
        self._hidden = deque(sorted(self._hidden, key=lambda hidden: hidden[0]))

    def skip_to_the_next(self) -> bool:
        """Let the clock jump to where a message becomes visible; False when there is none."""
        if self._hidden:
            self.now = max(self.now, self._hidden[0][0])
        return bool(self._hidden)


class _Sender:
    """All messages, in the order in which they come out of the crowd."""

    def __init__(self, events: Iterator[Sent]) -> None:
        self._events = events
        self._rng = random.Random(_SEED)
        self.ids: list[str] = []
        self.failed_tasks: set[str] = set()
        self.duplicates = 0
        self.sample: dict[str, Sent] = {}

    def messages(self) -> Iterator[_Message]:
        rng = self._rng
        crowd: list[_Message] = []
        for message in self._twice():
            crowd.append(message)
            if len(crowd) > _CROWD:
                place = rng.randrange(len(crowd))
                crowd[place], crowd[-1] = crowd[-1], crowd[place]
                yield crowd.pop()
        rng.shuffle(crowd)
        yield from crowd

    def _twice(self) -> Iterator[_Message]:
        for number, event in enumerate(self._events):
            self.ids.append(event.id)
            if event.failed_task:
                self.failed_tasks.add(event.failed_task)
            if self._rng.random() < _SAMPLE / _EVENTS:
                self.sample[event.id] = event
            yield _Message(f"message-{number}", event.body)
            if self._rng.random() < _DUPLICATES:
                self.duplicates += 1
                yield _Message(f"message-{number}-again", event.body)


@dataclass(slots=True)
class _Function:
    """A worker, and the batch it is at."""

    name: str
    worker: Worker
    batch: Sequence[_Message] = ()
    received_at: float = 0.0

    def begin(self, batch: Sequence[_Message], now: float) -> None:
        self.batch, self.received_at = batch, now
        self.worker.begin([_payload(batch)], now)

    def end(self) -> list[_Message]:
        """Return the messages that it wants back in the queue."""
        (answer,) = self.worker.end().answers
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [message for message in self.batch if message.id in failed]


def run(properties: Mapping[str, Any]) -> Soaked:
    """Soak log_events with a table of these properties."""
    began = time.monotonic()
    begins = datetime.now(tz=UTC) - timedelta(days=2)
    sender = _Sender(islice(stream(seed=_SEED, begins=begins), _EVENTS))
    queue = _Queue(sender.messages(), time.time())
    with TableServer.started({_TABLE: properties, _CLEAN_TABLE: properties}) as server:
        server.behave(
            Faults(throttled=_THROTTLED, unprocessed=_UNPROCESSED, silent=_SILENT, seed=_SEED)
        )
        killed = _deliver(server, queue)
        seen, stored = server.seen(), server.items(_TABLE)
        server.behave(Faults())
        with Worker.started(_HANDLER, environment(server, _CLEAN_TABLE)) as worker:
            worker.run(batches(sender.sample.values()))
        clean = {key: item for key, item in server.items(_CLEAN_TABLE).items() if _is_record(key)}
    records = {key for key in stored if _is_record(key)}
    stored_ids = Counter(sort_key.rpartition("#")[2] for _, sort_key in records)
    wrong = len(stored_ids.keys() ^ set(sender.ids)) + len(records) - len(stored_ids)
    differing = sum(stored.get(key) != item for key, item in clean.items())
    mails = _mails(seen)
    silent_tasks = {task.rpartition("/")[2] for task in sender.failed_tasks} ^ mails.keys()
    twice = sum(number > 1 for number in mails.values())
    rows = {
        "events sent": len(sender.ids),
        "of them twice": sender.duplicates,
        "messages received, repeated ones included": queue.received,
        "messages that came back after a failure or a kill": queue.returned,
        "messages in the dead-letter queue": len(queue.dead),
        "calls of BatchWriteItem": seen.calls["BatchWriteItem"],
        "calls throttled": seen.throttled,
        "items unprocessed": seen.unprocessed,
        "workers killed in a batch": killed,
        "**distinct events sent**": len(set(sender.ids)),
        "**distinct events stored**": len(stored_ids),
        "**records stored**": len(records),
        "**tasks failed**": len(sender.failed_tasks),
        "**tasks alerted**": len(mails),
        "mails": len(seen.published),
        "tasks that are in two mails": twice,
    }
    return Soaked(
        parts=[
            _NOTES.format(
                events=f"{_EVENTS:,}",
                duplicates=f"{_DUPLICATES:.0%}".rstrip("%"),
                throttled=f"{_THROTTLED:.0%}".rstrip("%"),
                unprocessed=f"{_UNPROCESSED:.0%}".rstrip("%"),
                workers=_WORKERS,
                seconds=f"{time.monotonic() - began:.0f}",
                sample=f"{len(clean):,}",
                equal=f"{len(clean) - differing:,}",
            ),
            Table(
                ("in the soak", "number"), [(name, f"{value:,}") for name, value in rows.items()]
            ),
        ],
        goals=[
            Goal("soak: events lost, stored twice or made up, at most 0", Spread.of([wrong]), 0),
            Goal("soak: items unlike those of a good day, at most 0", Spread.of([differing]), 0),
            Goal(
                "soak: failed tasks nobody was told of, and others told of, at most 0",
                Spread.of([len(silent_tasks)]),
                0,
            ),
            Goal(
                "soak: tasks in two mails, at most the 1 whose worker died before its mark",
                Spread.of([twice]),
                1,
            ),
            Goal(
                "soak: workers that were to be killed and were not, at most 0",
                Spread.of([len(_SILENT) - killed]),
                0,
            ),
        ],
    )


def _deliver(server: TableServer, queue: _Queue) -> int:
    """Hand out all messages until none is left; return how many workers were killed."""
    numbers = count(1)

    def start() -> _Function:
        name = f"worker-{next(numbers)}"
        own = environment(server, _TABLE) | {"AWS_SDK_UA_APP_ID": name}
        return _Function(name, Worker.start(_HANDLER, own, skips_pauses=True))

    idle = [start() for _ in range(_WORKERS)]
    busy: dict[Any, _Function] = {}
    killed = 0
    looked = time.monotonic()
    while True:
        while idle and (batch := queue.receive()):
            function = idle.pop()
            function.begin(batch, queue.now)
            busy[function.worker.pipe] = function
        if not busy:
            if not queue.skip_to_the_next():
                break
            continue
        for pipe in wait(list(busy), timeout=_LOOK):
            function = busy.pop(pipe)
            queue.give_back(function.end(), function.received_at)
            idle.append(function)
        if time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            unanswered = server.unanswered()
            for function in [one for one in busy.values() if one.name in unanswered]:
                del busy[function.worker.pipe]
                function.worker.kill()
                killed += 1
                queue.give_back(function.batch, function.received_at)
                idle.append(start())
    for function in idle:
        function.worker.stop()
    return killed


def _is_record(key: tuple[str, str]) -> bool:
    return not key[0].startswith(_ALERT)


def _mails(seen: Seen) -> Counter[str]:
    """Return, by the task's id, how many mails name it."""
    return Counter(
        task for mail in seen.published for task in set(_TASK_ID.findall(mail["Message"]))
    )
