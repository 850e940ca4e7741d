"""launch_task as it is deployed, beside the least that launches a task; and under load."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import boto3

from tests.benchmarks.report import Goal, Section, Spread, Table
from tests.e2e.http import call
from tests.sandbox import stack
from tests.sandbox.account import REPOSITORY, temporary_account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.sandbox.account import Account

_ROUNDS: Final = 21
_WARM_ROUNDS: Final = 15
_POSTS: Final = 40
"""Invocations of a warm round."""
_LOAD: Final = 1_000
_WITH_ONE_KEY: Final = 500
_AT_ONCE: Final = 8
_OWN, _SHARED = "own", "shared"

_COLD_GOAL: Final = 0.95
_CPU_GOAL: Final = 1.3

_OURS: Final = "**launch_task**"
_BARE: Final = "bare handler"
_BENCHMARKS: Final = Path(__file__).parent
_EVENT: Final = REPOSITORY / "events" / "launch_task" / "post.json"
_SUBNET: Final = "subnet-0123456789abcdef0"

SETTINGS: Final = {
    "LAUNCH_ALLOW_COMMAND": "false",
    "LAUNCH_ALLOWED_ENVIRONMENT": "JOB_*",
    "LAUNCH_ALLOWED_TAGS": "",
    "LAUNCH_ASSIGN_PUBLIC_IP": "DISABLED",
    "LAUNCH_AUTH": "AWS_IAM",
    "LAUNCH_CLUSTER": "demo",
    "LAUNCH_CONTAINER": "app",
    "LAUNCH_MAX_CPU": "0",
    "LAUNCH_MAX_MEMORY": "0",
    "LAUNCH_NAME": "ecs-ops-launch-task",
    "LAUNCH_PROFILES_PARAMETER": "",
    "LAUNCH_SECRET_ARN": "",
    "LAUNCH_SECURITY_GROUPS": "",
    "LAUNCH_SIGNATURE_TABLE_NAME": "",
    "LAUNCH_SUBNETS": _SUBNET,
    "LAUNCH_TASK_DEFINITION": "demo-job",
}
"""Of launch_task, with access by IAM: what the template sets."""

_INTRODUCTION = """\
launch_task as `sam build` makes it, beside a handler that does nothing but call RunTask once:
boto3 installed in the usual way, one client, no routes, no checks, no log. Both are given
[events/launch_task/post.json](../events/launch_task/post.json) and talk to the same local stub."""

_NOTES = """\
- *Cold* is from the start of a process to the answer to its first request: {rounds} rounds, the
  two in turn, a fresh process for each. Lambda's own part, a sandbox with the code in it, is not
  here. The bare handler's libraries have bytecode, which a SAM build of it would not give them:
  on Lambda it would be slower than here.
- *CPU* is user and system time of the handler's process for one request, from JSON to JSON, its
  HTTP to the stub included; the stub's own time is not. {warm} rounds of {posts} requests, the two
  in turn.
- *Of the bare* is the ratio within one round."""

_LOAD_TEXT = """\
### Under load

{load:,} requests to the function URL of the stack deployed into the local account, {at_once} at a
time: {own} with an `Idempotency-Key` of their own, {shared} with one and the same, in turn."""

_LOAD_NOTE = """\
- Each request is a connection of its own, with TLS. The local account, its functions and the tasks
  share the machine: the figures tell that nothing is lost or doubled, not how fast Lambda is."""

# A function's process: an invocation for each line, its answer and its CPU time on one of stdout.
_PROCESS = """
import json, os, sys, time
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Where a function's log goes.
module, *paths = sys.argv[1:]
sys.path[:0] = paths

class Context:
    aws_request_id = "8f6f0d6c-0000-4000-8000-000000000001"
    function_name = "ecs-ops-launch-task"
    invoked_function_arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function_name}"
    memory_limit_in_mb = 256

handler = __import__(module).handler
for line in sys.stdin:
    times, event = line.split(" ", 1)
    began = time.process_time()
    for _ in range(int(times)):
        answer = json.dumps(handler(json.loads(event), Context))
    print(time.process_time() - began, answer, file=answers, flush=True)
"""

# ECS as far as RunTask goes, in one write: two of them would wait for each other's acknowledgement.
_STUB = """
import http.server, json
ARN = "arn:aws:ecs:us-east-1:000000000000:"
TASK = {
    "taskArn": ARN + "task/demo/0123456789abcdef0123456789abcdef",
    "clusterArn": ARN + "cluster/demo",
    "taskDefinitionArn": ARN + "task-definition/demo-job:1",
    "containers": [],
    "createdAt": 1767225600.5,
    "desiredStatus": "RUNNING",
    "lastStatus": "PROVISIONING",
    "launchType": "FARGATE",
    "group": "family:demo-job",
    "startedBy": "ecs-ops-launch-task/default/alice",
    "tags": [],
    "version": 1,
}
BODY = json.dumps({"tasks": [TASK], "failures": []}).encode()

class Ecs(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ecs)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """A handler, and where its code lies."""

    module: str
    paths: Sequence[Path]

    @contextlib.contextmanager
    def started(self, environment: Mapping[str, str]) -> Iterator[_Function]:
        # -S and -I: of what is installed here, it sees what its paths name.
        command = [sys.executable, "-I", "-S", "-c", _PROCESS, self.module, *map(str, self.paths)]
        with _running(command, environment) as process:
            yield _Function(process)


@dataclass(frozen=True, slots=True)
class _Function:
    """A process with a handler in it."""

    process: subprocess.Popen[str]

    def post(self, event: str, times: int = 1) -> float:
        """Invoke it so many times, and return the seconds of CPU."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{times} {event}\n")
        self.process.stdin.flush()
        cpu, answer = self.process.stdout.readline().split(" ", 1)
        if json.loads(answer)["statusCode"] != 202:
            raise RuntimeError(f"not launched: {answer}")
        return float(cpu)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds, one for each round; the rounds of all ways go together."""

    cold: dict[str, list[float]]
    warm: dict[str, list[float]]

    @classmethod
    def of(cls, ways: Mapping[str, _Way]) -> Self:
        event = json.dumps(json.loads(_EVENT.read_text()))
        measured = cls({name: [] for name in ways}, {name: [] for name in ways})
        with _running([sys.executable, "-I", "-S", "-c", _STUB], {}) as stub:
            assert stub.stdout
            environment = _environment(stub.stdout.readline().strip())
            # The first round is not counted: it fills the caches of the file system.
            for count in range(_ROUNDS + 1):
                for name, way in ways.items():
                    began = time.perf_counter()
                    with way.started(environment) as function:
                        function.post(event)
                        seconds = time.perf_counter() - began
                    if count:
                        measured.cold[name].append(seconds)
            with contextlib.ExitStack() as running:
                functions = {
                    name: running.enter_context(way.started(environment))
                    for name, way in ways.items()
                }
                for count in range(_WARM_ROUNDS + 1):
                    for name, function in functions.items():
                        cpu = function.post(event, _POSTS) / _POSTS
                        if count:
                            measured.warm[name].append(cpu)
        return measured


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What became of the requests."""

    answers: Counter[int]
    """By HTTP status."""
    waits: Sequence[float]
    """Seconds to an answer."""
    lasted: float
    tasks: Counter[str]
    """Tasks in the account, of keys of a request's own and of the shared one."""


def measure(folder: Path) -> Section:
    """Measure both handlers, then the deployed stack under load."""
    stack.build()
    built = stack.BUILT_TEMPLATE.parent
    ways = {
        _OURS: _Way("handler", [built / "LaunchTaskFunction", built / "CommonLayer" / "python"]),
        _BARE: _Way("launch_bare", [_BENCHMARKS / "rivals", Path(boto3.__file__).parents[1]]),
    }
    measured = _Measured.of(ways)
    cold, warm = _ratio(measured.cold), _ratio(measured.warm)
    loaded = _load(folder)
    errors = sum(count for status, count in loaded.answers.items() if status != 202)
    return Section(
        title="launch_task",
        parts=[
            _INTRODUCTION,
            Table(
                ("handler", "cold", "of the bare", "CPU of a warm request", "of the bare"),
                [
                    (
                        name,
                        f"{Spread.of(measured.cold[name]).scaled(1000)} ms",
                        f"{cold}" if name == _OURS else "1",
                        f"{Spread.of(measured.warm[name]).scaled(1000)} ms",
                        f"{warm}" if name == _OURS else "1",
                    )
                    for name in ways
                ],
            ),
            _NOTES.format(rounds=_ROUNDS, warm=_WARM_ROUNDS, posts=_POSTS),
            _LOAD_TEXT.format(
                load=_LOAD, at_once=_AT_ONCE, own=_LOAD - _WITH_ONE_KEY, shared=_WITH_ONE_KEY
            ),
            Table(
                (
                    "requests",
                    "answered 202",
                    "otherwise",
                    "tasks",
                    "with the one key",
                    "in",
                    "wait",
                ),
                [
                    (
                        f"{_LOAD:,}",
                        f"{loaded.answers[202]:,}",
                        f"{errors}",
                        f"{loaded.tasks.total():,}",
                        f"{loaded.tasks[_SHARED]}",
                        f"{loaded.lasted:.0f} s",
                        f"{Spread.of(loaded.waits).scaled(1000)} ms",
                    )
                ],
            ),
            _LOAD_NOTE,
        ],
        goals=[
            Goal(f"cold start, of the bare handler's, at most {_COLD_GOAL}", cold, _COLD_GOAL),
            Goal(f"CPU of a warm request, likewise, at most {_CPU_GOAL}", warm, _CPU_GOAL),
            Goal(f"errors of {_LOAD:,} requests under load, none", Spread.of([errors]), 0),
            Goal(
                f"tasks of {_WITH_ONE_KEY} requests with one key, off from one, none",
                Spread.of([abs(loaded.tasks[_SHARED] - 1)]),
                0,
            ),
            Goal(
                f"tasks of {_LOAD - _WITH_ONE_KEY} with keys of their own, off from that, none",
                Spread.of([abs(loaded.tasks[_OWN] - (_LOAD - _WITH_ONE_KEY))]),
                0,
            ),
        ],
    )


@contextlib.contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _environment(port: str) -> dict[str, str]:
    """Return what the template sets, access by IAM, and where the stub is."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "EVENT_TABLE_NAME": "",
        **SETTINGS,
        "POWERTOOLS_SERVICE_NAME": "launch_task",
    }


def _ratio(seconds: Mapping[str, Sequence[float]]) -> Spread:
    return Spread.of(
        [ours / bare for ours, bare in zip(seconds[_OURS], seconds[_BARE], strict=True)]
    )


def _load(folder: Path) -> _Loaded:
    """Send the requests to a stack of its own, and count the tasks that there are afterwards."""
    with temporary_account(folder) as account, ThreadPoolExecutor(_AT_ONCE) as pool:
        stack.create_demo_cluster(account)
        outputs = stack.deploy(account)
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {stack.launcher_token(account, outputs)}",
        }

        def post(number: int, kind: str) -> tuple[int, float]:
            key = kind if kind == _SHARED else f"{kind}-{number}"
            began = time.perf_counter()
            answer = call(
                account,
                "POST",
                outputs["LauncherUrl"],
                json.dumps({"JOB_NAME": key}).encode(),
                {**headers, "idempotency-key": key},
                sign=False,
            )
            return answer.status, time.perf_counter() - began

        began = time.perf_counter()
        seen = list(pool.map(post, range(_LOAD), cycle((_OWN, _SHARED))))
        lasted = time.perf_counter() - began
        return _Loaded(
            answers=Counter(status for status, _ in seen),
            waits=[seconds for _, seconds in seen],
            lasted=lasted,
            tasks=Counter(name.split("-")[0] for name in _job_names(account)),
        )


def _job_names(account: Account) -> Iterator[str]:
    """Yield what each task of the cluster got as JOB_NAME."""
    ecs = account.client("ecs")
    pages = [
        page["taskArns"]
        for status in ("RUNNING", "STOPPED")
        for page in ecs.get_paginator("list_tasks").paginate(
            cluster=stack.DEMO_CLUSTER, desiredStatus=status
        )
    ]
    arns = {arn for page in pages for arn in page}
    for some in batched(arns, 100, strict=False):
        for task in ecs.describe_tasks(cluster=stack.DEMO_CLUSTER, tasks=list(some))["tasks"]:
            [container] = task["overrides"]["containerOverrides"]
            yield from (
                each["value"] for each in container["environment"] if each["name"] == "JOB_NAME"
            )
