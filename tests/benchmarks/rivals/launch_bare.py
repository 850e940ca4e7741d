"""The least that launches a task from an HTTPS request: one client, one call, nothing checked."""

import json
import os
from typing import Any

import boto3

ecs: Any = boto3.client("ecs")


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    environment = [
        {"name": name, "value": str(value)} for name, value in json.loads(event["body"]).items()
    ]
    answer = ecs.run_task(
        cluster=os.environ["LAUNCH_CLUSTER"],
        taskDefinition=os.environ["LAUNCH_TASK_DEFINITION"],
        launchType="FARGATE",
        networkConfiguration={
            "awsvpcConfiguration": {"subnets": os.environ["LAUNCH_SUBNETS"].split(",")}
        },
        overrides={
            "containerOverrides": [
                {"name": os.environ["LAUNCH_CONTAINER"], "environment": environment}
            ]
        },
    )
    return {"statusCode": 202, "body": json.dumps({"taskArn": answer["tasks"][0]["taskArn"]})}
