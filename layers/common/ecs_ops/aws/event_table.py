"""Writes records into the event table."""

from __future__ import annotations

import random
import time
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import AwsFailure, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import WriteRequestOutputTypeDef, WriteRequestTypeDef

    from ecs_ops.event_record import EventRecord

type Key = tuple[str, str]
"""`resourceArn` and `eventKey` of a record."""

type _Puts = dict[Key, WriteRequestTypeDef]

_BATCH_LIMIT: Final = 25
"""Puts in one BatchWriteItem: the API's own limit."""
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0


def key_of(record: EventRecord) -> Key:
    """Return the key under which the table keeps this record."""
    return record["resourceArn"], record["eventKey"]


class EventTable:
    """The event table, by its name, in the account of the client.

    Items are put together by hand and sent through the low-level client: boto3's serializer and
    resource cost some fifteen times the CPU for records of this shape.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._sleep = sleep

    def write(
        self, records: Iterable[EventRecord], *, time_left: Callable[[], float]
    ) -> frozenset[Key]:
        """Put all records and return the keys of those the table did not take.

        BatchWriteItem refuses two puts of one key, so of equal keys the last record is written.
        What the table is too busy for is tried again, with growing pauses, while there is time.

        Args:
            records: any number.
            time_left: seconds that may still be spent; no call begins without any.

        Raises:
            NotFound: the table is not there.
            AwsFailure: AWS refused, and not because of one record (no permission, for example).
        """
        pending = {key_of(record): _put(record) for record in records}
        refused: set[Key] = set()
        delay = _FIRST_DELAY
        while pending and time_left() > 0:
            pending = self._round(pending, refused, time_left)
            # Full jitter: writers that were throttled together must not return together.
            pause = random.uniform(0, delay)  # noqa: S311 - not a secret
            if not pending or time_left() <= pause:
                break
            self._sleep(pause)
            delay = min(delay * 2, _LONGEST_DELAY)
        return frozenset(pending) | refused

    def _round(self, pending: _Puts, refused: set[Key], time_left: Callable[[], float]) -> _Puts:
        """Try every record once; add to `refused`, return what is worth another try."""
        left: _Puts = {}
        for batch in batched(pending.items(), _BATCH_LIMIT, strict=False):
            left |= self._put_batch(dict(batch), refused) if time_left() > 0 else dict(batch)
        return left

    def _put_batch(self, batch: _Puts, refused: set[Key]) -> _Puts:
        """Send one batch; add to `refused`, return what is worth another try.

        One invalid item makes BatchWriteItem refuse all 25, so a refused batch is halved until
        the culprit stands alone.
        """
        try:
            with aws_errors("BatchWriteItem"):
                answer = self._client.batch_write_item(
                    RequestItems={self._name: list(batch.values())}
                )
        except Transient:
            return batch
        except AwsFailure as error:
            if error.code != "ValidationException":
                raise
            if len(batch) == 1:
                refused.update(batch)
                return {}
            halves = batched(batch.items(), (len(batch) + 1) // 2, strict=False)
            return {
                key: request
                for half in halves
                for key, request in self._put_batch(dict(half), refused).items()
            }
        return {
            key: batch[key]
            for requests in answer["UnprocessedItems"].values()
            for key in map(_key, requests)
        }


def _put(record: EventRecord) -> WriteRequestTypeDef:
    return {"PutRequest": {"Item": {name: _attribute(value) for name, value in record.items()}}}


def _key(request: WriteRequestOutputTypeDef) -> Key:
    item = request["PutRequest"]["Item"]
    return item["resourceArn"]["S"], item["eventKey"]["S"]


def _attribute(value: object) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case list():
            return {"L": [_attribute(item) for item in value]}
        case dict():
            return {"M": {name: _attribute(item) for name, item in value.items()}}
        case _:  # pragma: no cover - EventRecord has no other type
            raise TypeError(f"no attribute of type {type(value).__name__}")
