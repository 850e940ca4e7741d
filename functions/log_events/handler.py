"""Records every ECS event in the event table, and says once when a task failed.

Trigger: SQS, fed by the EventBridge rule `source: aws.ecs`; partial batch failures. A second queue
brings the same events for OpenSearch, when there is one.
Permissions: dynamodb:BatchWriteItem and PutItem on the table, dynamodb:Query on its indexes,
sns:Publish on the alert topic, ecs:DescribeTaskDefinition, es:ESHttpPost on the domain.
Try it: events/log_events/*.json
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ecs_ops.aws.clients import client
from ecs_ops.aws.ecs_tasks import EcsTasks
from ecs_ops.aws.event_log import EventLog
from ecs_ops.aws.event_table import EventTable
from ecs_ops.aws.log_lines import correlate
from ecs_ops.aws.metrics import Metrics
from ecs_ops.aws.search_index import SearchIndex
from ecs_ops.aws.task_alerts import TaskAlerts
from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import read_event
from ecs_ops.settings import LogEventsSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecs_ops.event_record import EcsEvent

# Left for the answer. A call that begins with less than this may not come back in time.
_SECONDS_FOR_THE_ANSWER = 10.0
_TOLD = 20

# Lambda's own formatter makes JSON of a line. Another logger would be a part of the cold start.
_logger = logging.getLogger(__name__)


@cache
def _wiring() -> tuple[LogEventsSettings, EventLog, SearchIndex, Metrics]:
    settings = LogEventsSettings.from_env(os.environ)
    metrics = Metrics(os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""))
    dynamodb = client("dynamodb")
    log = EventLog(
        EventTable(dynamodb, settings.table_name),
        TaskAlerts(
            dynamodb,
            settings.table_name,
            partial(client, "sns"),
            settings.alert_topic_arn,
            put=metrics.put,
        ),
        lambda: EcsTasks(client("ecs")),
        retention_days=settings.retention_days,
        clusters=settings.cluster_arns,
        put=metrics.put,
    )
    search = SearchIndex(settings.opensearch_endpoint, os.environ.get("AWS_REGION", ""))
    return settings, log, search, metrics


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Keep a batch; only messages that are not done with go back to their queue."""
    correlate(context.aws_request_id)
    settings, log, search, metrics = _wiring()
    messages = event["Records"]
    events = _read(messages)
    failed = {message["messageId"] for message in messages} - events.keys()

    def time_left() -> float:
        seconds: float = context.get_remaining_time_in_millis() / 1000
        return seconds - _SECONDS_FOR_THE_ANSWER

    # A batch comes from one queue.
    if messages[0]["eventSourceARN"] == settings.search_queue_arn:
        refused = search.index(events, time_left=time_left)
        if refused:
            _logger.error("Not indexed", extra={"errors": Counter(refused.values())})
            metrics.put({"EventsNotIndexed": len(refused)})
        failed |= refused.keys()
    else:
        failed |= log.keep(events, now=int(time.time()), time_left=time_left)
    # The ids: a message that comes back is part of another batch, under another correlation id.
    told = {"messages": len(messages), "failed": len(failed), "failed_ids": sorted(failed)[:_TOLD]}
    _logger.info("Batch done", extra=told)
    metrics.put({"Messages": len(messages), "MessagesFailed": len(failed)})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}


def _read(messages: Sequence[dict[str, Any]]) -> dict[str, EcsEvent]:
    """Return the event of each message that holds one."""
    settings, *_ = _wiring()
    events = {}
    for message in messages:
        try:
            events[message["messageId"]] = read_event(
                message["body"], mask_environment=settings.mask_environment
            )
        except InvalidRequest as error:
            _logger.warning("Not an event: %s", error, extra={"message_id": message["messageId"]})
    return events
