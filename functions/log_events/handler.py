"""Records every ECS event in the event table.

Trigger: SQS, fed by the EventBridge rule `source: aws.ecs`; partial batch failures.
Permissions: dynamodb:BatchWriteItem on the table.
Try it: events/log_events/*.json
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from ecs_ops.aws.clients import client
from ecs_ops.aws.event_table import EventTable, key_of
from ecs_ops.errors import InvalidRequest
from ecs_ops.event_record import read_event, record_of
from ecs_ops.settings import LogEventsSettings

if TYPE_CHECKING:
    from ecs_ops.event_record import EventRecord

# Left for the answer. A write that begins with less than this may not come back in time.
_SECONDS_FOR_THE_ANSWER = 10.0


@cache
def _wiring() -> tuple[LogEventsSettings, EventTable, Logger]:
    settings = LogEventsSettings.from_env(os.environ)
    return settings, EventTable(client("dynamodb"), settings.table_name), Logger()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write a batch; only messages that were not recorded go back to the queue."""
    settings, table, logger = _wiring()
    records: dict[str, EventRecord] = {}
    failed: list[str] = []
    for message in event["Records"]:
        try:
            records[message["messageId"]] = record_of(
                read_event(message["body"]),
                retention_days=settings.retention_days,
                now=int(time.time()),
            )
        except InvalidRequest as error:
            logger.warning("Not an event: %s", error, extra={"message_id": message["messageId"]})
            failed.append(message["messageId"])

    def time_left() -> float:
        seconds: float = context.get_remaining_time_in_millis() / 1000
        return seconds - _SECONDS_FOR_THE_ANSWER

    unwritten = table.write(records.values(), time_left=time_left)
    failed += [message_id for message_id, record in records.items() if key_of(record) in unwritten]
    logger.info("Batch done", extra={"messages": len(event["Records"]), "failed": len(failed)})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
