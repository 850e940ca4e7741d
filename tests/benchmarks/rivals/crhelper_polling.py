"""crhelper's own polling: a rule of EventBridge invokes the function until the task has stopped."""

import os
from typing import Any

import boto3
from crhelper import CfnResource

helper = CfnResource(log_level="ERROR", polling_interval=int(os.environ["MINUTES"]))
ecs = boto3.client("ecs")


@helper.create
def start(event: dict[str, Any], _context: object) -> None:
    task = ecs.run_task(**event["ResourceProperties"]["RunTask"])["tasks"][0]
    helper.Data.update(Cluster=task["clusterArn"], Task=task["taskArn"])


@helper.poll_create
def look(event: dict[str, Any], _context: object) -> str | None:
    """Return an id when the task has succeeded; None means another look."""
    data = event["CrHelperData"]
    task = ecs.describe_tasks(cluster=data["Cluster"], tasks=[data["Task"]])["tasks"][0]
    if task["lastStatus"] != "STOPPED":
        return None
    if task["containers"][0].get("exitCode") != 0:
        raise RuntimeError("the task failed")
    return "task"


@helper.delete
def nothing(_event: dict[str, Any], _context: object) -> None:
    """There is nothing to undo."""


def handler(event: dict[str, Any], context: object) -> None:
    helper(event, context)
