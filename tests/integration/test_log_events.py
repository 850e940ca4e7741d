"""From a batch of messages to items in a table, with the handler as Lambda calls it."""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.aws.event_log import EventLog
from ecs_ops.aws.event_table import EventTable, key_of
from ecs_ops.aws.task_alerts import TaskAlerts
from ecs_ops.errors import Throttled, Transient
from ecs_ops.event_record import EventRecord, read_event
from functions.log_events.handler import _wiring, handler

ROOT = Path(__file__).parents[2]
TABLE = "ecs-ops-events"
CONTAINERS: list[Any] = [
    {"name": "job", "image": "job", "memory": 64, "essential": True},
    {"name": "helper", "image": "helper", "memory": 64, "essential": False},
]


class Context:
    """What the handler uses of Lambda's context."""

    aws_request_id = "one"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def batch(case: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((ROOT / "events/log_events" / f"{case}.json").read_text())
    return event


def table_of_the_template() -> dict[str, Any]:
    """Return EventTable's properties from template.yaml, as CreateTable wants them."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
    text = (ROOT / "template.yaml").read_text()
    resources = yaml.load(text, Loader)["Resources"]
    properties: dict[str, Any] = resources["EventTable"]["Properties"]
    # CreateTable knows only what makes the table: keys, indexes, billing.
    kept = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {name: properties[name] for name in kept}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("EVENT_TABLE_NAME", TABLE)
    monkeypatch.setenv("EVENT_RETENTION_DAYS", "3650")
    monkeypatch.setenv("EVENT_MASK_ENVIRONMENT", "true")
    monkeypatch.setenv("EVENT_CLUSTER_ARNS", "")
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", "")
    monkeypatch.setenv("SEARCH_QUEUE_ARN", "")
    for cached in (_wiring, client):
        cached.cache_clear()
    with mock_aws():
        topic = boto3.client("sns").create_topic(Name="alerts")["TopicArn"]
        monkeypatch.setenv("ALERT_TOPIC_ARN", topic)
        yield boto3.resource("dynamodb").create_table(TableName=TABLE, **table_of_the_template())


@pytest.fixture
def mailbox(table: Any) -> Callable[[], list[dict[str, Any]]]:  # noqa: ARG001
    """Return a function that takes the alerts out of a subscriber's mailbox."""
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    boto3.client("sns").subscribe(
        TopicArn=os.environ["ALERT_TOPIC_ARN"],
        Protocol="sqs",
        Endpoint=sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])[
            "Attributes"
        ]["QueueArn"],
    )

    def take() -> list[dict[str, Any]]:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        letters = answer.get("Messages", [])
        for letter in letters:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])
        return [json.loads(letter["Body"]) for letter in letters]

    return take


def records(table: Any) -> list[dict[str, Any]]:
    """Return what a reader of the log sees: not the claims of the alerts."""
    return [item for item in table.scan()["Items"] if not item["resourceArn"].startswith("alert#")]


def failed_task(**exits: int) -> dict[str, Any]:
    """Return a message about a task that ended by itself, with these containers."""
    message: dict[str, Any] = batch("task_stopped_failed")["Records"][0]
    event = json.loads(message["body"])
    event["detail"]["containers"] = [
        {"name": name, "exitCode": code} for name, code in exits.items()
    ]
    return message | {"body": json.dumps(event)}


def failures(answer: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def test_every_sample_is_recorded_when_the_batch_holds_them_all(table: Any) -> None:
    cases = [path.stem for path in sorted((ROOT / "events/log_events").glob("*.json"))]
    messages = [
        message | {"messageId": f"{case}-{number}"}
        for case in cases
        for number, message in enumerate(batch(case)["Records"])
    ]

    answer = handler({"Records": messages}, Context())

    assert failures(answer) == ["not_an_event-0", "not_an_event-2"]
    # One event is in two files.
    assert len(records(table)) == len(messages) - 3


def test_stopped_tasks_are_counted_when_their_records_are_kept(
    table: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    message = batch("task_stopped_failed")["Records"][0]

    handler({"Records": [message, message | {"messageId": "again"}]}, Context())

    assert len(records(table)) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    points = {name: line[name] for line in lines if "_aws" in line for name in line}
    assert points["TasksStopped"] == 1
    assert points["TasksFailed"] == 1
    assert (points["Messages"], points["MessagesFailed"]) == (2, 0)
    assert points["Cluster"] == "shop"


def test_item_reads_back_when_a_task_failed(table: Any) -> None:
    message = batch("task_stopped_failed")["Records"][0]

    assert handler({"Records": [message]}, Context()) == {"batchItemFailures": []}

    (item,) = records(table)
    assert item["exitCodes"] == {"app": 3, "log-router": 0}
    assert item["version"] == 6
    sent = json.loads(message["body"])
    kept = json.loads(gzip.decompress(item["event"].value))
    assert kept["detail"]["containers"] == sent["detail"]["containers"]
    assert "not-a-real-secret" not in repr(item) + repr(kept)


def test_nothing_changes_when_a_batch_is_delivered_again(table: Any) -> None:
    twice = {"Records": batch("task_running")["Records"] * 2}

    handler(twice, Context())
    first = table.scan()["Items"]
    handler(twice, Context())

    assert len(first) == 1
    assert table.scan()["Items"] == first


def test_failures_are_found_by_cluster_when_the_index_is_asked(table: Any) -> None:
    for case in ("task_running", "task_stopped_failed", "task_failed_to_start", "service_action"):
        handler(batch(case), Context())

    answer = table.query(
        IndexName="failedClusterArn-eventKey-index",
        KeyConditionExpression="failedClusterArn = :cluster",
        ExpressionAttributeValues={":cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/shop"},
    )

    assert [item["summary"].partition(" ")[0] for item in answer["Items"]] == [
        "migrate:7",
        "web:12",
    ]


def test_one_message_fails_alone_when_its_event_has_no_valid_key(table: Any) -> None:
    message = batch("task_running")["Records"][0]
    event = json.loads(message["body"])
    event["id"] = "x" * 2_000  # a sort key has 1,024 bytes at most
    too_long = message | {"messageId": "too-long", "body": json.dumps(event)}

    answer = handler({"Records": [message, too_long]}, Context())

    assert failures(answer) == ["too-long"]
    assert len(table.scan()["Items"]) == 1


def test_no_body_is_logged_when_a_message_is_no_event(
    table: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"detail": "not-a-real-secret"})
    message = batch("task_running")["Records"][0] | {"body": body}

    handler({"Records": [message]}, Context())

    output = capsys.readouterr()
    assert "not-a-real-secret" not in output.out + output.err
    assert table.scan()["Items"] == []


def test_person_is_told_once_when_a_task_failed_and_its_event_comes_twice(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]]
) -> None:
    messages = batch("task_stopped_failed")

    assert handler(messages, Context()) == {"batchItemFailures": []}
    assert handler(messages, Context()) == {"batchItemFailures": []}

    (alert,) = mailbox()
    assert "migrate:7" in alert["Subject"]
    assert len(records(table)) == 1


def test_nobody_is_told_when_the_failure_is_a_replay(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_RETENTION_DAYS", "1")

    handler(batch("task_stopped_failed"), Context())

    assert mailbox() == []
    assert len(records(table)) == 1


def test_message_comes_back_when_nobody_could_be_told(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = batch("task_stopped_failed")["Records"][0]
    other = batch("task_running")["Records"][0] | {"messageId": "other"}
    topic = os.environ["ALERT_TOPIC_ARN"]
    monkeypatch.setenv("ALERT_TOPIC_ARN", f"{topic}-gone")

    answer = handler({"Records": [message, other]}, Context())

    assert failures(answer) == [message["messageId"]]
    assert len(records(table)) == 2

    monkeypatch.setenv("ALERT_TOPIC_ARN", topic)
    _wiring.cache_clear()
    assert handler({"Records": [message]}, Context()) == {"batchItemFailures": []}
    assert len(mailbox()) == 1


@pytest.mark.parametrize(
    ("exits", "told"),
    [({"job": 0, "helper": 3}, 0), ({"job": 3, "helper": 0}, 1), ({"job": 137, "helper": 0}, 1)],
)
def test_essential_container_decides_when_two_disagree(
    table: Any,
    mailbox: Callable[[], list[dict[str, Any]]],
    exits: dict[str, int],
    told: int,
) -> None:
    for _revision in range(7):
        boto3.client("ecs").register_task_definition(
            family="migrate", containerDefinitions=CONTAINERS
        )

    handler({"Records": [failed_task(**exits)]}, Context())

    assert len(mailbox()) == told
    assert ("outcome" in records(table)[0]) is bool(told)


def test_all_containers_decide_when_ecs_does_not_know_the_definition(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]]
) -> None:
    answer = handler({"Records": [failed_task(job=0, helper=3)]}, Context())

    assert failures(answer) == []
    assert len(mailbox()) == 1
    assert records(table)[0]["outcome"] == "failed"


def test_nobody_is_told_before_ecs_has_said_which_container_decides(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _revision in range(7):
        boto3.client("ecs").register_task_definition(
            family="migrate", containerDefinitions=CONTAINERS
        )
    succeeded = {"Records": [failed_task(job=0, helper=3)]}
    (message,) = succeeded["Records"]
    asked = []

    def throttled(self: EcsTasks, definition: str) -> Any:
        del self
        asked.append(definition)
        raise Throttled("DescribeTaskDefinition failed: ThrottlingException")

    with monkeypatch.context() as patch:
        patch.setattr(EcsTasks, "containers", throttled)
        other = {**message, "messageId": "other"}
        answer = handler({"Records": [message, other]}, Context())

    assert failures(answer) == sorted([message["messageId"], "other"])
    # What ECS has no time for once, it has no time for the next moment.
    assert len(asked) == 1
    assert len(records(table)) == 1
    assert mailbox() == []

    assert failures(handler(succeeded, Context())) == []
    assert "outcome" not in records(table)[0]
    assert mailbox() == []


def test_event_is_recorded_when_ecs_hangs_for_as_long_as_a_call_may(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 50.0

    def hangs(self: EcsTasks, definition: str) -> Any:
        del self, definition
        nonlocal seconds
        seconds -= 39
        raise Transient("DescribeTaskDefinition got no answer: ReadTimeoutError")

    monkeypatch.setattr(EcsTasks, "containers", hangs)
    dynamodb = boto3.client("dynamodb")
    log = EventLog(
        EventTable(dynamodb, TABLE),
        TaskAlerts(dynamodb, TABLE, lambda: boto3.client("sns"), os.environ["ALERT_TOPIC_ARN"]),
        lambda: EcsTasks(boto3.client("ecs")),
        retention_days=3650,
    )
    events = {"disputed": read_event(failed_task(job=0, helper=3)["body"])}

    back = log.keep(events, now=int(time.time()), time_left=lambda: seconds)

    assert back == {"disputed"}
    assert len(records(table)) == 1


def test_people_hear_of_a_failed_task_when_the_table_is_too_busy_for_another(
    table: Any, mailbox: Callable[[], list[dict[str, Any]]]
) -> None:
    seconds = 50.0
    message = failed_task(job=3)
    events = {
        "kept": read_event(message["body"]),
        "hot": read_event(message["body"].replace("8d3b1f6e", "77777777").replace("f9c2", "7777")),
    }

    class BusyTable(EventTable):
        """It takes the first record, and all the time that it is given."""

        def write(self, records: Iterable[EventRecord], *, time_left: Callable[[], float]) -> Any:
            nonlocal seconds
            first, *others = records
            super().write([first], time_left=time_left)
            seconds -= time_left()
            return frozenset(map(key_of, others))

    dynamodb = boto3.client("dynamodb")
    alerts = TaskAlerts(dynamodb, TABLE, lambda: boto3.client("sns"), os.environ["ALERT_TOPIC_ARN"])
    log = EventLog(
        BusyTable(dynamodb, TABLE),
        alerts,
        lambda: EcsTasks(boto3.client("ecs")),
        retention_days=3650,
    )

    back = log.keep(events, now=int(time.time()), time_left=lambda: seconds)

    assert back == {"hot"}
    assert len(records(table)) == 1
    assert len(mailbox()) == 1


def test_own_definition_is_asked_when_that_of_another_account_was_refused(table: Any) -> None:
    own = failed_task(job=0, helper=3)
    body = own["body"].replace("111122223333", "999922223333").replace("/migrate:", "/theirs:")
    theirs = own | {"messageId": "theirs", "body": body}
    for _revision in range(7):
        boto3.client("ecs").register_task_definition(
            family="migrate", containerDefinitions=CONTAINERS
        )

    handler({"Records": [theirs, own]}, Context())

    outcomes = {item["clusterArn"].split(":")[4]: item.get("outcome") for item in records(table)}
    assert outcomes == {"999922223333": "failed", "111122223333": None}


def test_other_clusters_are_left_out_when_the_log_is_narrowed(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [
        message | {"messageId": case}
        for case in ("task_running", "deployment_failed", "container_instance")
        for message in batch(case)["Records"]
    ]
    shop = "arn:aws:ecs:us-west-2:111122223333:cluster/shop"
    monkeypatch.setenv("EVENT_CLUSTER_ARNS", f"{shop}-no,{shop}-neither")

    assert failures(handler({"Records": messages}, Context())) == []
    assert records(table) == []

    monkeypatch.setenv("EVENT_CLUSTER_ARNS", f"{shop}-no,{shop}")
    _wiring.cache_clear()
    handler({"Records": messages}, Context())
    assert len(records(table)) == 3


def test_event_is_stored_without_its_largest_parts_when_it_is_over_400_kb(table: Any) -> None:
    message = batch("task_running")["Records"][0]
    event = json.loads(message["body"])
    event["detail"]["novelty"] = Random(1).randbytes(500_000).hex()

    answer = handler({"Records": [message | {"body": json.dumps(event)}]}, Context())

    assert failures(answer) == []
    (item,) = records(table)
    assert item["omitted"] == ["detail.novelty"]
    assert item["lastStatus"] == "RUNNING"
