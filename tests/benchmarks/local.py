"""The local account of the benchmarks: our stack, the rivals, and a task that sleeps."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.stacks import UserStack
from tests.sandbox import stack
from tests.sandbox.account import Account, temporary_account
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RIVALS = Path(__file__).parent / "rivals"
_TASK = "bench-sleep"
_BILLED = re.compile(r"REPORT RequestId: .*Billed Duration: ([\d.]+) ms")
_LONGEST = 300  # Seconds a stack may take here.


@dataclass(frozen=True, slots=True)
class Function:
    """A provider of the custom resource."""

    token: str
    log_group: str
    is_rival: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """One stack with one task in it."""

    latency: float
    """Seconds from the task's stoppedAt to CloudFormation's event for the resource."""
    billed: Sequence[float]
    """Seconds of each invocation, in their order, from Lambda's REPORT lines."""
    status: str
    """Of the resource."""
    reason: str
    tasks: int
    """Number of tasks that were started for it."""


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[tuple[Account, Function]]:
    """Run an account with our stack in it, for as long as the block lasts."""
    stack.build()
    with temporary_account(folder) as account:
        stack.create_demo_cluster(account)
        outputs = stack.deploy(account)
        _register(account)
        ours = Function(
            outputs["RunTaskServiceToken"], "/aws/lambda/ecs-ops-run-task", is_rival=False
        )
        yield account, ours


def rival(account: Account, name: str, code: str, *, timeout: int = 900, **env: str) -> Function:
    """Deploy `rivals/<code>.py` as a function with what ours has: memory, layer, architecture."""
    ours = account.client("lambda").get_function_configuration(
        FunctionName="ecs-ops-run-task", Qualifier="live"
    )
    template = {
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": _statements(
                        {"Principal": {"Service": "lambda.amazonaws.com"}}, "sts:AssumeRole"
                    ),
                    "Policies": [
                        {
                            "PolicyName": "all-it-needs",
                            "PolicyDocument": _statements(
                                {"Resource": "*"},
                                *("ecs:*", "events:*", "iam:PassRole", "lambda:*", "logs:*"),
                            ),
                        }
                    ],
                },
            },
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": name,
                    "Runtime": ours["Runtime"],
                    "MemorySize": ours["MemorySize"],
                    "Layers": [layer["Arn"] for layer in ours["Layers"]],
                    "Handler": "index.handler",
                    "Timeout": timeout,
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                    "Environment": {"Variables": env},
                    "Code": {"ZipFile": (_RIVALS / f"{code}.py").read_text()},
                },
            },
        },
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Function", "Arn"]}}},
    }
    account.client("cloudformation").create_stack(
        StackName=name, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"]
    )
    made = UserStack(account, name)
    made.settled()
    return Function(made.outputs()["Arn"], f"/aws/lambda/{name}")


def run(account: Account, function: Function, seconds: float, *, service_timeout: int = 600) -> Run:
    """Create a stack with a task that takes so many seconds, and see how its resource ends."""
    began = time.time()
    user = UserStack(account)
    cloudformation = account.client("cloudformation")
    cloudformation.create_stack(
        StackName=user.name,
        TemplateBody=_template(function, user.name, seconds, service_timeout),
    )

    def ended() -> dict[str, Any] | None:
        events = cloudformation.describe_stack_events(StackName=user.name)["StackEvents"]
        ends = {"CREATE_COMPLETE", "CREATE_FAILED"}
        return next(
            (
                event
                for event in events
                if event["LogicalResourceId"] == "Task" and event["ResourceStatus"] in ends
            ),
            None,
        )

    event = eventually(ended, f"an end of {user.name}", within=_LONGEST)
    tasks = _tasks_of(account, user.name)
    stopped = [task["stoppedAt"] for task in tasks if "stoppedAt" in task]
    latency = (event["Timestamp"] - max(stopped)).total_seconds() if stopped else float("nan")
    # The last invocation ends a moment after its answer.
    time.sleep(1)
    return Run(
        latency,
        _billed(account, function.log_group, began),
        event["ResourceStatus"],
        event.get("ResourceStatusReason", ""),
        len(tasks),
    )


def _register(account: Account) -> None:
    ecs = account.client("ecs")
    ecs.register_task_definition(
        family=_TASK,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "app",
                "image": "public.ecr.aws/docker/library/busybox:stable",
                "command": ["sh", "-c", "sleep $SECONDS_TO_TAKE"],
            }
        ],
    )


def _template(function: Function, stack_name: str, seconds: float, service_timeout: int) -> str:
    environment = {"SECONDS_TO_TAKE": str(seconds)}
    properties: dict[str, Any] = {
        "Cluster": stack.DEMO_CLUSTER,
        "TaskDefinition": _TASK,
        "LaunchType": "FARGATE",
        "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": [stack.DEMO_SUBNET]}},
        "Environment": environment,
    }
    if function.is_rival:
        override = {
            "name": "app",
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        }
        arguments = {
            "cluster": stack.DEMO_CLUSTER,
            "taskDefinition": _TASK,
            "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": [stack.DEMO_SUBNET]}},
            "overrides": {"containerOverrides": [override]},
            "startedBy": stack_name,
        }
        properties = {"RunTask": arguments}
    token = {"ServiceToken": function.token, "ServiceTimeout": service_timeout}
    resource = {"Type": "Custom::ECSRunTask", "Properties": token | properties}
    return json.dumps({"Resources": {"Task": resource}})


def _tasks_of(account: Account, stack_name: str) -> list[dict[str, Any]]:
    ecs = account.client("ecs")
    arns = [
        arn
        for status in ("RUNNING", "STOPPED")
        for arn in ecs.list_tasks(cluster=stack.DEMO_CLUSTER, desiredStatus=status)["taskArns"]
    ]
    tasks = ecs.describe_tasks(cluster=stack.DEMO_CLUSTER, tasks=arns)["tasks"]
    return [task for task in tasks if stack_name in task.get("startedBy", "")]


def _billed(account: Account, log_group: str, since: float) -> list[float]:
    pages = account.client("logs").get_paginator("filter_log_events")
    events = [
        event
        for page in pages.paginate(logGroupName=log_group, startTime=int(since * 1000))
        for event in page["events"]
    ]
    events.sort(key=lambda event: event["timestamp"])
    found = (_BILLED.search(event["message"]) for event in events)
    return [float(line[1]) / 1000 for line in found if line]


def _statements(more: dict[str, Any], *actions: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), **more}
    return {"Version": "2012-10-17", "Statement": [statement]}
