"""What is watched is there: metrics, alarms, dashboard, logs, and the commands of the page."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import urllib3

from ecs_ops.aws.metrics import NAMES, NAMESPACE
from tests.e2e.executions import execute
from tests.e2e.stacks import MIGRATION, UserStack
from tests.sandbox import stack
from tests.sandbox.account import REPOSITORY
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.sandbox.account import Account

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
GROUPS = [f"/aws/lambda/ecs-ops-{name}" for name in ("run-task", "log-events", "recycle-service")]
GROUPS.append("/aws/lambda/ecs-ops-launch-task")
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html and durable-monitoring
OF_AWS = {
    "AWS/Lambda": {
        *("Invocations", "Errors", "Throttles", "Duration", "DurableExecutionStarted"),
        *("DurableExecutionSucceeded", "DurableExecutionFailed", "DurableExecutionTimedOut"),
        "DurableExecutionStopped",
    },
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    # eventbridge/latest/userguide/eb-monitoring
    "AWS/Events": {"FailedInvocations"},
}
_SDK = "botocore."
DIMENSION = {
    "AWS/Lambda": "FunctionName",
    "AWS/SQS": "QueueName",
    "AWS/Events": "RuleName",
    NAMESPACE: "FunctionName",
}
# Those of the functions as they are deployed; what of them is `by` is in the emitted lines.
NEVER_HERE = {"EventsNotIndexed", "RequestsFailed", "TasksBeingReplaced", "TasksReplaced"}


def lines(account: Account, group: str) -> list[Any]:
    """Return what the function logged, parsed, without what Lambda says of the invocations."""
    logs = account.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    texts = [event["message"] for page in pages for event in page["events"]]
    ours = [text for text in texts if not re.match(r"(START|END|REPORT) ", text)]
    assert not "\n".join(text for text in ours if not text.startswith("{"))
    return [json.loads(text) for text in ours]


def emitted(account: Account) -> set[tuple[str, frozenset[str]]]:
    """Return each metric that was written, with the names of its dimensions."""
    return {
        (metric["Name"], frozenset(dimensions))
        for group in GROUPS
        for line in lines(account, group)
        if "_aws" in line
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
        for dimensions in directive["Dimensions"]
    }


@pytest.fixture(scope="module")
def ran(account: Account, outputs: dict[str, str]) -> UserStack:
    """Have everything happen that is counted: return the stack whose custom resource ran."""
    pool = urllib3.PoolManager(ca_certs=str(account.ca_bundle))
    token = stack.launcher_token(account, outputs)
    address = f"{account.url}/runs"
    host = urllib3.util.parse_url(outputs["LauncherUrl"]).netloc
    headers = {"Host": str(host), "Authorization": f"Bearer {token}"}
    for profile, environment in ("migrate", {"EXIT_CODE": "5"}), ("default", {"NOT": "allowed"}):
        order = {"profile": profile, "environment": environment}
        pool.request("POST", address, json=order, headers=headers)
    # There is no such service: the execution fails, and another one picks that up.
    request = {"cluster_name": stack.DEMO_CLUSTER, "service_name": "nothing"}
    execute(account, outputs["RecycleFunctionName"], request)
    user = UserStack(account)
    user.create(MIGRATION.read_text(), Cluster=stack.DEMO_CLUSTER)
    return user


def test_metrics_are_valid_and_complete_when_the_functions_ran(
    account: Account, ran: UserStack
) -> None:
    assert ran.name

    def counted() -> bool:
        return set(NAMES) - NEVER_HERE <= {name for name, _ in emitted(account)}

    eventually(counted, "every metric", within=30)

    for group in GROUPS:
        measured = [line for line in lines(account, group) if "_aws" in line]
        assert measured
        for line in measured:
            assert isinstance(line["_aws"]["Timestamp"], int)
            for directive in line["_aws"]["CloudWatchMetrics"]:
                assert directive["Namespace"] == NAMESPACE
                assert len(directive["Metrics"]) <= 100
                for dimensions in directive["Dimensions"]:
                    assert len(dimensions) <= 30
                    for name in dimensions:
                        assert isinstance(line[name], str)
                        assert line[name]
                    assert line["FunctionName"] == group.rpartition("/")[2]
                for metric in directive["Metrics"]:
                    assert metric["Unit"] in {"Count", "Seconds"}
                    assert isinstance(line[metric["Name"]], int | float)


def test_lines_of_a_run_have_its_id_and_no_secret_when_a_stack_was_made(
    account: Account, ran: UserStack
) -> None:
    events = account.client("cloudformation").describe_stack_events(StackName=ran.name)
    assert events["StackEvents"]

    for group in GROUPS:
        # The durable SDK makes a client of its own, before there is a run.
        logged = [one for one in lines(account, group) if _SDK not in one.get("logger", "")]
        assert logged
        assert [line for line in logged if not line.get("correlation_id")] == []
        assert "X-Amz-Signature" not in json.dumps(logged)


def test_alarms_watch_what_is_there_when_the_stack_is_deployed(
    account: Account, outputs: dict[str, str], ran: UserStack
) -> None:
    alarms = account.client("cloudwatch").describe_alarms(AlarmNamePrefix="ecs-ops-")
    queues = account.client("sqs").list_queues()["QueueUrls"]
    rules = account.client("events").list_rules()["Rules"]
    assert ran.name
    written = emitted(account)

    assert len(alarms["MetricAlarms"]) == 15
    for alarm in alarms["MetricAlarms"]:
        ((dimension, value),) = [(one["Name"], one["Value"]) for one in alarm["Dimensions"]]
        metric, namespace = alarm["MetricName"], alarm["Namespace"]
        assert dimension == DIMENSION[namespace]
        if dimension == "QueueName":
            assert value in {url.rpartition("/")[2] for url in queues}
        elif dimension == "RuleName":
            assert value in {rule["Name"] for rule in rules}
        else:
            assert f"/aws/lambda/{value}" in GROUPS
        if namespace == NAMESPACE:
            assert metric in NEVER_HERE or (metric, frozenset([dimension])) in written
        else:
            assert metric in OF_AWS[namespace]
        assert alarm["AlarmActions"] == [outputs["AlertTopicArn"]]
        # The page has a runbook for it.
        runbook = alarm["AlarmName"].removeprefix("ecs-ops-")
        assert any(f"\n### {name}\n" in PAGE for name in (runbook, runbook.rpartition("-")[2]))


def test_dashboard_shows_what_is_there_when_the_stack_is_deployed(
    account: Account, outputs: dict[str, str], ran: UserStack
) -> None:
    name = outputs["DashboardUrl"].rpartition("/")[2]
    found = account.client("cloudwatch").get_dashboard(DashboardName=name)
    widgets = json.loads(found["DashboardBody"])["widgets"]
    assert ran.name
    written = emitted(account)

    alarms = next(widget for widget in widgets if widget["type"] == "alarm")
    assert len(alarms["properties"]["alarms"]) == 15
    for widget in [widget for widget in widgets if widget["type"] == "metric"]:
        for row in widget["properties"]["metrics"]:
            if isinstance(row[0], dict):
                searched = re.match(
                    r"""SEARCH\('\{"([^"]+)",([\w,]+)\} MetricName="(\w+)" """
                    r"""FunctionName="([\w-]+)"', 'Sum'\)""",
                    row[0]["expression"],
                )
                assert searched
                namespace, dimensions, metric, function = searched.groups()
                known = (metric, frozenset(dimensions.split(",")))
            else:
                namespace, metric, dimension, function = row[:4]
                known = (metric, frozenset([dimension]))
            assert not function.startswith("ecs-ops-") or (
                f"/aws/lambda/{function}" in GROUPS or "Queue" in function
            )
            if namespace == NAMESPACE:
                assert metric in NEVER_HERE or known in written
            else:
                assert metric in OF_AWS[namespace]


def test_topic_hears_of_an_alarm_when_it_rings(account: Account, outputs: dict[str, str]) -> None:
    sqs = account.client("sqs")
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    statement = {**allowed, "Principal": {"Service": "sns.amazonaws.com"}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    url = sqs.create_queue(QueueName=f"pager-{uuid4().hex[:8]}", Attributes={"Policy": policy})[
        "QueueUrl"
    ]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    account.client("sns").subscribe(
        TopicArn=outputs["AlertTopicArn"], Protocol="sqs", Endpoint=arn["QueueArn"]
    )

    account.client("cloudwatch").set_alarm_state(
        AlarmName="ecs-ops-log-events-errors", StateValue="ALARM", StateReason="a test"
    )

    def told() -> bool:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", ())
        return any("ecs-ops-log-events-errors" in message["Body"] for message in messages)

    eventually(told, "the alarm in the topic")


def test_dead_letters_go_back_when_the_commands_of_the_page_are_run(
    account: Account, outputs: dict[str, str]
) -> None:
    """One letter is put there as SQS would after five tries."""
    sqs = account.client("sqs")
    dead, queue = outputs["EventDeadLetterQueueUrl"], outputs["EventQueueUrl"]
    section = PAGE.partition("\n## The dead-letter queue\n")[2].partition("\n## ")[0]
    (redrive,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    visible = {"VisibilityTimeout": "0"}
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=visible)
    sqs.send_message(QueueUrl=queue, MessageBody="no event, but a letter")

    def letters() -> int:
        found = sqs.get_queue_attributes(
            QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    eventually(letters, "a dead letter", within=60)
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=before["Attributes"])

    subprocess.run(["bash", "-euc", redrive], env=account.shell_env, check=True)

    eventually(lambda: letters() == 0, "an empty dead-letter queue")


@pytest.mark.parametrize("section", ["The dashboard", "Alarms", "Runbooks", "Something hangs"])
def test_commands_of_the_page_run_when_they_are_pasted(
    account: Account, ran: UserStack, section: str
) -> None:
    assert ran.name
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))

    done = subprocess.run(
        ["bash", "-euc", script], env=account.shell_env, capture_output=True, text=True, check=False
    )

    assert not done.returncode, done.stderr
