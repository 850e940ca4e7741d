"""What somebody else can send: messages, requests, events of any shape do no harm.

The launcher's requests are in test_launch_openapi.py.
"""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from aws_durable_execution_sdk_python.exceptions import DurableExecutionsError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.ended_execution import EndedExecutions
from ecs_ops.aws.event_table import key_of
from ecs_ops.aws.recycle_rescue import rescue as rescue_recycle
from ecs_ops.aws.service_recycle import CONTINUATION, recycle
from ecs_ops.aws.task_rescue import rescue as rescue_task
from ecs_ops.aws.task_run import Outside, respond
from ecs_ops.custom_resource import KNOWN, CustomResourceRequest
from ecs_ops.errors import EcsOpsError, InvalidRequest
from ecs_ops.event_record import read_event, record_of
from ecs_ops.recycle import _ALLOWED, RecycleRequest
from functions.log_events.handler import _wiring, handler
from tests.ecs_simulator import EcsSimulator
from tests.fake_ecs_tasks import FakeTasks
from tests.inline_context import InlineContext
from tests.integration.test_log_events import TABLE, batch, failures, records, table_of_the_template
from tests.integration.test_run_task import Clock, Logs, Stacks, Unheard
from tests.recycle_run import RecycleRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_durable_execution_sdk_python import DurableContext

# Halves of surrogate pairs too: JSON can carry them, and UTF-8 cannot.
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


# ---------------------------------------------------------------- log_events

DETAIL = st.fixed_dictionaries(
    {},
    optional={
        "lastStatus": st.just("STOPPED") | VALUES,
        "stopCode": st.sampled_from(["EssentialContainerExited", "TaskFailedToStart"]) | VALUES,
        "stoppedReason": VALUES,
        "clusterArn": VALUES,
        "taskArn": VALUES,
        "taskDefinitionArn": VALUES,
        "version": VALUES | st.integers(min_value=10**40),
        "group": VALUES | TEXTS.map("service:".__add__),
        "startedBy": TEXTS.map("ecs-ops-launch-task/".__add__) | VALUES,
        "createdAt": VALUES | st.just("2030-01-31T12:00:00Z"),
        "containers": VALUES
        | st.lists(
            st.dictionaries(st.sampled_from(["name", "exitCode", "reason"]), VALUES), max_size=3
        ),
        "overrides": VALUES,
        "environment": VALUES,
    },
)
ENVELOPES = st.fixed_dictionaries(
    {
        "id": st.just("one") | VALUES,
        "time": st.just("2030-01-31T12:00:00Z") | st.datetimes().map(str) | VALUES,
        "detail-type": st.just("ECS Task State Change") | VALUES,
        "detail": DETAIL | DETAIL | VALUES,
    },
    optional={"resources": st.lists(VALUES, max_size=2) | VALUES, "source": VALUES},
)
BODIES = ENVELOPES.map(json.dumps) | ENVELOPES.map(json.dumps) | VALUES.map(json.dumps) | TEXTS
UNTELLABLE = json.loads(batch("task_stopped_failed")["Records"][0]["body"])
UNTELLABLE["detail"]["containers"] = [{"name": "app", "exitCode": 1, "reason": "\ud800"}]


class LambdaContext:
    """What the handler uses of Lambda's context."""

    aws_request_id = "one"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture(scope="module")
def table() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        for name in ("EVENT_CLUSTER_ARNS", "OPENSEARCH_ENDPOINT", "SEARCH_QUEUE_ARN"):
            patch.setenv(name, "")
        patch.setenv("EVENT_TABLE_NAME", TABLE)
        patch.setenv("EVENT_RETENTION_DAYS", "3650")
        patch.setenv("EVENT_MASK_ENVIRONMENT", "true")
        patch.setenv("ALERT_TOPIC_ARN", boto3.client("sns").create_topic(Name="a")["TopicArn"])
        _wiring.cache_clear()
        client.cache_clear()
        yield boto3.resource("dynamodb").create_table(TableName=TABLE, **table_of_the_template())
    _wiring.cache_clear()
    client.cache_clear()


@settings(max_examples=150, deadline=None, derandomize=True)
@example(bodies=[json.dumps(UNTELLABLE)])
@given(bodies=st.lists(BODIES, min_size=1, max_size=4))
def test_message_is_recorded_or_returned_and_the_rest_is_recorded_when_it_is_odd(
    table: Any, bodies: list[str]
) -> None:
    (good,) = batch("task_running")["Records"]
    messages = [
        {**good, "messageId": str(number), "body": body} for number, body in enumerate(bodies)
    ]

    failed = failures(handler({"Records": [*messages, good]}, LambdaContext()))

    assert good["messageId"] not in failed
    kept = {(item["resourceArn"], item["eventKey"]) for item in records(table)}
    for message in (*messages, good):
        if message["messageId"] not in failed:
            record = record_of(read_event(message["body"]), retention_days=1, now=0)
            assert key_of(record) in kept


# ---------------------------------------------------------------- run_task

ENVELOPE = {
    "RequestType": "Create",
    "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/shop/one",
    "RequestId": "one",
    "LogicalResourceId": "Migration",
    "PhysicalResourceId": "ECSRunTask-shop-Migration-0123456789ab",
    "ResponseURL": "https://answers.example.com/secret",
}
PROPERTIES = st.dictionaries(st.sampled_from(sorted(KNOWN)), VALUES, max_size=6) | st.dictionaries(
    TEXTS, VALUES, max_size=2
)


def _respond(event: Any) -> tuple[Any, list[Any], FakeTasks]:
    tasks, answers = FakeTasks(), Unheard()
    tasks.life = [tasks.task("STOPPED", exit_code=0)]
    # One that cleans up after an update waits for Deletes.
    is_delete = isinstance(event, dict) and event.get("RequestType") == "Delete"
    stacks = Stacks("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" if is_delete else "UPDATE_IN_PROGRESS")
    outside = Outside(tasks=tasks, stacks=stacks, logs=Logs(), answers=answers, clock=Clock())
    answer = respond(event, cast("DurableContext", InlineContext()), outside)
    return answer, answers.answers, tasks


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["Create", "Update", "Delete"]),
    properties=PROPERTIES,
    definition=st.booleans(),
)
def test_stack_is_answered_once_when_properties_are_odd(
    kind: str, properties: dict[str, Any], *, definition: bool
) -> None:
    if definition:
        properties = {**properties, "TaskDefinition": "shop-migrate"}
    # As CloudFormation and Lambda bring it.
    event = json.loads(
        json.dumps({**ENVELOPE, "RequestType": kind, "ResourceProperties": properties})
    )

    answer, answers, tasks = _respond(event)

    assert answers == [answer]
    assert json.dumps(answer).isascii()
    assert "unexpected" not in answer["Reason"]
    assert ENVELOPE["ResponseURL"] not in answer["Reason"]
    if answer["Status"] == "FAILED":
        assert answer["Reason"]
        assert tasks.started == 0


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*ENVELOPE, "ResourceProperties", "Test"]), VALUES) | VALUES)
def test_request_is_refused_or_answered_when_it_is_odd(change: Any) -> None:
    event = {**ENVELOPE, "ResourceProperties": {}, **change} if isinstance(change, dict) else change

    try:
        request = CustomResourceRequest.parse(event)
    except InvalidRequest:
        with pytest.raises(InvalidRequest):
            _respond(event)
        return
    answer, answers, _ = _respond(event)

    assert answers == ([] if request.is_test else [answer])


# ---------------------------------------------------------------- recycle_service

WISHES = st.fixed_dictionaries(
    {"cluster_name": st.just("shop") | VALUES, "service_name": st.just("web") | VALUES},
    optional=dict.fromkeys(["unknown", *_ALLOWED[2:]], VALUES),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(WISHES | VALUES)
def test_recycle_is_refused_or_done_and_never_half_done_when_it_is_odd(event: Any) -> None:
    service = EcsSimulator(desired_count=2)
    try:
        request = RecycleRequest.parse(event)
    except InvalidRequest:
        return
    run = RecycleRun(service, request)

    run.go()

    service.pass_time(300)
    assert (service.desired_count, service.in_service) == (2, 2)


HANDED_OVER = st.fixed_dictionaries(
    {},
    optional={
        "run": VALUES,
        "number": VALUES,
        "service_arn": VALUES,
        "plan": VALUES | st.fixed_dictionaries({"tasks": st.lists(TEXTS, max_size=2)}),
        "done": VALUES
        | st.fixed_dictionaries({"recycled": st.just([]), "skipped": VALUES, "failed": VALUES}),
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(HANDED_OVER | VALUES.filter(lambda value: value is not None))
def test_nothing_is_changed_when_somebody_makes_up_what_executions_hand_over(given: Any) -> None:
    service = EcsSimulator(desired_count=2)
    run = RecycleRun(service, RecycleRequest("shop", "web"))
    context = cast("DurableContext", InlineContext())

    # The execution may fail as it likes: nobody waits for it.
    with suppress(Exception):
        recycle(run.request, context, run.outside, given)

    assert service.calls["UpdateService"] == 0
    assert service.calls["StopTask"] == 0


# ---------------------------------------------------------------- executions that ended

CHANGES = st.fixed_dictionaries(
    {"source": st.just("aws.lambda"), "detail-type": st.just("Durable Execution Status Change")},
    optional={
        "detail": VALUES
        | st.fixed_dictionaries(
            {},
            optional={
                "durableExecutionArn": st.just("arn:one") | VALUES,
                "status": st.sampled_from(["FAILED", "STOPPED", "TIMED_OUT"]) | VALUES,
                "startTimestamp": st.just("2030-01-31T12:00:00Z") | VALUES,
            },
        )
    },
)
INPUTS = VALUES | st.fixed_dictionaries(
    {"cluster_name": st.just("shop"), "service_name": st.just("web")},
    optional={CONTINUATION: VALUES | st.fixed_dictionaries({"run": VALUES})},
)
REQUESTS = INPUTS | PROPERTIES.map(lambda given: {**ENVELOPE, "ResourceProperties": given})


def _ended(payload: Any) -> EndedExecutions:
    """Return executions of which each was stopped, and had been given this."""
    answer = {"Status": "STOPPED", "InputPayload": json.dumps(payload)}
    return EndedExecutions(
        cast("Any", SimpleNamespace(get_durable_execution=lambda **_: dict(answer)))
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(change=CHANGES, payload=REQUESTS)
def test_stack_is_answered_at_most_once_when_a_status_change_is_odd(
    change: Any, payload: Any
) -> None:
    answers = Unheard()
    outside = Outside(
        tasks=FakeTasks(), stacks=Stacks(), logs=Logs(), answers=answers, clock=Clock()
    )
    context = cast("DurableContext", InlineContext())

    try:
        answer = rescue_task(change, context, outside, lambda: _ended(payload).read(change))
    except EcsOpsError:
        assert answers.answers == []
        return
    assert answers.answers == ([answer] if answer else [])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(change=CHANGES, payload=INPUTS)
def test_nothing_is_changed_when_a_status_change_is_odd(change: Any, payload: Any) -> None:
    service = EcsSimulator(desired_count=2)
    run = RecycleRun(service, RecycleRequest("shop", "web"))
    told: list[Any] = []

    with suppress(EcsOpsError, DurableExecutionsError):
        rescue_recycle(
            cast("DurableContext", InlineContext()),
            lambda: _ended(payload).read(change),
            lambda _request: run.outside,
            lambda found, _problem: told.append(found),
            service.clock,
        )

    assert service.calls["UpdateService"] == 0
    assert service.calls["StopTask"] == 0
