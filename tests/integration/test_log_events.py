"""From a batch of messages to items in a table, with the handler as Lambda calls it."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from functions.log_events.handler import handler

ROOT = Path(__file__).parents[2]
TABLE = "ecs-ops-events"


class Context:
    """What the handler uses of Lambda's context."""

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
    with mock_aws():
        yield boto3.resource("dynamodb").create_table(TableName=TABLE, **table_of_the_template())


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
    assert len(table.scan()["Items"]) == len(messages) - 3


def test_item_reads_back_when_a_task_failed(table: Any) -> None:
    message = batch("task_stopped_failed")["Records"][0]

    assert handler({"Records": [message]}, Context()) == {"batchItemFailures": []}

    (item,) = table.scan()["Items"]
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

    assert [item["summary"].partition(":")[0] for item in answer["Items"]] == [
        "Task migrate",
        "Task web",
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
