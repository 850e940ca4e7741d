"""Tells people about failed tasks through SNS: once per task, not once per event."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ecs_ops.aws.alert_claims import AlertClaims, Claim
from ecs_ops.aws.clients import aws_errors
from ecs_ops.aws.metrics import unmeasured
from ecs_ops.errors import EcsOpsError
from ecs_ops.task_alert import alert_of, by_place, failures, hour_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient

    from ecs_ops.aws.metrics import Put
    from ecs_ops.event_record import EventRecord
    from ecs_ops.task_alert import Alert

_INDEX: Final = "taskDefinitionArn-eventKey-index"

_logger = logging.getLogger(__name__)


@contextmanager
def _logged() -> Iterator[None]:
    """Go on after an error that a lease or a second message makes good."""
    try:
        yield
    except EcsOpsError as error:
        _logger.warning("Claims of alerts stay as they are: %s", error)


class TaskAlerts:
    """Messages of one topic, remembered in the event table (see `alert_claims`).

    "Once" is: one message for a task under repeated, reordered and simultaneous events. A worker
    that dies between message and mark, cannot mark, or gets no answer from SNS, makes it two; never
    none.

    Permissions: dynamodb:PutItem and dynamodb:BatchWriteItem on the table, dynamodb:Query on its
    index taskDefinitionArn-eventKey-index, sns:Publish on the topic.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table_name: str,
        sns: Callable[[], SNSClient],
        topic_arn: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        put: Put = unmeasured,
    ) -> None:
        self._put = put
        self._claims = AlertClaims(dynamodb, table_name, sleep=sleep)
        self._dynamodb = dynamodb
        self._table_name = table_name
        self._sns = sns
        self._topic_arn = topic_arn

    def send(
        self, records: Iterable[EventRecord], *, now: float, time_left: Callable[[], float]
    ) -> frozenset[str]:
        """Tell about every task among these records that failed and was not yet told about.

        No error of AWS is raised: the records are stored by now and must not pay for a topic
        that refuses. It is logged, and the tasks come back in the result.

        Args:
            records: any number, of any kind; they are in the table already.
            now: epoch seconds, of the moment of the call.
            time_left: seconds that may still be spent; no call begins without any.

        Returns:
            ARNs of the tasks that perhaps nobody was told about. The messages of their failed
            records must come back to the queue.
        """
        holder = uuid.uuid4().hex
        unsettled: set[str] = set()
        for tasks in failures(records):
            claimed: list[EventRecord] = []
            for task in tasks:
                claim = self._claim(task, holder, now) if time_left() > 0 else Claim.TAKEN
                if claim is Claim.OURS:
                    claimed.append(task)
                elif claim is Claim.TAKEN:
                    unsettled.add(task["taskArn"])
            if claimed and not self._tell(claimed, tasks, now, time_left):
                unsettled.update(task["taskArn"] for task in claimed)
        return frozenset(unsettled)

    def _claim(self, task: EventRecord, holder: str, now: float) -> Claim:
        try:
            return self._claims.claim(task["taskArn"], holder=holder, ttl=task["ttl"], now=now)
        except EcsOpsError as error:
            _logger.warning("No claim of the alert for %s: %s", task["taskArn"], error)
            return Claim.TAKEN

    def _tell(
        self,
        claimed: Sequence[EventRecord],
        failed: Sequence[EventRecord],
        now: float,
        time_left: Callable[[], float],
    ) -> bool:
        """Publish one message about the claimed tasks; say whether that is settled.

        Args:
            claimed: tasks of one task definition.
            failed: all of this batch that failed, claimed or not.
            now: epoch seconds.
            time_left: seconds that may still be spent.
        """
        ttls = {task["taskArn"]: task["ttl"] for task in claimed}
        last_hour, more = self._last_hour(claimed, failed) if time_left() > 0 else (None, False)
        if time_left() <= 0:
            return False  # No time to release either, and the lease ends before the queue retries.
        try:
            self._publish(alert_of(claimed, last_hour=last_hour, at_least=more))
        except EcsOpsError as error:
            _logger.warning("No alert for %s: %s", ", ".join(ttls), error)
            with _logged():
                self._claims.release(ttls, time_left=time_left)
            return False
        # Here, and not where the event came: a claim is what makes a task that failed one task.
        self._put({"AlertsSent": 1})
        for (cluster, service), tasks in by_place(claimed).items():
            self._put({"TasksFailed": len(tasks)}, Cluster=cluster, Service=service)
        with _logged():
            self._claims.mark_sent(ttls, now=now, time_left=time_left)
        return True

    def _publish(self, alert: Alert) -> None:
        with aws_errors("Publish"):
            self._sns().publish(
                TopicArn=self._topic_arn,
                Subject=alert.subject,
                Message=alert.body,
                MessageAttributes={
                    name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
                    for name, value in alert.attributes.items()
                },
            )

    def _last_hour(
        self, claimed: Sequence[EventRecord], failed: Sequence[EventRecord]
    ) -> tuple[int | None, bool]:
        """Count the tasks of this task definition that failed in the hour up to the claimed.

        Returns:
            Their number, None if it cannot be had; and whether it may be more of them. One page
            of the index is read, some thousand events: an alert is not to wait for the rest.
        """
        definition = claimed[0].get("taskDefinitionArn")
        if not definition:
            return None, False
        since, until = hour_before(claimed)
        try:
            with aws_errors("Query"):
                page = self._dynamodb.query(
                    TableName=self._table_name,
                    IndexName=_INDEX,
                    KeyConditionExpression=(
                        "taskDefinitionArn = :definition AND eventKey BETWEEN :since AND :until"
                    ),
                    FilterExpression="outcome = :failed",
                    ExpressionAttributeValues={
                        ":definition": {"S": definition},
                        ":since": {"S": since},
                        ":until": {"S": until},
                        ":failed": {"S": "failed"},
                    },
                    ProjectionExpression="resourceArn",
                )
        except EcsOpsError as error:
            _logger.warning("No count of failures of %s: %s", definition, error)
            return None, False
        arns = {item["resourceArn"]["S"] for item in page["Items"]}
        # The index may not have what was written a moment ago.
        arns |= {task["taskArn"] for task in failed if since <= task["eventKey"] <= until}
        return len(arns), "LastEvaluatedKey" in page
