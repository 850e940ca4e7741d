"""A dead-letter queue gives its messages back: StartMessageMoveTask, which ministack does not know.

All of them move at once, each to the queue it came from. No destination, rate or cancelling.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from ministack.services import sqs


def _start(data: dict[str, Any], _url: str) -> dict[str, str]:
    dead = sqs._queue_by_arn(data.get("SourceArn", ""))
    if dead is None:
        raise sqs._Err("ResourceNotFoundException", "The resource that you specified for the ...")
    kept = []
    for message in dead["messages"]:
        source = sqs._queue_by_arn(message["sys"].get("DeadLetterQueueSourceArn", ""))
        if source is None or message["visible_at"] > time.time():
            kept.append(message)
            continue
        moved = {**message, "receive_count": 0, "receipt_handle": None, "sys": {**message["sys"]}}
        del moved["sys"]["DeadLetterQueueSourceArn"]
        moved["visible_at"] = time.time()
        source["messages"].append(moved)
    dead["messages"] = kept
    sqs.esm_wake.set()
    return {"TaskHandle": str(uuid.uuid4())}


def install() -> None:
    """Add the action."""
    sqs._HANDLERS["StartMessageMoveTask"] = _start
