"""The way of the article as a function; `recycle_article` is the same over a simulator."""

import time
from typing import Any

import boto3

ecs: Any = boto3.client("ecs")
autoscaling: Any = boto3.client("application-autoscaling")


def handler(event: dict[str, Any], _context: object) -> None:
    cluster, service = event["cluster_name"], event["service_name"]
    which = {"cluster": cluster, "services": [service]}
    count = ecs.describe_services(**which)["services"][0]["desiredCount"]
    tasks = ecs.list_tasks(cluster=cluster, serviceName=service)["taskArns"]
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{cluster}/{service}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    bounds = autoscaling.describe_scalable_targets(
        ServiceNamespace="ecs", ResourceIds=[target["ResourceId"]]
    )["ScalableTargets"]
    if bounds:
        autoscaling.register_scalable_target(**target, MinCapacity=count + 1)
    ecs.update_service(cluster=cluster, service=service, desiredCount=count + 1)
    stable = ecs.get_waiter("services_stable")
    stable.wait(**which)
    for task in tasks:
        ecs.stop_task(cluster=cluster, task=task)
        stable.wait(**which)
        time.sleep(event.get("wait_time", 0))
    if bounds:
        autoscaling.register_scalable_target(**target, MinCapacity=bounds[0]["MinCapacity"])
    ecs.update_service(cluster=cluster, service=service, desiredCount=count)
