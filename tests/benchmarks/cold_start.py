"""Each function from cold: beside a bare boto3 handler, and beside the article's as SAM builds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3

from tests.benchmarks import launch_task
from tests.benchmarks.report import Goal, Section, Spread, Table
from tests.sandbox import stack
from tests.sandbox.account import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROUNDS: Final = 15
_MOST_MEGABYTES: Final = 4.0

_OURS, _BARE, _ARTICLE = "**ours**", "bare", "the article's"
_COLUMNS: Final = {"called": "first call", "done": "answer", "memory": "memory"}
_UNITS: Final = {"called": (1000, "ms"), "done": (1000, "ms"), "memory": (1, "MiB")}

_BENCHMARKS: Final = Path(__file__).parent
_RIVALS: Final = _BENCHMARKS / "rivals"
_INSTALLED: Final = Path(boto3.__file__).parents[1]
# What a requirements.txt that names boto3 brings.
_BOTO3_BRINGS: Final = (
    *("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3"),
)
_YEAR_1980: Final = 315_532_800
_EXECUTION: Final = (
    "arn:aws:lambda:us-east-1:000000000000:function:ecs-ops:1/durable-execution/first/1"
)
_SETTINGS: Final = {
    "ALERT_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:alerts",
    "EVENT_CLUSTER_ARNS": "",
    "EVENT_MASK_ENVIRONMENT": "true",
    "EVENT_RETENTION_DAYS": "3650",
    "EVENT_TABLE_NAME": "events",
    **launch_task.SETTINGS,
    "OPENSEARCH_ENDPOINT": "",
    "POWERTOOLS_SERVICE_NAME": "bench",
    "RECYCLE_LEASE_TABLE_NAME": "leases",
    "RECYCLE_ROLE_ARNS": "",
    "RECYCLE_SECRET_ARNS": "",
    "REPORT_RECIPIENTS": "",
    "REPORT_SUBJECT_PREFIX": "",
    "SEARCH_QUEUE_ARN": "",
    "SMTP_SECRET_ARN": "",
    # Of the article's.
    "TABLE_NAME": "events",
}
"""What template.yaml sets, for all functions at once."""

_INTRODUCTION = """\
From the start of a process to its first call of AWS, and to the answer of its first invocation: the
functions as `sam build` makes them, beside a bare handler that makes the same first client, and
beside the articles' handlers as SAM builds them in the ordinary way."""

_NOTES = """\
- A fresh process for every figure; {rounds} rounds, all rows in turn, after one that fills the
  caches of the file system and is not counted. A stub of AWS answers at once, in another process.
  Lambda's own part, a sandbox with the code in it, is not here.
- *First call* is when the stub has the first request: Python itself, imports, settings, the first
  client, signing. *Answer* is the end of the invocation. For log_events that is one event written,
  for launch_task one task run. run_task and recycle_service have many calls before they suspend,
  each with its checkpoint, and make further clients; their goals are about the first call.
- *Bare* is `boto3.client(…)` at import and one call: of CheckpointDurableExecution, which is what
  the durable SDK calls first, for run_task and recycle_service; else of what the function calls
  first. boto3 is installed in the usual way, whole, with bytecode, which a SAM build of it would
  not have. There is no log and no check.
- *The article's* is its handler with boto3 from its own requirements, packed by SAM in the ordinary
  way: no bytecode, all files of 1980, and nothing kept for the next start. Its answer comes when
  its task is over; here it is over at once.
- *Of the bare* is the ratio within one round. *Memory* is the most that was ever resident (VmHWM).
- The layer's zip has {size} MB."""

# Prints when the handler was there, when it had answered, the peak of its memory, and its answer.
_PROCESS = """
import json, os, sys, time
said = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Where a function's log goes.
module, event, *paths = sys.argv[1:]
sys.path[:0] = paths

class Context:
    aws_request_id = "8f6f0d6c-0000-4000-8000-000000000001"
    function_name = "ecs-ops"
    function_version = "1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:ecs-ops"
    memory_limit_in_mb = 256
    log_group_name = log_stream_name = "log"
    client_context = identity = tenant_id = None

    def get_remaining_time_in_millis(self):
        return 60_000

answer = __import__(module).handler(json.loads(event), Context())
answered = time.monotonic()
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps([answered, peak, answer]), file=said)
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """A handler, where its code lies, and what it is given."""

    module: str
    paths: list[Path]
    event: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Start:
    """How one process went; in seconds from its start."""

    called: float
    done: float
    memory: float
    """MiB, at the peak."""


@dataclass(frozen=True, eq=False)
class _Function:
    """One of the four, and what it may take of what the bare handler takes."""

    name: str
    event: Mapping[str, Any]
    first_call: tuple[str, str, Mapping[str, Any]]
    """Service, method and arguments, as boto3 has them."""
    article: str
    """Module of the article's way."""
    article_event: Mapping[str, Any]
    most: float
    until: str
    """What the goal is about: an attribute of `_Start`."""
    most_memory: float = 0.9

    def ways(self, built: Path, article: Path) -> dict[str, _Way]:
        folder = "".join(word.title() for word in self.name.split("_"))
        service, method, arguments = self.first_call
        bare = {"SERVICE": service, "METHOD": method, "ARGUMENTS": json.dumps(arguments)}
        return {
            _OURS: _Way(
                "handler",
                [built / f"{folder}Function", built / "CommonLayer" / "python"],
                self.event,
                _SETTINGS,
            ),
            _BARE: _Way("bare_boto3", [_RIVALS, _INSTALLED], {}, bare),
            _ARTICLE: _Way(self.article, [article], self.article_event, _SETTINGS),
        }


type _Starts = dict[tuple[_Function, str], list[_Start]]


def measure(folder: Path) -> Section:
    """Measure all four, three ways each."""
    stack.build()
    built = stack.BUILT_TEMPLATE.parent
    article = _build_articles(folder / "article")
    ways = {
        (function, name): way
        for function in _functions()
        for name, way in function.ways(built, article).items()
    }
    starts: _Starts = {each: [] for each in ways}
    with _stub() as url:
        # The first round is not counted: it fills the caches of the file system.
        for count in range(_ROUNDS + 1):
            for each, way in ways.items():
                start = _start(way, url)
                if count:
                    starts[each].append(start)
    size = _zipped(built / "CommonLayer") / 1e6
    functions = dict.fromkeys(function for function, _ in ways)
    return Section(
        title="cold_start",
        parts=[
            _INTRODUCTION,
            Table(
                ("function", "way", *(f"{name}, of the bare" for name in _COLUMNS.values())),
                [_cells(starts, *each) for each in ways],
            ),
            _NOTES.format(rounds=_ROUNDS, size=f"{size:.2f}"),
        ],
        goals=[
            *(
                Goal(
                    f"{function.name}, {_COLUMNS[function.until]}, of the bare handler's, at most"
                    f" {function.most}",
                    _of_the_bare(starts, function, _OURS, function.until),
                    function.most,
                )
                for function in functions
            ),
            *(
                Goal(
                    f"{function.name}, memory, likewise, at most {function.most_memory}",
                    _of_the_bare(starts, function, _OURS, "memory"),
                    function.most_memory,
                )
                for function in functions
            ),
            Goal(
                f"MB of the layer's zip, at most {_MOST_MEGABYTES}",
                Spread.of([size]),
                _MOST_MEGABYTES,
            ),
        ],
    )


def _functions() -> list[_Function]:
    def given(name: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads((REPOSITORY / "events" / name).read_text())
        return event

    checkpoint = {"DurableExecutionArn": _EXECUTION, "CheckpointToken": "first"}
    run = {"cluster": "demo", "taskDefinition": "demo-job"}
    request = given("run_task/create.json")
    recycle = given("recycle_service/service.json")
    batch = given("log_events/task_running.json")
    post = given("launch_task/post.json")
    key = {"resourceArn": {"S": "task"}, "eventKey": {"S": "key"}}
    return [
        _Function(
            name="run_task",
            event=_durable(request),
            first_call=("lambda", "checkpoint_durable_execution", checkpoint),
            article="in_lambda_wait",
            article_event={
                **request,
                "ResourceProperties": {"RunTask": {**run, "cluster": "over"}},
            },
            most=1.25,
            until="called",
        ),
        _Function(
            name="log_events",
            event=batch,
            first_call=(
                "dynamodb",
                "batch_write_item",
                {"RequestItems": {"events": [{"PutRequest": {"Item": key}}]}},
            ),
            article="log_events_article",
            article_event=json.loads(batch["Records"][0]["body"]),
            most=0.75,
            until="done",
            most_memory=0.8,
        ),
        _Function(
            name="recycle_service",
            event=_durable(recycle),
            first_call=("lambda", "checkpoint_durable_execution", checkpoint),
            article="recycle_in_lambda",
            article_event=recycle,
            most=1.15,
            until="called",
        ),
        _Function(
            name="launch_task",
            event=post,
            first_call=("ecs", "run_task", run),
            article="launch_bare",
            article_event=post,
            most=0.95,
            until="done",
        ),
    ]


def _durable(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Lambda gives a durable function at the beginning of an execution."""
    execution = {
        "Id": _EXECUTION.rpartition("/")[2],
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": int(time.time() * 1000),
        "ExecutionDetails": {"InputPayload": json.dumps(event)},
    }
    return {
        "DurableExecutionArn": _EXECUTION,
        "CheckpointToken": "first",
        "InitialExecutionState": {"Operations": [execution], "NextMarker": ""},
    }


def _build_articles(target: Path) -> Path:
    """Lay out the articles' handlers as SAM does: source only, and every file of 1980."""
    target.mkdir()
    for name in _BOTO3_BRINGS:
        path = _INSTALLED / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)
    for path in _RIVALS.glob("*.py"):
        shutil.copy(path, target)
    for path in target.rglob("*"):
        os.utime(path, (_YEAR_1980, _YEAR_1980))
    return target


def _start(way: _Way, url: str) -> _Start:
    # -S and -I: of what is installed here, it sees what its paths name. -B: it keeps no bytecode.
    command = [sys.executable, "-I", "-S", "-B", "-c", _PROCESS, way.module]
    event = json.dumps({**way.event, "ResponseURL": url})
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        **way.environment,
    }
    began = time.monotonic()
    process = subprocess.run(
        [*command, event, *map(str, way.paths)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if process.returncode:
        raise RuntimeError(f"{way.module} failed: {process.stderr}")
    answered, peak, answer = json.loads(process.stdout)
    if "FAILED" in str(answer) or "'statusCode': 4" in str(answer):
        raise RuntimeError(f"{way.module} answered {answer}")
    with urllib.request.urlopen(url) as calls:
        called, _operation = json.load(calls)[0]
    return _Start(called - began, answered - began, peak / 1024)


def _of_the_bare(starts: _Starts, function: _Function, way: str, what: str) -> Spread:
    return Spread.of(
        [
            getattr(one, what) / getattr(bare, what)
            for one, bare in zip(starts[function, way], starts[function, _BARE], strict=True)
        ]
    )


def _cells(starts: _Starts, function: _Function, way: str) -> list[str]:
    cells = [function.name, way]
    for what, (factor, unit) in _UNITS.items():
        seen = Spread.of([getattr(one, what) for one in starts[function, way]]).scaled(factor)
        ratio = "1" if way == _BARE else f"**{_of_the_bare(starts, function, way, what)}**"
        cells.append(f"{seen} {unit}, {ratio}")
    return cells


@contextlib.contextmanager
def _stub() -> Iterator[str]:
    """Run AWS for as long as the block lasts, and hand out its URL."""
    command = [sys.executable, "-I", "-S", str(_BENCHMARKS / "aws_stub.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def _zipped(layer: Path) -> int:
    """Return the bytes of the layer as the SAM CLI packs it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in layer.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(layer))
    return len(packed.getvalue())
