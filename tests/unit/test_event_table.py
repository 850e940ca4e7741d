"""The rules of writing that no local DynamoDB shows: throttling, refusals, time running out."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.aws.event_table import EventTable, key_of
from ecs_ops.errors import AwsFailure, NotFound
from ecs_ops.event_record import EventRecord, read_event, record_of


def record(number: int) -> EventRecord:
    event = {
        "id": f"event-{number}",
        "time": "2026-01-01T00:00:00Z",
        "detail-type": "ECS Service Action",
        "resources": ["arn:aws:ecs:us-west-2:111122223333:service/shop/web"],
        "detail": {"version": number},
    }
    return record_of(read_event(json.dumps(event)), retention_days=14, now=0)


def number_of(request: dict[str, Any]) -> int:
    return int(request["PutRequest"]["Item"]["version"]["N"])


class Throttled:
    """DynamoDB that takes at most `capacity` puts of a batch and refuses `invalid` ones."""

    def __init__(
        self,
        *,
        capacity: int = 25,
        invalid: Iterable[int] = (),
        errors: Iterable[Exception] = (),
    ) -> None:
        self.capacity = capacity
        self.invalid = frozenset(invalid)
        self.errors = list(errors)
        self.batches: list[list[int]] = []
        self.taken: set[int] = set()

    def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((name, requests),) = RequestItems.items()
        numbers = [number_of(request) for request in requests]
        self.batches.append(numbers)
        if self.errors:
            raise self.errors.pop(0)
        if len(numbers) > 25 or len(set(numbers)) < len(numbers) or self.invalid & set(numbers):
            raise refusal("ValidationException")
        self.taken.update(numbers[: self.capacity])
        left = requests[self.capacity :]
        return {"UnprocessedItems": {name: left} if left else {}}


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "BatchWriteItem",
    )


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self, left: float) -> None:
        self.left = left
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.left -= seconds

    def time_left(self) -> float:
        return self.left


def write(client: Any, numbers: Iterable[int], clock: Clock | None = None) -> set[int]:
    """Write records of these numbers and return the numbers that were not taken."""
    clock = clock or Clock(60)
    records = [record(number) for number in numbers]
    table = EventTable(client, "events", sleep=clock.sleep)
    unwritten = table.write(records, time_left=clock.time_left)
    return {item["version"] for item in records if key_of(item) in unwritten}


def test_batches_hold_25_items_when_there_are_more() -> None:
    client = Throttled()

    assert write(client, range(60)) == set()
    assert [len(batch) for batch in client.batches] == [25, 25, 10]
    assert client.taken == set(range(60))


def test_nothing_is_sent_when_there_is_no_record() -> None:
    client = Throttled()

    assert write(client, []) == set()
    assert client.batches == []


def test_an_event_is_put_once_when_a_batch_holds_it_twice() -> None:
    client = Throttled()

    assert write(client, [1, 2, 1]) == set()
    assert client.batches == [[1, 2]]


def test_leftovers_share_a_batch_when_the_table_is_busy() -> None:
    client = Throttled(capacity=20)

    assert write(client, range(50)) == set()
    assert [len(batch) for batch in client.batches] == [25, 25, 10]


def test_pauses_grow_no_longer_than_two_seconds_when_the_table_stays_busy() -> None:
    clock = Clock(60)

    assert write(Throttled(capacity=0), [1], clock) == {1}
    assert len(clock.pauses) > 20
    assert max(clock.pauses) <= 2


def test_unwritten_keys_come_back_when_time_runs_out() -> None:
    assert write(Throttled(capacity=1), range(5), Clock(0.0001)) == {1, 2, 3, 4}


def test_no_call_is_made_when_no_time_is_left() -> None:
    client = Throttled()

    assert write(client, range(30), Clock(0)) == set(range(30))
    assert client.batches == []


@pytest.mark.parametrize(
    "error",
    [
        refusal("ProvisionedThroughputExceededException"),
        refusal("ThrottlingException"),
        refusal("InternalServerError", 500),
        EndpointConnectionError(endpoint_url="https://dynamodb"),
    ],
    ids=str,
)
def test_the_batch_is_sent_again_when_the_error_may_pass(error: Exception) -> None:
    client = Throttled(errors=[error])

    assert write(client, range(3)) == set()
    assert client.batches == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("AccessDeniedException", AwsFailure), ("ResourceNotFoundException", NotFound)],
)
def test_the_error_is_raised_when_no_record_is_to_blame(
    code: str, expected: type[Exception]
) -> None:
    client = Throttled(errors=[refusal(code)])

    with pytest.raises(expected):
        write(client, range(3))


@given(st.sets(st.integers(0, 70)), st.sets(st.integers(0, 70), max_size=5), st.integers(1, 25))
def test_only_refused_records_are_left_when_there_is_time(
    numbers: set[int], invalid: set[int], capacity: int
) -> None:
    client = Throttled(capacity=capacity, invalid=invalid)

    assert write(client, numbers) == numbers & invalid
    assert client.taken == numbers - invalid
