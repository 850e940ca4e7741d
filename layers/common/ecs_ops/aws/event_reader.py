"""Reads the event table, and finds it. Nothing here writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import NotFound
from ecs_ops.event_view import first_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient

    from ecs_ops.event_view import Record

_TASK_DEFINITION_INDEX: Final = "taskDefinitionArn-eventKey-index"
_FAILURES_INDEX: Final = "failedClusterArn-eventKey-index"
_OUTPUT: Final = "EventTableName"
_SEGMENTS: Final = 4
"""Parts of the table that a scan reads at one time."""
# What rows and charts are made of. `event`, most of a record's size, is not.
_SHOWN: Final = (
    *("resourceArn", "eventKey", "summary", "outcome", "clusterArn", "taskDefinitionArn"),
    *("serviceName", "lastStatus", "stopCode", "exitCodes", "createdAt", "startedAt", "stoppedAt"),
)


class EventReader:
    """The event table, by its name, in the account of the client.

    Items that have expired, which the table drops within days, are not returned; items that are no
    events (`event_view.CLAIM_PREFIX`) are.

    Raises, in every method:
        NotFound: the table is not there.
        Transient, AwsFailure: see `aws_errors`.
    """

    def __init__(self, client: DynamoDBClient, table: str, *, now: datetime, whole: bool) -> None:
        """Read `table` as it is `now`; with `event`, where the index has it, if `whole`."""
        self._client = client
        self._table = table
        self._values = {":now": {"N": str(int(now.timestamp()))}}
        self._projection = {} if whole else {"ProjectionExpression": ", ".join(("#ttl", *_SHOWN))}

    def of_task(self, arn: str, since: datetime) -> list[Record]:
        return self._query("resourceArn", arn, since, self._projection)

    def of_tasks(self, arns: Iterable[str], since: datetime) -> list[Record]:
        with ThreadPoolExecutor(_SEGMENTS) as pool:
            found = pool.map(lambda arn: self.of_task(arn, since), arns)
            return list(chain.from_iterable(found))

    def of_task_definition(self, arn: str, since: datetime) -> list[Record]:
        """Read the index, which has no times of the task and no `event`."""
        index = {"IndexName": _TASK_DEFINITION_INDEX}
        return self._query("taskDefinitionArn", arn, since, index)

    def failures_in(self, cluster_arn: str, since: datetime) -> list[Record]:
        """Read the index, which has no times of the task and no `event`."""
        index = {"IndexName": _FAILURES_INDEX}
        return self._query("failedClusterArn", cluster_arn, since, index)

    def all(self, since: datetime) -> list[Record]:
        """Read the whole table: as slow and as dear as it is large, whatever `since` says."""

        def segment(number: int) -> list[Record]:
            return self._pages(
                "scan",
                {
                    "FilterExpression": "#ttl > :now AND eventKey >= :since",
                    "ExpressionAttributeValues": {
                        **self._values,
                        ":since": {"S": first_key(since)},
                    },
                    "Segment": number,
                    "TotalSegments": _SEGMENTS,
                    **self._projection,
                },
            )

        with ThreadPoolExecutor(_SEGMENTS) as pool:
            return list(chain.from_iterable(pool.map(segment, range(_SEGMENTS))))

    def _query(self, key: str, value: str, since: datetime, more: dict[str, str]) -> list[Record]:
        return self._pages(
            "query",
            {
                "KeyConditionExpression": f"{key} = :value AND eventKey >= :since",
                "FilterExpression": "#ttl > :now",
                "ExpressionAttributeValues": {
                    **self._values,
                    ":value": {"S": value},
                    ":since": {"S": first_key(since)},
                },
                **more,
            },
        )

    def _pages(self, operation: Any, arguments: dict[str, Any]) -> list[Record]:
        # `ttl` is a reserved word of DynamoDB.
        names = {"#ttl": "ttl"}
        with self._errors(operation.capitalize()):
            pages = self._client.get_paginator(operation).paginate(
                TableName=self._table, ExpressionAttributeNames=names, **arguments
            )
            return [plain_record(item) for page in pages for item in page["Items"]]

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            with aws_errors(operation):
                yield
        except NotFound as error:
            raise NotFound(f"table {self._table} does not exist") from error


def table_of_stack(client: CloudFormationClient, stack: str) -> str:
    """Return the name of the stack's event table, from its outputs.

    Raises:
        NotFound: the stack has no event table: its EnableLogEvents is false.
        AwsFailure: also when there is no such stack.
    """
    with aws_errors("DescribeStacks"):
        found = client.describe_stacks(StackName=stack)["Stacks"][0]
    for output in found.get("Outputs", ()):
        if output.get("OutputKey") == _OUTPUT:
            return output["OutputValue"]
    raise NotFound(f"stack {stack} has no output {_OUTPUT}: is log_events switched on?")


def ecs_arn_prefix(sts: Any) -> str:
    """Return `arn:<partition>:ecs:<region>:<account>` of whoever asks.

    GetCallerIdentity, for it is the one call that needs no permission at all.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    with aws_errors("GetCallerIdentity"):
        caller = sts.get_caller_identity()
    partition = caller["Arn"].split(":")[1]
    return f"arn:{partition}:ecs:{sts.meta.region_name}:{caller['Account']}"


def plain_record(item: Mapping[str, Any]) -> Record:
    """Return an item as the low-level client reads it without the types of its values."""
    return {name: _plain(value) for name, value in item.items()}


def _plain(value: Mapping[str, Any]) -> Any:
    """Return what `{"S": "…"}` holds. Numbers of this table are whole: no need for a Decimal."""
    match value:
        case {"N": number}:
            return int(number)
        case {"M": members}:
            return plain_record(members)
        case {"L": items}:
            return [_plain(one) for one in items]
        case _:
            (plain,) = value.values()
            return plain
