"""Queries and scans against a table made as the template makes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from boto3.dynamodb.types import TypeSerializer
from botocore.stub import Stubber
from moto import mock_aws

from ecs_ops.aws.clients import client
from ecs_ops.aws.event_reader import EventReader, ecs_arn_prefix, table_of_stack
from ecs_ops.errors import AwsFailure, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ecs_ops.event_view import Record

TABLE = "ecs-ops-events"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR_AGO = NOW - timedelta(hours=1)
ARN = "arn:aws:ecs:us-west-2:123456789012"
CLUSTER = f"{ARN}:cluster/shop"
DEFINITION = f"{ARN}:task-definition/web:41"
SERIALIZER = TypeSerializer()
TEMPLATE = Path(__file__).parents[2] / "template.yaml"


def create_table(dynamodb: Any) -> None:
    """Make the table with the keys and the indexes that template.yaml gives it."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
    resources = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]
    kept = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    properties = resources["EventTable"]["Properties"]
    dynamodb.create_table(TableName=TABLE, **{name: properties[name] for name in kept})


def item(
    task: str, status: str = "RUNNING", *, at: datetime = NOW, version: int = 1, **more: Any
) -> dict[str, Any]:
    """Return a record of the task with this id."""
    key = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "resourceArn": f"{ARN}:task/shop/{task}",
        "eventKey": f"{key}#{version:010d}#id",
        "ttl": int(NOW.timestamp()) + 14 * 86_400,
        "summary": f"web:41 task {task} is {status}",
        "taskDefinitionArn": DEFINITION,
        "clusterArn": CLUSTER,
        "serviceName": "web",
        "lastStatus": status,
        "version": version,
        "event": b"packed",
        **more,
    }


def failure(task: str, **more: Any) -> dict[str, Any]:
    """Return the record of a task's failure."""
    keys: dict[str, Any] = {
        "outcome": "failed",
        "failedClusterArn": CLUSTER,
        "exitCodes": {"app": 137},
    }
    return item(task, "STOPPED", version=9, **keys, **more)


def put(dynamodb: Any, *items: dict[str, Any]) -> None:
    for one in items:
        serialized = {name: SERIALIZER.serialize(value) for name, value in one.items()}
        dynamodb.put_item(TableName=TABLE, Item=serialized)


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client.cache_clear()
    with mock_aws():
        dynamodb = client("dynamodb")
        create_table(dynamodb)
        yield dynamodb
    client.cache_clear()


def reader(dynamodb: Any, *, whole: bool = False, table: str = TABLE) -> EventReader:
    return EventReader(dynamodb, table, now=NOW, whole=whole)


def summaries(records: list[Record]) -> list[str]:
    return [record["summary"] for record in records]


def test_task_is_read_in_order_when_asked_by_its_arn(dynamodb: Any) -> None:
    put(dynamodb, failure("a"), item("a", version=2), item("b"))

    found = reader(dynamodb).of_task(f"{ARN}:task/shop/a", HOUR_AGO)

    assert summaries(found) == ["web:41 task a is RUNNING", "web:41 task a is STOPPED"]
    assert found[1]["exitCodes"] == {"app": 137}
    assert "event" not in found[1]


def test_values_are_plain_when_the_whole_record_is_read(dynamodb: Any) -> None:
    put(dynamodb, failure("a", omitted=["detail.containers"]))

    (found,) = reader(dynamodb, whole=True).of_task(f"{ARN}:task/shop/a", HOUR_AGO)

    assert found == failure("a", omitted=["detail.containers"])
    assert type(found["event"]) is bytes
    assert type(found["version"]) is int


def test_rows_can_be_shown_when_they_come_from_an_index(dynamodb: Any) -> None:
    put(dynamodb, failure("a"), item("b"))

    by_definition = reader(dynamodb, whole=True).of_task_definition(DEFINITION, HOUR_AGO)
    failed = reader(dynamodb).failures_in(CLUSTER, HOUR_AGO)

    assert summaries(by_definition) == ["web:41 task b is RUNNING", "web:41 task a is STOPPED"]
    assert summaries(failed) == ["web:41 task a is STOPPED"]
    for record in (*by_definition, *failed):
        assert record.keys() >= {"resourceArn", "eventKey", "ttl", "clusterArn", "lastStatus"}
        assert record["serviceName"] == "web"


def test_every_item_is_read_once_when_the_table_is_scanned_in_parallel(dynamodb: Any) -> None:
    put(dynamodb, *(item(f"t{number}") for number in range(50)))

    found = reader(dynamodb).all(HOUR_AGO)

    assert len({record["resourceArn"] for record in found}) == len(found) == 50


def test_every_page_is_read_when_there_are_many(dynamodb: Any) -> None:
    # A page has 1 MB.
    put(dynamodb, *(item("a", version=number, summary="x" * 90_000) for number in range(30)))

    assert len(reader(dynamodb).of_task(f"{ARN}:task/shop/a", HOUR_AGO)) == 30
    assert len(reader(dynamodb).all(HOUR_AGO)) == 30


def test_nothing_expired_or_older_is_returned_when_read_in_any_way(dynamodb: Any) -> None:
    old = HOUR_AGO - timedelta(seconds=1)
    put(dynamodb, failure("a", at=old), failure("b", at=HOUR_AGO))
    put(dynamodb, failure("c", ttl=int(NOW.timestamp())), failure("d", at=NOW))
    read = reader(dynamodb)

    for found in (
        read.of_tasks([f"{ARN}:task/shop/{task}" for task in "abcd"], HOUR_AGO),
        read.of_task_definition(DEFINITION, HOUR_AGO),
        read.failures_in(CLUSTER, HOUR_AGO),
        read.all(HOUR_AGO),
    ):
        assert {record["resourceArn"][-1] for record in found} == {"b", "d"}


def test_table_is_named_when_it_does_not_exist(dynamodb: Any) -> None:
    read = reader(dynamodb, table="gone")
    ways: tuple[Callable[[], object], ...] = (
        lambda: read.of_task("arn", HOUR_AGO),
        lambda: read.failures_in("arn", HOUR_AGO),
        lambda: read.all(HOUR_AGO),
    )

    for way in ways:
        with pytest.raises(NotFound, match="table gone does not exist"):
            way()


def test_nothing_is_written_when_the_log_is_read(dynamodb: Any) -> None:
    put(dynamodb, failure("a"))
    called: list[str] = []

    def spy(*, model: Any, **_: Any) -> None:
        called.append(model.name)

    dynamodb.meta.events.register("before-call.*.*", spy)

    read = reader(dynamodb)
    read.of_tasks([f"{ARN}:task/shop/a"], HOUR_AGO)
    read.of_task_definition(DEFINITION, HOUR_AGO)
    read.failures_in(CLUSTER, HOUR_AGO)
    read.all(HOUR_AGO)

    assert set(called) == {"Query", "Scan"}


# ---------------------------------------------------------------- stack and identity
def stack_answers(outputs: dict[str, str] | None) -> Stubber:
    """Let CloudFormation know one stack with these outputs, or none; moto's needs more packages."""
    stub = Stubber(client("cloudformation"))
    if outputs is None:
        stub.add_client_error(
            "describe_stacks", "ValidationError", "Stack with id gone does not exist", 400
        )
    else:
        stack = {
            "StackName": "ecs-ops",
            "CreationTime": NOW,
            "StackStatus": "CREATE_COMPLETE",
            "Outputs": [
                {"OutputKey": name, "OutputValue": value} for name, value in outputs.items()
            ],
        }
        stub.add_response("describe_stacks", {"Stacks": [stack]})
    return stub


@pytest.mark.usefixtures("dynamodb")
def test_table_is_found_when_the_stack_has_one() -> None:
    with stack_answers({"EventQueueUrl": "x", "EventTableName": TABLE}):
        assert table_of_stack(client("cloudformation"), "ecs-ops") == TABLE


@pytest.mark.usefixtures("dynamodb")
def test_stack_is_named_when_it_has_no_table() -> None:
    with (
        stack_answers({"Other": "x"}),
        pytest.raises(NotFound, match="stack without has no output EventTableName"),
    ):
        table_of_stack(client("cloudformation"), "without")


@pytest.mark.usefixtures("dynamodb")
def test_stack_is_named_when_it_does_not_exist() -> None:
    with stack_answers(None), pytest.raises(AwsFailure, match="gone does not exist"):
        table_of_stack(client("cloudformation"), "gone")


@pytest.mark.usefixtures("dynamodb")
def test_prefix_of_arns_is_that_of_the_caller() -> None:
    assert ecs_arn_prefix(client("sts")) == ARN
