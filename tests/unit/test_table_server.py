"""The benchmarks' own DynamoDB: sizes, units and conditions as AWS documents them."""

import json
from typing import Any

import pytest

from tests.benchmarks.log_events import table_properties
from tests.benchmarks.table_server import Faults, Item, Refused, Service, holds, size_of, units_of

TASK = "arn:aws:ecs:eu-central-1:111122223333:task/production/0a16"
WEB = "arn:aws:ecs:eu-central-1:111122223333:task-definition/web:41"
INDEX = "taskDefinitionArn-eventKey-index"
LEASE = "attribute_not_exists(resourceArn) OR (attribute_not_exists(sentAt) AND leaseUntil < :now)"


def record(**more: str) -> Item:
    texts = {"resourceArn": TASK, "eventKey": "2026", "taskDefinitionArn": WEB, **more}
    return {name: {"S": text} for name, text in texts.items()}


def service() -> Service:
    return Service({"events": table_properties()})


def put(service: Service, *items: Item) -> dict[str, Any] | None:
    requests = [{"PutRequest": {"Item": item}} for item in items]
    return service.answer("BatchWriteItem", {"RequestItems": {"events": requests}})


def claim(service: Service, *, lease_until: int, now: int) -> None:
    key = {"resourceArn": {"S": f"alert#{TASK}"}, "eventKey": {"S": "alert"}}
    service.answer(
        "PutItem",
        {
            "TableName": "events",
            "Item": key | {"leaseUntil": {"N": str(lease_until)}},
            "ConditionExpression": LEASE,
            "ExpressionAttributeValues": {":now": {"N": str(now)}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        },
    )


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "grün"}, 5),
        ({"N": "2082586034"}, 6),
        ({"N": "-1200"}, 3),
        ({"N": "0"}, 1),
        ({"B": "QUJDRA=="}, 4),
        ({"BOOL": True}, 1),
        ({"M": {}}, 3),
        ({"M": {"app": {"N": "137"}}}, 3 + 1 + 3 + 3),
        ({"L": [{"S": "ab"}, {"NULL": True}]}, 3 + 1 + 2 + 1 + 1),
    ],
)
def test_size_is_the_documented_one_when_an_attribute_is_of_this_type(
    value: dict[str, Any], size: int
) -> None:
    assert size_of({"name": value}) == 4 + size


@pytest.mark.parametrize(("size", "units"), [(1, 1), (1024, 1), (1025, 2), (2048, 2)])
def test_units_are_rounded_up_when_the_last_kilobyte_is_not_full(size: int, units: int) -> None:
    assert units_of(size) == units


def test_index_keeps_what_the_template_projects_when_the_item_has_its_key() -> None:
    indexes = service().tables["events"].indexes
    item = record(summary="web stopped", event="all of it")

    entry = indexes[INDEX].entry(item)

    assert entry == record(summary="web stopped")
    assert indexes["failedClusterArn-eventKey-index"].entry(item) == {}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a = :one", True),
        ("a <> :one", False),
        ("a < :two AND :two > a", True),
        ("a = :two OR NOT a = :two", True),
        ("a = :one OR a = :one AND a = :two", True),
        ("(a = :one OR a = :one) AND a = :two", False),
        ("a BETWEEN :one AND :two AND attribute_exists(a)", True),
        ("attribute_not_exists(a) OR #b = :text", True),
        ("begins_with(#b, :start)", True),
        ("gone < :two", False),
        ("NOT gone < :two", True),
    ],
)
def test_condition_is_read_as_dynamodb_does_when_it_has_operators(
    condition: str, *, expected: bool
) -> None:
    item: Item = {"a": {"N": "9"}, "b": {"S": "text"}}
    values: Item = {
        ":one": {"N": "9.0"},
        ":two": {"N": "10"},
        ":text": {"S": "text"},
        ":start": {"S": "te"},
    }

    assert holds(condition, item, {"#b": "b"}, values) is expected


def test_claim_is_refused_with_what_is_there_when_its_lease_has_not_ended() -> None:
    table = service()
    claim(table, lease_until=220, now=100)

    with pytest.raises(Refused) as refused:
        claim(table, lease_until=300, now=220)

    assert refused.value.body["Item"]["leaseUntil"] == {"N": "220"}
    claim(table, lease_until=341, now=221)


def test_batch_is_refused_when_it_names_one_key_twice_or_is_too_long() -> None:
    with pytest.raises(Refused, match="duplicates"):
        put(service(), record(), record(summary="again"))
    with pytest.raises(Refused, match="Too many"):
        put(service(), *(record(eventKey=f"{number}") for number in range(26)))


@pytest.mark.parametrize(
    "item", [{"resourceArn": {"S": TASK}}, record(eventKey=""), record(event="x" * 409_600)]
)
def test_item_is_refused_when_its_key_is_missing_or_it_is_too_large(item: Item) -> None:
    with pytest.raises(Refused, match="ValidationException"):
        put(service(), item)


def test_query_finds_the_newest_entry_only_when_an_item_was_replaced() -> None:
    table = service()
    put(table, record(outcome="failed"), record(eventKey="2027", outcome="failed"))
    put(table, record(summary="as it is now"))
    query = {
        "TableName": "events",
        "IndexName": INDEX,
        "KeyConditionExpression": "taskDefinitionArn = :web AND eventKey BETWEEN :from AND :to",
        "ExpressionAttributeValues": {
            ":web": {"S": WEB},
            ":from": {"S": "2026"},
            ":to": {"S": "2027"},
            ":failed": {"S": "failed"},
        },
    }

    every = table.answer("Query", query)
    failed = table.answer("Query", query | {"FilterExpression": "outcome = :failed"})

    assert every is not None
    assert failed is not None
    assert every["Items"][0] == record(summary="as it is now")
    assert [item["eventKey"]["S"] for item in failed["Items"]] == ["2027"]


def test_items_come_back_unwritten_when_the_day_is_bad() -> None:
    table = service()
    table.behave(Faults(unprocessed=1.0))

    answer = put(table, record())

    assert answer == {"UnprocessedItems": {"events": [{"PutRequest": {"Item": record()}}]}}
    assert table.tables["events"].items == {}


def test_nothing_is_written_when_a_call_is_throttled() -> None:
    table = service()
    table.behave(Faults(throttled=1.0))

    with pytest.raises(Refused, match="ProvisionedThroughputExceededException"):
        put(table, record())

    assert table.tables["events"].items == {}


def test_call_has_its_effect_when_it_is_never_answered() -> None:
    table = service()
    table.behave(Faults(silent=frozenset({("BatchWriteItem", 2)})))

    assert put(table, record()) is not None
    assert put(table, record(eventKey="2027")) is None
    items = [json.loads(item) for item in table.tables["events"].items.values()]
    assert [item["eventKey"]["S"] for item in items] == ["2026", "2027"]


def test_mark_is_gone_when_it_is_deleted() -> None:
    table = service()
    put(table, record())
    key = {name: record()[name] for name in ("resourceArn", "eventKey")}

    table.answer("BatchWriteItem", {"RequestItems": {"events": [{"DeleteRequest": {"Key": key}}]}})

    assert table.tables["events"].items == {}
    assert not table.tables["events"].indexes[INDEX].entries[WEB]
