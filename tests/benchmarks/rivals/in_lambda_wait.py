"""The way of the article: run the task, wait for it in the function, answer CloudFormation."""

import json
import os
from typing import Any

import boto3
import urllib3


def run(arguments: dict[str, Any]) -> str:
    """Return '' when the task exits with 0, else why it did not."""
    ecs = boto3.client("ecs")
    task = ecs.run_task(**arguments)["tasks"][0]
    which: dict[str, Any] = {"cluster": task["clusterArn"], "tasks": [task["taskArn"]]}
    ecs.get_waiter("tasks_stopped").wait(**which)
    code = ecs.describe_tasks(**which)["tasks"][0]["containers"][0].get("exitCode")
    return "" if code == 0 else f"exit code {code}"


def handler(event: dict[str, Any], _context: object) -> None:
    failure = ""
    if event["RequestType"] != "Delete":
        try:
            failure = run(event["ResourceProperties"]["RunTask"])
        except Exception as error:  # noqa: BLE001 - somebody waits for an answer
            failure = str(error)
    answer = {
        "Status": "FAILED" if failure else "SUCCESS",
        "Reason": failure,
        "PhysicalResourceId": event.get("PhysicalResourceId", "task"),
        **{key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")},
    }
    pool = urllib3.PoolManager(ca_certs=os.environ.get("SSL_CERT_FILE"))
    pool.request("PUT", event["ResponseURL"], body=json.dumps(answer).encode())
