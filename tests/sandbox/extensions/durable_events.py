"""Lambda tells EventBridge of every status change of a durable execution.

Shape: developer guide, "Monitoring durable functions".
"""

from __future__ import annotations

import json
import queue
import threading
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import eventbridge, lambda_durable

_CHANGES = {
    f"Execution{change}" for change in ("Started", "Succeeded", "Failed", "TimedOut", "Stopped")
}
# Whoever changes a status holds locks that a rule's target may want.
_outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _detail(record: dict[str, Any]) -> dict[str, Any]:
    detail = {
        "durableExecutionArn": record["DurableExecutionArn"],
        "durableExecutionName": record["DurableExecutionName"],
        "functionArn": record["FunctionArn"],
        "status": record["Status"],
        "startTimestamp": _iso(record["StartTimestamp"]),
    }
    if record["EndTimestamp"]:
        detail["endTimestamp"] = _iso(record["EndTimestamp"])
    return detail


def _publish() -> None:
    while True:
        detail = _outbox.get()
        region, account = detail["durableExecutionArn"].split(":")[3:5]
        entry = {
            "Source": "aws.lambda",
            "DetailType": "Durable Execution Status Change",
            "Detail": json.dumps(detail),
            "Resources": [],
        }
        with request_scope(account, region):
            eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def install() -> None:
    """Every status change is an event of the execution's history too: hear of it there."""
    emit = lambda_durable._emit_history_event

    def emit_and_publish(record: dict[str, Any], event_type: str, *args: Any, **more: Any) -> None:
        emit(record, event_type, *args, **more)
        if event_type in _CHANGES:
            _outbox.put(_detail(record))

    lambda_durable._emit_history_event = emit_and_publish
    threading.Thread(target=_publish, daemon=True, name="durable-events").start()
