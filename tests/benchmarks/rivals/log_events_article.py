"""The way of the article: one event per invocation, a few of its fields, one put by the resource.

Its rule lets task state changes through, nothing else. The table's key is what its template has:
`taskDefinitionArn` and `time`.
"""

import json
import os
import time
from typing import Any

import boto3

SECONDS_KEPT = 14 * 24 * 60 * 60
KEPT = ("startedBy", "desiredStatus", "lastStatus", "stoppedReason")
# Not in the article: what its way would cost if it kept as much as log_events keeps.
KEEPS_DETAIL = bool(os.environ.get("KEEPS_DETAIL"))

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    detail = event["detail"]
    if "taskDefinitionArn" in detail:
        kept = {name: detail[name] for name in KEPT if name in detail}
        if KEEPS_DETAIL:
            kept["detail"] = detail
        key = {"taskDefinitionArn": detail["taskDefinitionArn"], "time": event["time"]}
        table.put_item(Item=key | kept | {"ttl": int(time.time()) + SECONDS_KEPT})
    return {"statusCode": 200, "body": json.dumps({"message": "recorded", "input": event})}
