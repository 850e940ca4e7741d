"""Tasks that launch_task started, as the event log remembers them."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.aws.event_reader import plain_record
from ecs_ops.event_view import newest, task_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import QueryInputTypeDef

    from ecs_ops.event_view import Record
    from ecs_ops.verdict import TaskState

_INDEX: Final = "launcher-launchKey-index"
# A task changes some ten times. What does not fit is read from the next page.
_RECORDS_OF_A_RUN: Final = 16
_PAGES: Final = 20
"""Of one query, at most: each is a call."""
ATTRIBUTES: Final = (
    *("resourceArn", "eventKey", "version", "clusterArn", "taskDefinitionArn", "startedBy"),
    *("lastStatus", "stopCode", "stoppedReason", "exitCodes"),
    *("createdAt", "startedAt", "stoppedAt"),
)
"""What a state is made of. The index has them all."""


class LaunchedLog:
    """Needs dynamodb:Query on the event table and on its index.

    Records that have expired, which the table drops within days, count as gone.

    Raises, in every method, what `aws_errors` raises.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def last_of(self, task_arn: str, now: datetime) -> TaskState | None:
        """Return the last state of a task, whoever started it; None when there is no record.

        At most 20 pages of 1 MB are read, newest first: thousands of changes.
        """
        query = self._query("resourceArn = :arn", {":arn": task_arn}, now)
        query["ProjectionExpression"] = ", ".join(ATTRIBUTES)
        records = [record for page, _ in self._pages(query) for record in page]
        return task_state(newest(records)) if records else None

    def before(self, launcher: str, key: str, limit: int, now: datetime) -> list[TaskState]:
        """Return the runs of a launcher that were created before another, newest first.

        Args:
            launcher: name of the function.
            key: `launch_key` of the other run; '' for the newest runs of all.
            limit: runs at most. When there are fewer, there are no more.
            now: what has expired by then is left out.

        Returns:
            Each run in its last state. At most 20 pages are read, of 16 records for each run that
            is asked for. Should those not do, the list ends with the last run that was read whole:
            that takes runs of hundreds of changes each, or as many records that have expired and
            are still there, behind which hardly anything can be.
        """
        condition, values = "launcher = :launcher", {":launcher": launcher}
        if key:
            condition, values = f"{condition} AND launchKey < :key", {**values, ":key": key}
        query = self._query(condition, values, now)
        query["IndexName"] = _INDEX
        query["Limit"] = _RECORDS_OF_A_RUN * (limit + 1)
        records: list[Record] = []
        whole: list[list[Record]] = []
        for page, more in self._pages(query):
            records += page
            runs = [list(run) for _, run in groupby(records, itemgetter("launchKey"))]
            # The last one may go on overleaf.
            whole = runs[:-1] if more else runs
            if len(whole) >= limit:
                break
        return [task_state(newest(run)) for run in whole[:limit]]

    def _query(self, condition: str, values: dict[str, str], now: datetime) -> QueryInputTypeDef:
        return {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "FilterExpression": "#ttl > :now",
            # `ttl` is a reserved word of DynamoDB.
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {
                ":now": {"N": str(int(now.timestamp()))},
                **{name: {"S": value} for name, value in values.items()},
            },
            "ScanIndexForward": False,
        }

    def _pages(self, query: QueryInputTypeDef) -> Iterator[tuple[list[Record], bool]]:
        """Yield what each page holds, and whether there is another."""
        for _ in range(_PAGES):
            with aws_errors("Query"):
                answer = self._dynamodb.query(**query)
            start: dict[str, Any] | None = answer.get("LastEvaluatedKey")
            yield [plain_record(item) for item in answer["Items"]], bool(start)
            if not start:
                return
            query["ExclusiveStartKey"] = start
