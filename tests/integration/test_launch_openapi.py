"""openapi.json is true to the code, and no request, however odd, does harm."""

from __future__ import annotations

import base64
import io
import json
import re
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import schemathesis
from aws_lambda_powertools.logging import Logger
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ecs_ops.launch_access import TokenAccess
from ecs_ops.launch_profile import Profile, read_rules
from ecs_ops.launcher import Launcher, NoLog
from functions.launch_task import handler as launch_task
from tests.fake_ecs_tasks import FakeTasks
from tests.function_url import FunctionUrl

if TYPE_CHECKING:
    from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
    from schemathesis import Case

EXAMPLES = 60
"""Of each operation."""
ODD_REQUESTS = 2000


class Context:
    """What the function uses of Lambda's context."""

    aws_request_id = "ref-1"
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:ecs-ops-launch-task"


TOKEN = "a-token-of-thirty-two-characters"


class Secret:
    """One token."""

    def read(self, *, at_most_seconds_old: float) -> str:
        del at_most_seconds_old
        return json.dumps({"ci": TOKEN})


CONTEXT = cast("Any", Context())
OPENAPI = Path(launch_task.__file__).with_name("openapi.json")
TASKS = FakeTasks(family="nightly")


def _app() -> LambdaFunctionUrlResolver:
    profile = Profile(
        name="default",
        cluster="shop",
        task_definition="nightly",
        subnets=("subnet-1",),
        environment=read_rules(["JOB_*", "MODE=dev|prod"]),
        command=True,
        max_cpu=1024,
        max_memory=2048,
        tags=("Team",),
    )
    launcher = Launcher(
        name="ecs-ops-launch-task",
        function_arn=Context.invoked_function_arn,
        default=profile,
        profiles_text=None,
        tasks=TASKS,
        log=NoLog,
        output=lambda: cast("Any", None),
    )
    logger = Logger(service="openapi", stream=io.StringIO())
    return launch_task.routes(launcher, TokenAccess(Secret()), "TOKEN", logger)


APP = _app()
schema = schemathesis.openapi.from_wsgi(
    "/openapi.json",
    FunctionUrl(lambda event: APP.resolve(event, CONTEXT)),
    config=SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                generation=GenerationConfig(max_examples=EXAMPLES, deterministic=True),
            )
        )
    ),
)


@schema.parametrize()
def test_answer_is_as_documented_whatever_is_asked(case: Case[Any]) -> None:
    before = TASKS.started

    response = case.call_and_validate(
        headers={"Authorization": f"Bearer {TOKEN}"},
        # What a profile allows is not in the schema.
        excluded_checks=[positive_data_acceptance],
    )

    assert response.status_code == HTTPStatus.ACCEPTED or TASKS.started == before


def test_documented_is_what_is_routed_and_nothing_else() -> None:
    documented = {
        (method.upper(), path)
        for path, operations in json.loads(OPENAPI.read_text())["paths"].items()
        for method in operations.keys() & {"delete", "get", "post"}
    }
    named = {"<run_id>": "{id}", "<profile>": "{profile}"}
    routed = {
        (route.method, re.sub("<.*?>", lambda found: named[found[0]], route.path))
        for route in (*APP._static_routes, *APP._dynamic_routes)
    }

    assert routed == documented


# ---------------------------------------------------------------- anything at all

NAMES = st.sampled_from(["JOB_A", "MODE", "PATH", "LD_PRELOAD", "", "=", "profile", "cpu"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("dev"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)
MEMBERS = st.sampled_from(["profile", "environment", "command", "cpu", "memory", "tags", "Cpu"])
ORDERS = st.dictionaries(MEMBERS, VALUES | st.dictionaries(NAMES, VALUES, max_size=3), max_size=4)
BODIES = (
    st.dictionaries(NAMES, VALUES, max_size=3).map(json.dumps).map(str.encode)
    | ORDERS.map(json.dumps).map(str.encode)
    | VALUES.map(json.dumps).map(str.encode)
    | st.binary(max_size=60)
)
HEADERS = st.dictionaries(
    st.sampled_from(["idempotency-key", "content-type", "x-timestamp", "x-signature", "accept"]),
    st.text(max_size=300),
    max_size=3,
)


@settings(max_examples=ODD_REQUESTS, derandomize=True)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "DELETE", "PUT", "HEAD", "x"]),
    path=st.sampled_from(["/", "/runs", "/runs/x", "/runs/x/logs", "/hooks/default"]) | st.text(),
    query=st.text(max_size=20) | st.sampled_from(["limit=1", "status=X", "after=%00", "a&a=1"]),
    headers=HEADERS,
    body=BODIES,
    known=st.booleans(),
)
def test_nothing_breaks_and_nothing_starts_when_a_request_is_odd(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, *, known: bool
) -> None:
    authorization = f"Bearer {TOKEN}" if known else "Bearer a-token-of-somebody-elses-making"
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {**headers, "authorization": authorization},
        "requestContext": {
            "http": {"method": method, "path": path},
            "requestId": uuid.uuid4().hex,
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    before = TASKS.started

    answer = APP.resolve(event, CONTEXT)

    assert answer["statusCode"] < HTTPStatus.INTERNAL_SERVER_ERROR
    if not known:
        assert answer["statusCode"] != HTTPStatus.ACCEPTED
    if answer["statusCode"] != HTTPStatus.ACCEPTED:
        assert TASKS.started == before
    if answer["statusCode"] >= HTTPStatus.BAD_REQUEST:
        assert answer["headers"]["Content-Type"] == "application/problem+json"
        assert json.loads(answer["body"])["status"] == answer["statusCode"]
