"""Everything ECS does reaches the event table by itself."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

from tests.sandbox.stack import DEMO_CLUSTER
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.sandbox.account import Account


def _records(account: Account, outputs: dict[str, str], arn: str) -> list[dict[str, Any]]:
    answer = account.client("dynamodb").query(
        TableName=outputs["EventTableName"],
        KeyConditionExpression="resourceArn = :arn",
        ExpressionAttributeValues={":arn": {"S": arn}},
    )
    return list(answer["Items"])


def test_whole_life_is_recorded_when_a_task_runs_and_fails(
    account: Account, outputs: dict[str, str]
) -> None:
    ecs = account.client("ecs")
    run = ecs.run_task(
        cluster=DEMO_CLUSTER,
        taskDefinition="demo-migrate",
        launchType="FARGATE",
        overrides={
            "containerOverrides": [
                {"name": "app", "environment": [{"name": "EXIT_CODE", "value": "5"}]}
            ]
        },
    )
    arn = run["tasks"][0]["taskArn"]

    def complete() -> list[dict[str, Any]] | None:
        items = _records(account, outputs, arn)
        return items if any(item["lastStatus"]["S"] == "STOPPED" for item in items) else None

    items = eventually(complete, "the STOPPED record", within=30)

    versions = [int(item["version"]["N"]) for item in items]
    assert versions == sorted(set(versions))
    assert items[0]["lastStatus"]["S"] == "PROVISIONING"
    last = items[-1]
    assert last["outcome"]["S"] == "failed"
    assert last["exitCodes"]["M"] == {"app": {"N": "5"}}
    assert last["failedClusterArn"]["S"].endswith("cluster/demo")
    assert abs(int(last["ttl"]["N"]) - time.time() - 14 * 86400) < 120
    whole = json.loads(gzip.decompress(last["event"]["B"]))
    assert whole["detail"]["taskArn"] == arn


def test_message_goes_to_the_dead_letter_queue_when_it_is_no_event(
    account: Account, outputs: dict[str, str]
) -> None:
    sqs = account.client("sqs")
    queue = outputs["EventQueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    tries = int(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"])
    patient = {"VisibilityTimeout": attributes["VisibilityTimeout"]}
    # Six minutes between two tries are right for production and long for a test.
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    try:
        sqs.send_message(QueueUrl=queue, MessageBody="what is this")

        def dead() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=outputs["EventDeadLetterQueueUrl"])
            return list(answer.get("Messages", []))

        letters = eventually(dead, f"a dead letter after {tries} tries", within=60)
    finally:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=patient)
    assert [letter["Body"] for letter in letters] == ["what is this"]
