"""The function URL lets in who may, launches what they may, and follows it to its end.

Over TLS, with IAM enforced: by token in the account's stack, by AWS's signature and by HMAC in two
small stacks beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.e2e.faults import Faults
from tests.e2e.http import call
from tests.e2e.permissions import assert_denied
from tests.e2e.stacks import UserStack, create_further
from tests.sandbox import stack
from tests.sandbox.stack import DEMO_CLUSTER
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    import urllib3

    from tests.sandbox.account import Account

LAUNCHER = "ecs-ops-launch-task"
STRANGER = "Bearer nobody-has-ever-heard-of-this-token"
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
ORIGIN = "https://ops.example.com"
# Longer than a copy of the secret is used for somebody who is not in it.
_PATIENCE = 30
_PAUSE = 0.5


@dataclass(frozen=True)
class Caller:
    """Somebody who calls a launcher."""

    account: Account
    url: str
    credentials: Credentials | None = None
    """Sign with these for AWS."""
    token: str = ""
    key: str = ""
    """Sign with this as openapi.json says."""

    def __call__(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; a body that is no text is sent as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        sent = b"" if body is None else text.encode()
        given = {"content-type": "application/json"}
        if self.token:
            given["authorization"] = f"Bearer {self.token}"
        if self.key:
            repeated = headers.get("idempotency_key", "")
            given |= signature(self.key, method, path, sent, idempotency_key=repeated)
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        url, credentials = self.url.rstrip("/") + path, self.credentials
        if credentials:
            return call(self.account, method, url, sent, given, credentials=credentials)
        return call(self.account, method, url, sent, given, sign=False)

    def get(self, path: str) -> Any:
        """Return what is there."""
        answer = self("GET", path)
        assert answer.status == 200, answer.data
        return json.loads(answer.data)

    def launch(self, body: object, path: str = "/runs", **headers: str) -> dict[str, Any]:
        """Launch a run that is accepted."""
        answer = self("POST", path, body, **headers)
        assert answer.status == 202, answer.data
        run: dict[str, Any] = json.loads(answer.data)
        assert answer.headers["location"] == f"/runs/{run['id']}"
        return run

    def follow(self, run: dict[str, Any], *statuses: str) -> dict[str, Any]:
        """Return the run once it has one of these statuses."""

        def look() -> dict[str, Any] | None:
            seen: dict[str, Any] = self.get(f"/runs/{run['id']}")
            return seen if seen["status"] in (statuses or ENDED) else None

        return eventually(look, f"run {run['id']} {statuses or ENDED}")


def signature(
    key: str,
    method: str,
    path: str,
    body: bytes,
    *,
    timestamp: str | None = None,
    idempotency_key: str = "",
) -> dict[str, str]:
    """Return the headers that sign a request; a timestamp with a sign is relative to now."""
    moment = timestamp or repr(time.time())
    if moment[0] in "+-":
        moment = repr(time.time() + float(moment))
    text = f"{moment}\n{method}\n{path}\n{idempotency_key}\n".encode() + body
    digest = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
    return {"x-timestamp": moment, "x-signature": f"sha256={digest}"}


# ---------------------------------------------------------------- what goes on beside the tests


@dataclass(frozen=True)
class Rotation:
    """What callers met whose tokens came into the secret and went out of it again."""

    before: int
    added: int
    removed: int


@dataclass(frozen=True)
class Meanwhile:
    """What takes long and needs no looking at."""

    succeeding: dict[str, Any]
    failing: dict[str, Any]
    writing: dict[str, Any]
    """Three runs as they were accepted."""
    iam: Future[dict[str, str]]
    hmac: Future[dict[str, str]]
    rotation: Future[Rotation]
    guest: Future[str]


def _tokens(account: Account, arn: str, **changes: str | None) -> dict[str, str]:
    """Change tokens by name, None to remove one; return all of them."""
    secrets = account.client("secretsmanager")
    tokens = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
    tokens = {name: token for name, token in {**tokens, **changes}.items() if token}
    secrets.put_secret_value(SecretId=arn, SecretString=json.dumps(tokens))
    return tokens


@pytest.fixture(scope="module", autouse=True)
def meanwhile(account: Account, outputs: dict[str, str]) -> Iterator[Meanwhile]:
    arn, url = outputs["LauncherSecretArn"], outputs["LauncherUrl"]
    default = Caller(account, url, token=stack.launcher_token(account, outputs))
    guest, leaver = f"guest-{uuid.uuid4().hex}", f"leaver-{uuid.uuid4().hex}"
    # The function has its copy of the secret from here on, and knows neither of the two.
    before = Caller(account, url, token=leaver)("GET", "/profiles").status
    succeeding, failing = (
        default.launch({"profile": "migrate", "environment": {"EXIT_CODE": code}})
        for code in (0, "137")
    )
    lines = ["sh", "-c", "for number in 1 2 3; do echo line $number; done"]
    writing = default.launch({"profile": "web", "command": lines})
    _tokens(account, arn, nobody=guest, leaver=leaver)

    def until(token: str, status: int) -> int:
        def look() -> int | None:
            # Whoever is not known makes the function look again.
            Caller(account, url)("GET", "/profiles", authorization=STRANGER)
            met = Caller(account, url, token=token)("GET", "/profiles").status
            time.sleep(_PAUSE)
            return met if met == status else None

        return eventually(look, f"a {status} for a token", within=_PATIENCE)

    def let_in() -> str:
        until(guest, 200)
        return guest

    def rotate() -> Rotation:
        added = until(leaver, 200)
        _tokens(account, arn, leaver=None)
        return Rotation(before=before, added=added, removed=until(leaver, 401))

    def deploy(name: str, **parameters: str) -> dict[str, str]:
        create_further(account, name, **parameters)
        deployed = UserStack(account, name)
        status = deployed.settled()["StackStatus"]
        assert status == "CREATE_COMPLETE", status
        return deployed.outputs()

    with ThreadPoolExecutor(4) as pool:
        yield Meanwhile(
            succeeding=succeeding,
            failing=failing,
            writing=writing,
            iam=pool.submit(deploy, "launch-iam", LauncherAuth="AWS_IAM"),
            hmac=pool.submit(
                deploy,
                "launch-hmac",
                LauncherAuth="HMAC",
                LauncherCorsOrigins=ORIGIN,
                LauncherReservedConcurrency="5",
            ),
            rotation=pool.submit(rotate),
            guest=pool.submit(let_in),
        )


@pytest.fixture(scope="module")
def default(account: Account, outputs: dict[str, str]) -> Caller:
    """The caller whose token the stack made."""
    token = stack.launcher_token(account, outputs)
    return Caller(account, outputs["LauncherUrl"], token=token)


@pytest.fixture(scope="module")
def ecs(account: Account) -> Any:
    return account.client("ecs")


def _task(ecs: Any, run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's task as ECS shows it, its tags as a dict."""
    found = ecs.describe_tasks(cluster=DEMO_CLUSTER, tasks=[run["taskArn"]], include=["TAGS"])
    task: dict[str, Any] = found["tasks"][0]
    return {**task, "tags": {tag["key"]: tag["value"] for tag in task["tags"]}}


@pytest.fixture
def started(ecs: Any) -> Callable[[], set[str]]:
    """Return a function that tells which tasks have been started since."""

    def known() -> set[str]:
        return {
            arn
            for status in ("RUNNING", "STOPPED")
            for page in ecs.get_paginator("list_tasks").paginate(
                cluster=DEMO_CLUSTER, desiredStatus=status
            )
            for arn in page["taskArns"]
        }

    before = known()
    return lambda: known() - before


# ---------------------------------------------------------------- the life of a run


def test_run_is_followed_to_its_end_when_it_succeeds(default: Caller, meanwhile: Meanwhile) -> None:
    accepted = meanwhile.succeeding

    ended = default.follow(accepted)

    assert accepted["status"] == "PENDING"
    assert (ended["status"], ended["exitCode"]) == ("SUCCEEDED", 0)
    assert ended["createdAt"] <= ended["startedAt"] <= ended["stoppedAt"]
    kept = ("id", "taskArn", "profile", "caller", "cluster", "taskDefinition", "createdAt")
    assert {name: ended[name] for name in kept} == {name: accepted[name] for name in kept}


def test_exit_code_is_explained_when_a_run_fails(default: Caller, meanwhile: Meanwhile) -> None:
    ended = default.follow(meanwhile.failing)

    assert (ended["status"], ended["exitCode"]) == ("FAILED", 137)
    assert "SIGKILL" in ended["exitCodeMeaning"]
    assert "exited with 137" in ended["reason"]


def test_default_profile_gets_the_values_when_a_flat_object_is_posted(default: Caller) -> None:
    run = default.launch({"GREETING": "good morning", "JOB_NAME": 7}, "/")

    default.follow(run, "SUCCEEDED")
    log = default.get(f"/runs/{run['id']}/logs")
    assert [event["message"] for event in log["events"]] == ["good morning from task 7"]
    assert run["profile"] == "default"


def test_task_is_as_ordered_when_a_profile_lets_its_caller_choose(
    default: Caller, ecs: Any
) -> None:
    run = default.launch(
        {
            "profile": "web",
            "command": ["sh", "-c", 'echo "$JOB_NAME"'],
            "environment": {"JOB_NAME": "chosen"},
            "cpu": 512,
            "memory": 2048,
            "tags": {"Team": "green"},
        }
    )

    task = _task(ecs, run)
    assert (task["cpu"], task["memory"]) == ("512", "2048")
    assert task["launchType"] == "FARGATE"
    assert task["tags"]["Team"] == "green"
    default.follow(run, "SUCCEEDED")
    assert default.get(f"/runs/{run['id']}/logs")["events"][0]["message"] == "chosen"


def test_caller_is_named_by_the_task_and_by_the_record_of_it(
    account: Account, outputs: dict[str, str], default: Caller, ecs: Any
) -> None:
    run = default.launch({})
    table = account.client("dynamodb")

    def recorded() -> set[str]:
        items = table.query(
            TableName=outputs["EventTableName"],
            KeyConditionExpression="resourceArn = :arn",
            ExpressionAttributeValues={":arn": {"S": run["taskArn"]}},
        )["Items"]
        return {item["startedBy"]["S"] for item in items}

    task = _task(ecs, run)
    origin = f"{LAUNCHER}/default/default"
    assert task["startedBy"] == origin
    assert task["tags"] == {
        "ecs-ops:launcher": LAUNCHER,
        "ecs-ops:profile": "default",
        "ecs-ops:caller": "default",
    }
    assert eventually(recorded, "a record of the run") == {origin}


def _pages(caller: Caller, query: str) -> Iterator[list[dict[str, Any]]]:
    after = ""
    while True:
        page = caller.get(f"/runs?{query}{after}")
        yield page["runs"]
        if page["next"] is None:
            return
        after = f"&after={quote(page['next'], safe='')}"


def test_runs_are_listed_newest_first_and_once_when_asked_for_in_pages(
    default: Caller, meanwhile: Meanwhile
) -> None:
    launched = [default.launch({})["id"] for _ in range(3)]
    failed = default.follow(meanwhile.failing)

    def listed() -> list[list[dict[str, Any]]] | None:
        found = list(_pages(default, "profile=default&limit=3"))
        # Another process of the function may have a list of some seconds ago.
        return found if {*launched} <= {run["id"] for page in found for run in page} else None

    pages = eventually(listed, "all runs in the list")
    runs = [run for page in pages for run in page]

    assert all(len(page) == 3 for page in pages[:-1])
    keys = [(run["createdAt"], run["id"]) for run in runs]
    assert keys == sorted(set(keys), reverse=True)
    assert {run["profile"] for run in runs} == {"default"}

    def failures() -> list[dict[str, Any]] | None:
        found = [run for page in _pages(default, "status=FAILED") for run in page]
        return found if failed in found else None

    found = eventually(failures, "the failed run in the list")
    assert {run["status"] for run in found} == {"FAILED"}


def test_run_ends_as_stopped_when_its_caller_stops_it_and_twice_is_no_error(
    default: Caller,
) -> None:
    run = default.launch({"profile": "web"})
    default.follow(run, "RUNNING")

    asked = default("DELETE", f"/runs/{run['id']}")
    again = default("DELETE", f"/runs/{run['id']}")
    ended = default.follow(run)
    late = default("DELETE", f"/runs/{run['id']}")

    assert asked.status == 202
    assert again.status in {200, 202}  # It may have stopped by then.
    assert late.status == 200
    assert ended["status"] == "STOPPED"
    assert "default" in ended["reason"]
    assert json.loads(late.data) == ended


def test_run_is_remembered_when_ecs_has_forgotten_its_task(
    account: Account, default: Caller, ecs: Any
) -> None:
    run = default.launch({"JOB_NAME": "memorable"}, "/")
    ended = default.follow(run, "SUCCEEDED")

    Faults(account, run["id"]).forget(run["taskArn"])

    assert not ecs.describe_tasks(cluster=DEMO_CLUSTER, tasks=[run["taskArn"]])["tasks"]

    # What happens is on record a moment later.
    def remembered() -> dict[str, Any] | None:
        answer = default("GET", f"/runs/{run['id']}")
        seen = json.loads(answer.data)
        return seen if seen["status"] == ended["status"] else None

    assert eventually(remembered, "the run's end on record") == ended
    assert ended in [one for page in _pages(default, "limit=100") for one in page]
    assert default.get(f"/runs/{run['id']}/logs")["events"]
    assert default("DELETE", f"/runs/{run['id']}").status == 200


def test_log_is_empty_when_a_run_has_not_begun(default: Caller) -> None:
    run = default.launch({})

    log = default.get(f"/runs/{run['id']}/logs")

    assert log == {"events": [], "next": None, "complete": False}


def test_log_is_read_page_by_page_and_is_complete_when_the_run_is_over(
    default: Caller, meanwhile: Meanwhile
) -> None:
    run = default.follow(meanwhile.writing, "SUCCEEDED")

    first = default.get(f"/runs/{run['id']}/logs?limit=2")
    rest = default.get(f"/runs/{run['id']}/logs?after={quote(first['next'], safe='')}")

    pages = [[event["message"] for event in page["events"]] for page in (first, rest)]
    assert pages == [["line 1", "line 2"], ["line 3"]]

    def last() -> dict[str, Any] | None:
        page = default.get(f"/runs/{run['id']}/logs?after={quote(rest['next'], safe='')}")
        return dict(page) if page["complete"] else None

    assert eventually(last, "the log to be complete")["events"] == []


# ---------------------------------------------------------------- what is not the caller's


def test_task_is_neither_seen_nor_stopped_when_somebody_else_started_it(
    default: Caller, ecs: Any
) -> None:
    task = ecs.run_task(
        cluster=DEMO_CLUSTER, taskDefinition="demo-web", startedBy=f"{LAUNCHER}-two/web/default"
    )["tasks"][0]
    run_id = task["taskArn"].rpartition("/")[2]

    answers = [
        default(*request)
        for request in (
            ("GET", f"/runs/{run_id}"),
            ("GET", f"/runs/{run_id}/logs"),
            ("DELETE", f"/runs/{run_id}"),
        )
    ]

    nothing = default("GET", f"/runs/{uuid.uuid4()}")
    assert {(one.status, one.data) for one in answers} == {(404, nothing.data)}
    assert run_id not in [run["id"] for page in _pages(default, "limit=100") for run in page]
    assert _task(ecs, task)["desiredStatus"] == "RUNNING"
    ecs.stop_task(cluster=DEMO_CLUSTER, task=task["taskArn"])


def test_task_goes_on_when_it_only_claims_to_be_the_launchers(
    account: Account, default: Caller, ecs: Any
) -> None:
    # Whoever may run tasks may write what they like into startedBy. The role goes by the tag.
    task = ecs.run_task(
        cluster=DEMO_CLUSTER, taskDefinition="demo-web", startedBy=f"{LAUNCHER}/web/default"
    )["tasks"][0]
    run_id = task["taskArn"].rpartition("/")[2]

    answer = default("DELETE", f"/runs/{run_id}")

    assert answer.status == 500
    assert_denied(account, "ecs:StopTask", task["taskArn"])
    assert _task(ecs, task)["desiredStatus"] == "RUNNING"
    ecs.stop_task(cluster=DEMO_CLUSTER, task=task["taskArn"])


def test_run_is_not_there_for_others_when_its_profile_is_for_some_callers(
    account: Account, outputs: dict[str, str], default: Caller, meanwhile: Meanwhile
) -> None:
    guest = Caller(account, outputs["LauncherUrl"], token=meanwhile.guest.result())
    run = guest.launch({"profile": "ops"})

    assert default("GET", f"/runs/{run['id']}").status == 404
    assert default("GET", f"/runs/{run['id']}/logs").status == 404
    assert default("DELETE", f"/runs/{run['id']}").status == 404
    assert default("GET", "/runs?profile=ops").status == 400
    assert run["id"] not in [one["id"] for page in _pages(default, "") for one in page]
    assert "ops" not in [profile["name"] for profile in default.get("/profiles")["profiles"]]
    assert guest.follow(run, "SUCCEEDED")["caller"] == "nobody"
    assert run["id"] in [one["id"] for page in _pages(guest, "profile=ops") for one in page]


# ---------------------------------------------------------------- requests


def test_one_task_runs_when_a_keyed_request_is_repeated(
    default: Caller, started: Callable[[], set[str]]
) -> None:
    key = {"idempotency_key": uuid.uuid4().hex}
    first = default.launch({"environment": {"GREETING": "once"}}, **key)
    again = default.launch({"environment": {"GREETING": "once"}}, **key)
    other = default("POST", "/runs", {"environment": {"GREETING": "twice"}}, **key)

    assert again["id"] == first["id"]
    assert other.status == 409
    assert started() == {first["taskArn"]}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/", "no JSON", "body"),
        ("/", "[1]", "body"),
        ("/", {"LD_PRELOAD": "/tmp/x.so"}, "LD_PRELOAD"),
        ("/", {"GREETING": {"nested": True}}, "GREETING"),
        ("/runs", {"image": "busybox"}, "image"),
        ("/runs", {"profile": "ops"}, "profile"),
        ("/runs", {"profile": "no-such"}, "profile"),
        ("/runs", {"environment": {"PATH": "/tmp"}}, "environment.PATH"),
        (
            "/runs",
            {"profile": "migrate", "environment": {"EXIT_CODE": "1; reboot"}},
            "environment.EXIT_CODE",
        ),
        ("/runs", {"command": ["sh"]}, "command"),
        ("/runs", {"profile": "web", "cpu": 512}, "memory"),
        ("/runs", {"profile": "web", "cpu": 4096, "memory": 8192}, "cpu"),
        ("/runs", {"profile": "web", "tags": {"ecs-ops:caller": "you"}}, "tags.ecs-ops:caller"),
        ("/hooks/pushed", {"ref": "refs/heads/main"}, ""),
    ],
)
def test_problem_names_the_field_and_nothing_starts_when_a_request_is_bad(
    default: Caller, started: Callable[[], set[str]], path: str, body: object, field: str
) -> None:
    answer = default("POST", path, body)

    problem = json.loads(answer.data)
    assert answer.status == (400 if field else 401)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.get("field", "") == field
    assert problem["status"] == answer.status
    assert started() == set()


def test_request_is_refused_when_its_body_is_too_large(
    default: Caller, started: Callable[[], set[str]]
) -> None:
    answer = default("POST", "/", {"GREETING": "x" * 2**20})

    assert answer.status == 413
    assert started() == set()


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/runs", 405, "GET, POST"),
        ("POST", "/runs/0123456789abcdef0123456789abcdef", 405, "DELETE, GET"),
        ("GET", "/nowhere", 404, None),
    ],
)
def test_problem_says_what_there_is_when_nothing_answers(
    default: Caller, method: str, path: str, status: int, allowed: str | None
) -> None:
    answer = default(method, path)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("allow") == allowed


# ---------------------------------------------------------------- bad days


@pytest.mark.parametrize(
    ("fault", "status", "retry"),
    [
        ({"fault": "refuse", "code": "ThrottlingException"}, 429, True),
        ({"fault": "refuse", "code": "ServerException", "status": 500}, 503, True),
        (
            {
                "fault": "answer",
                "body": {"tasks": [], "failures": [{"arn": "", "reason": "RESOURCE:CPU"}]},
            },
            503,
            True,
        ),
        ({"fault": "refuse", "code": "ClientException"}, 500, False),
        ({"fault": "refuse", "code": "AccessDeniedException"}, 500, False),
    ],
)
def test_answer_says_whether_to_come_again_when_ecs_does_not_start_it(
    account: Account, default: Caller, fault: dict[str, Any], status: int, *, retry: bool
) -> None:
    name = uuid.uuid4().hex
    with Faults(account, name) as faults:
        faults.inject("ecs:RunTask", times=None, **fault)

        answer = default("POST", "/", {"JOB_NAME": name})

    problem = json.loads(answer.data)
    assert answer.status == problem["status"] == status
    assert problem["reference"]
    assert ("retry-after" in answer.headers) is retry
    # What ECS said is for the operator.
    assert "as the test asked for" not in answer.data.decode()


def test_operator_is_asked_for_when_a_profile_is_broken(
    default: Caller, started: Callable[[], set[str]]
) -> None:
    answer = default("POST", "/runs", {"profile": "broken"})

    assert answer.status == 500
    assert json.loads(answer.data)["reference"]
    assert started() == set()


# ---------------------------------------------------------------- access by token


def test_nothing_is_told_or_started_when_the_token_is_nobodys(
    default: Caller, started: Callable[[], set[str]]
) -> None:
    run = default.launch({})
    stranger = Caller(default.account, default.url)
    nobodys = ("", STRANGER, "Bearer", "Bearer ", "Basic ZGVmYXVsdDo=", "Bearer default")
    requests: tuple[tuple[str, str, object], ...] = (
        ("POST", "/runs", {"profile": "web"}),
        ("POST", "/runs", "no JSON"),
        ("GET", "/runs", None),
        ("GET", f"/runs/{run['id']}", None),
        ("DELETE", f"/runs/{run['id']}", None),
        ("GET", f"/runs/{run['id']}/logs", None),
        ("GET", "/profiles", None),
    )

    answers = [
        *(stranger("POST", "/", {}, authorization=text) for text in nobodys),
        *(stranger(*request, authorization=STRANGER) for request in requests),
    ]

    assert {(answer.status, answer.data) for answer in answers} == {(401, answers[0].data)}
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert started() == {run["taskArn"]}


def test_token_works_and_ceases_to_when_it_comes_and_goes_without_a_deploy(
    meanwhile: Meanwhile,
) -> None:
    assert meanwhile.rotation.result() == Rotation(before=401, added=200, removed=401)


def test_description_and_page_are_there_for_everybody_when_access_is_by_token(
    default: Caller,
) -> None:
    anybody = Caller(default.account, default.url)

    assert anybody.get("/openapi.json")["security"] == [{"token": []}]
    page = anybody("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_pages_of_others_are_not_let_in_when_no_origin_is_configured(default: Caller) -> None:
    preflight = default("OPTIONS", "/runs", origin=ORIGIN, access_control_request_method="POST")
    answer = default("GET", "/profiles", origin=ORIGIN)

    for one in (preflight, answer):
        assert not [name for name in one.headers if name.lower().startswith("access-control-")]


def test_no_token_is_in_the_log_when_requests_were_let_in_and_refused(
    account: Account, default: Caller, meanwhile: Meanwhile
) -> None:
    default.launch({"environment": {"GREETING": "not for the log"}})
    logs, group = account.client("logs"), f"/aws/lambda/{LAUNCHER}"

    def written() -> str:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"] for page in pages for event in page["events"])

    text = eventually(written, "the function's log")

    for secret in (default.token, meanwhile.guest.result(), STRANGER, "not for the log"):
        assert secret not in text


# ---------------------------------------------------------------- access by AWS's signature


def _user(account: Account, *actions: str) -> tuple[str, Credentials]:
    """Return the name and the key of a new user who may do this."""
    iam, name = account.client("iam"), f"user-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": [*actions], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return name, Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def test_caller_is_the_signer_when_access_is_by_iam(
    account: Account, ecs: Any, meanwhile: Meanwhile
) -> None:
    url = meanwhile.iam.result()["LauncherUrl"]
    name, key = _user(account, "lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
    signer = Caller(account, url, key)

    run = signer.launch({"GREETING": "signed"}, "/")

    task = _task(ecs, run)
    assert run["caller"] == f"user/{name}"
    assert task["startedBy"] == f"launch-iam-launch-task/default/user/{name}"
    assert task["tags"]["ecs-ops:caller"] == f"arn:aws:iam::000000000000:user/{name}"
    assert signer.follow(run)["status"] == "SUCCEEDED"
    # This stack has no event log: ECS alone knows.
    assert signer.get("/runs")["runs"][0]["id"] == run["id"]
    # A browser does not sign, so there is no page.
    assert signer("GET", "/").status == 404


def test_nothing_starts_when_a_request_is_not_signed_by_who_may(
    account: Account, started: Callable[[], set[str]], meanwhile: Meanwhile
) -> None:
    url = meanwhile.iam.result()["LauncherUrl"]
    _, key = _user(account, "lambda:ListFunctions")
    _, allowed = _user(account, "lambda:InvokeFunctionUrl", "lambda:InvokeFunction")

    answers = [
        Caller(account, url)("POST", "/", {}),
        Caller(account, url, token="default")("POST", "/", {}),
        Caller(account, url, key)("POST", "/", {}),
        Caller(account, url, Credentials(allowed.access_key, "wrong"))("POST", "/", {}),
    ]

    assert [answer.status for answer in answers] == [403, 403, 403, 403]
    assert started() == set()


# ---------------------------------------------------------------- access by HMAC


@pytest.fixture(scope="module")
def signer(account: Account, meanwhile: Meanwhile) -> Caller:
    """The caller whose key the stack made."""
    outputs = meanwhile.hmac.result()
    key = stack.launcher_token(account, outputs)
    return Caller(account, outputs["LauncherUrl"], key=key)


def test_signed_requests_are_let_in_when_access_is_by_hmac(signer: Caller, ecs: Any) -> None:
    key = {"idempotency_key": uuid.uuid4().hex}
    run = signer.launch({"profile": "migrate"}, **key)

    assert _task(ecs, run)["startedBy"] == "launch-hmac-launch-task/migrate/default"
    assert signer.launch({"profile": "migrate"}, **key)["id"] == run["id"]
    # The query is signed as it is sent, whatever might be escaped in it.
    assert signer.get(f"/runs?limit=5&after=2999-01-01T00:00:00.000Z_{'f' * 32}")["runs"]
    assert signer.follow(run)["status"] == "SUCCEEDED"
    assert signer("GET", "/").status == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "wrong-wrong-wrong-wrong"},
        {"timestamp": "-310"},
        {"timestamp": "+310"},
        {"method": "GET"},
        {"path": "/runs"},
        {"path": "/?"},
        {"idempotency_key": "another"},
        {"body": b'{"JOB_NAME": "other"}'},
    ],
)
def test_nothing_starts_when_the_signature_is_of_another_key_time_or_request(
    signer: Caller, started: Callable[[], set[str]], wrong: dict[str, Any]
) -> None:
    right = {"key": signer.key, "method": "POST", "path": "/", "body": b"{}"}
    anybody = Caller(signer.account, signer.url)

    answer = anybody("POST", "/", {}, **signature(**right | wrong))

    unsigned = anybody("POST", "/", {})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "HMAC-SHA256"
    assert answer.data == unsigned.data
    assert started() == set()


def test_one_task_starts_when_a_signed_request_is_replayed(
    signer: Caller, started: Callable[[], set[str]]
) -> None:
    headers = signature(signer.key, "POST", "/", b"{}")
    anybody = Caller(signer.account, signer.url)

    first = anybody.launch({}, "/", **headers)
    again = anybody("POST", "/", {}, **headers)

    assert again.status == 401
    assert started() == {first["taskArn"]}


def _hook(signer: Caller, body: str, signed: str = "", **headers: str) -> Any:
    """Send what GitHub sends."""
    digest = hmac.new(signer.key.encode(), (signed or body).encode(), hashlib.sha256).hexdigest()
    sender = Caller(signer.account, signer.url)
    given = {"x_github_event": "push", "x_hub_signature_256": f"sha256={digest}", **headers}
    return sender("POST", "/hooks/pushed", body, **given)


def test_webhook_launches_one_run_when_it_is_delivered_twice(
    signer: Caller, started: Callable[[], set[str]]
) -> None:
    commit = uuid.uuid4().hex + "00000000"
    body = json.dumps({"ref": "refs/heads/main", "head_commit": {"id": commit}})

    first = _hook(signer, body, x_github_delivery="1")
    again = _hook(signer, body, x_github_delivery="2")

    assert first.status == again.status == 202
    run = json.loads(first.data)
    assert json.loads(again.data)["id"] == run["id"]
    assert started() == {run["taskArn"]}
    signer.follow(run, "SUCCEEDED")
    log = signer.get(f"/runs/{run['id']}/logs")
    assert log["events"][0]["message"] == f"refs/heads/main from task {commit}"


def test_webhook_starts_nothing_when_it_is_a_ping_or_forged_or_not_allowed(
    signer: Caller, started: Callable[[], set[str]]
) -> None:
    body = json.dumps({"ref": "refs/heads/main", "head_commit": {"id": "x; reboot"}})

    assert (
        _hook(signer, '{"zen": "Keep it logically awesome."}', x_github_event="ping").status == 204
    )
    assert _hook(signer, body, "another").status == 401
    assert _hook(signer, body).status == 400
    assert started() == set()


def test_pages_of_one_origin_are_let_in_when_it_is_configured(
    account: Account, signer: Caller
) -> None:
    def preflight(origin: str) -> dict[str, str]:
        asked = {"origin": origin, "access_control_request_method": "DELETE"}
        answer = Caller(account, signer.url)("OPTIONS", "/runs", **asked)
        return {name.lower(): value for name, value in answer.headers.items()}

    known, unknown = preflight(ORIGIN), preflight("https://evil.example")

    assert known["access-control-allow-origin"] == ORIGIN
    assert "x-signature" in known["access-control-allow-headers"]
    assert "DELETE" in known["access-control-allow-methods"]
    assert "access-control-allow-origin" not in unknown


def test_concurrency_is_reserved_when_a_parameter_says_so(
    account: Account, meanwhile: Meanwhile
) -> None:
    assert meanwhile.hmac.result()

    reserved = account.client("lambda").get_function_concurrency(
        FunctionName="launch-hmac-launch-task"
    )

    assert reserved["ReservedConcurrentExecutions"] == 5


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"LauncherMaxCpu": "256"}, "LauncherMaxCpu and LauncherMaxMemory go together"),
        ({"LauncherMaxMemory": "512"}, "LauncherMaxCpu and LauncherMaxMemory go together"),
        (
            {"LauncherTaskDefinition": ""},
            "LauncherProfilesParameter needs LauncherTaskDefinition",
        ),
        ({"LauncherAuth": "NONE"}, "LauncherAuth"),
        ({"LauncherProfilesParameter": "profiles"}, "with a slash before it"),
        ({"LauncherCorsOrigins": "https://ops.example.com/"}, "must be * or origins"),
    ],
)
def test_nothing_is_deployed_when_parameters_do_not_fit(
    account: Account, parameters: dict[str, str], reason: str
) -> None:
    with pytest.raises(ClientError, match=re.escape(reason)):
        create_further(account, f"launch-{uuid.uuid4().hex[:8]}", **parameters)
