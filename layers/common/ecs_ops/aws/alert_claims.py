"""Who tells a person about a task: one worker, once.

A claim is an item of the event table, away from the events: `resourceArn` is `alert#<task ARN>`,
`eventKey` is `alert`, and it is in no index. It goes when the task's record goes (`ttl`).

    nobody ──claim──▶ leased ──mark_sent──▶ sent
                       │  ╰──release──▶ nobody
                       ╰─ 120 s ─▶ may be claimed again

A worker can die between claim and message, and then the message must still be sent. So a claim is
a lease. It is longer than a worker lives, so that two never hold one; and it has ended when the
queue hands the event out again, so that the second try finds it free.
"""

from __future__ import annotations

import random
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        WriteRequestOutputTypeDef,
        WriteRequestTypeDef,
    )

LEASE: Final = 120
"""Seconds. Longer than the function's timeout (60), shorter than the queue's visibility (360)."""

_BATCH_LIMIT: Final = 25
"""Requests in one BatchWriteItem: the API's own limit."""
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0


class Claim(Enum):
    """Whose it is to tell about a task."""

    OURS = auto()
    SENT = auto()
    """Nobody's any more: the message was sent."""
    TAKEN = auto()
    """Another worker's, which may still fail to send it."""


class AlertClaims:
    """Claims in the event table. Needs dynamodb:PutItem and dynamodb:BatchWriteItem on it."""

    def __init__(
        self,
        client: DynamoDBClient,
        table_name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._sleep = sleep

    def claim(self, task_arn: str, *, holder: str, ttl: int, now: float) -> Claim:
        """Claim a task, or learn why not.

        Args:
            task_arn: the task.
            holder: names this worker, and no other.
            ttl: epoch seconds after which the claim may be forgotten.
            now: epoch seconds.

        Raises:
            EcsOpsError: the claim may have been made or not; if it was, it ends with its lease.
        """
        refused = self._client.exceptions.ConditionalCheckFailedException
        with aws_errors("PutItem"):
            try:
                self._client.put_item(
                    TableName=self._table_name,
                    Item={
                        **_key(task_arn),
                        "ttl": {"N": str(ttl)},
                        "holder": {"S": holder},
                        "leaseUntil": {"N": str(int(now) + LEASE)},
                    },
                    # What is marked as sent has no lease that could end.
                    ConditionExpression="attribute_not_exists(resourceArn) OR leaseUntil < :now",
                    ExpressionAttributeValues={":now": {"N": str(int(now))}},
                    # What stood in the way, for no read unit and no permission to read.
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except refused as error:
                answer: Mapping[str, Any] = error.response
                present = answer.get("Item", {})
                if "sentAt" in present:
                    return Claim.SENT
                # An answer was lost, and botocore asked again: it was our own claim that refused.
                ours = present.get("holder", {}).get("S") == holder
                return Claim.OURS if ours else Claim.TAKEN
        return Claim.OURS

    def mark_sent(
        self, ttls: Mapping[str, int], *, now: float, time_left: Callable[[], float]
    ) -> None:
        """Settle claims of ours for good, whatever becomes of their lease.

        Args:
            ttls: task ARN to the `ttl` of its claim.
            now: epoch seconds.
            time_left: seconds that may still be spent; no call begins without any.

        Raises:
            EcsOpsError: some are not marked. Nothing is lost, but another event of their task,
                after the lease, would be told to a person again.
        """
        self._write(
            (
                {
                    "PutRequest": {
                        "Item": {
                            **_key(task_arn),
                            "ttl": {"N": str(ttl)},
                            "sentAt": {"N": str(int(now))},
                        }
                    }
                }
                for task_arn, ttl in ttls.items()
            ),
            time_left,
        )

    def release(self, task_arns: Iterable[str], *, time_left: Callable[[], float]) -> None:
        """Give up claims of ours.

        Raises:
            EcsOpsError: some are not given up. They end with their lease.
        """
        self._write(
            ({"DeleteRequest": {"Key": _key(task_arn)}} for task_arn in task_arns), time_left
        )

    def _write(
        self, requests: Iterable[WriteRequestTypeDef], time_left: Callable[[], float]
    ) -> None:
        pending: list[WriteRequestTypeDef | WriteRequestOutputTypeDef] = list(requests)
        delay = _FIRST_DELAY
        while pending and time_left() > 0:
            batch, pending = pending[:_BATCH_LIMIT], pending[_BATCH_LIMIT:]
            try:
                with aws_errors("BatchWriteItem"):
                    answer = self._client.batch_write_item(RequestItems={self._table_name: batch})
            except Transient:
                left = batch
            else:
                left = [*answer["UnprocessedItems"].get(self._table_name, [])]
            if left:
                pending += left
                # Full jitter: writers that were throttled together must not return together.
                self._sleep(random.uniform(0, min(delay, max(time_left(), 0))))  # noqa: S311
                delay = min(delay * 2, _LONGEST_DELAY)
        if pending:
            raise Transient(f"BatchWriteItem: no time for {len(pending)} claims of alerts")


def _key(task_arn: str) -> dict[str, AttributeValueTypeDef]:
    return {"resourceArn": {"S": f"alert#{task_arn}"}, "eventKey": {"S": "alert"}}
