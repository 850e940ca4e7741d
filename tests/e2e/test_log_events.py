"""Everything ECS does reaches the event table by itself."""

from __future__ import annotations

import gzip
import json
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import urllib3

from tests.sandbox.stack import DEMO_CLUSTER, DEMO_SUBNET, SEARCH_DOMAIN
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
    arn = _run(account, "demo-migrate", EXIT_CODE="5")

    def whole_life() -> list[dict[str, Any]] | None:
        items = _records(account, outputs, arn)
        statuses = [item["lastStatus"]["S"] for item in items]
        life = ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
        return items if [status for status, _same in groupby(statuses)] == life else None

    items = eventually(whole_life, "every state of the task, in order", within=30)

    versions = [int(item["version"]["N"]) for item in items]
    assert versions == sorted(set(versions))
    last = items[-1]
    assert last["outcome"]["S"] == "failed"
    assert last["exitCodes"]["M"] == {"app": {"N": "5"}}
    assert last["failedClusterArn"]["S"].endswith("cluster/demo")
    assert abs(int(last["ttl"]["N"]) - time.time() - 14 * 86400) < 120
    whole = json.loads(gzip.decompress(last["event"]["B"]))
    assert whole["detail"]["taskArn"] == arn


class Mailbox:
    """A queue that is subscribed to the topic of the alerts."""

    def __init__(self, account: Account, outputs: dict[str, str]) -> None:
        self._sqs = account.client("sqs")
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
            "Condition": {"ArnEquals": {"aws:SourceArn": outputs["AlertTopicArn"]}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._url = self._sqs.create_queue(
            QueueName=f"mailbox-{uuid4().hex[:8]}", Attributes={"Policy": policy}
        )["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        account.client("sns").subscribe(
            TopicArn=outputs["AlertTopicArn"],
            Protocol="sqs",
            Endpoint=arn["Attributes"]["QueueArn"],
        )
        self.alerts: list[dict[str, Any]] = []

    def about(self, task_arn: str) -> list[dict[str, Any]]:
        """Return the alerts so far that name this task."""
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        for letter in answer.get("Messages", []):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=letter["ReceiptHandle"])
            self.alerts.append(json.loads(letter["Body"]))
        task_id = task_arn.rpartition("/")[2]
        return [alert for alert in self.alerts if task_id in alert["Message"]]


@pytest.fixture
def mailbox(account: Account, outputs: dict[str, str]) -> Mailbox:
    return Mailbox(account, outputs)


def _run(account: Account, family: str, **environment: str) -> str:
    """Start a task of the demo and return its ARN."""
    override = {
        "name": "app",
        "environment": [{"name": name, "value": value} for name, value in environment.items()],
    }
    answer = account.client("ecs").run_task(
        cluster=DEMO_CLUSTER,
        taskDefinition=family,
        launchType="FARGATE",
        overrides={"containerOverrides": [override]},
    )
    return str(answer["tasks"][0]["taskArn"])


def _stopped(account: Account, outputs: dict[str, str], arn: str) -> dict[str, Any]:
    """Return the record of the task's end."""

    def look() -> dict[str, Any] | None:
        items = _records(account, outputs, arn)
        return next((item for item in items if item["lastStatus"]["S"] == "STOPPED"), None)

    return eventually(look, f"the STOPPED record of {arn}", within=30)


def test_person_is_told_once_when_a_task_crashes_and_its_events_come_again(
    account: Account, outputs: dict[str, str], mailbox: Mailbox
) -> None:
    arn = _run(account, "demo-migrate", EXIT_CODE="137", DATABASE_PASSWORD="s3cret")
    record = _stopped(account, outputs, arn)
    (alert,) = eventually(lambda: mailbox.about(arn), "the alert")

    assert alert["Subject"].isascii()
    assert "demo-migrate" in alert["Subject"]
    assert "often out of memory" in alert["Message"]
    assert "of demo-migrate:1 failed in the hour" in alert["Message"]
    attributes = {name: value["Value"] for name, value in alert["MessageAttributes"].items()}
    assert attributes == {
        "account": "000000000000",
        "cluster": "demo",
        "family": "demo-migrate",
        "stopCode": "EssentialContainerExited",
    }

    # The same event twice more; then another failure, to know that they have been dealt with.
    event = gzip.decompress(record["event"]["B"]).decode()
    for _again in range(2):
        account.client("sqs").send_message(QueueUrl=outputs["EventQueueUrl"], MessageBody=event)
    other = _run(account, "demo-migrate", EXIT_CODE="1")
    eventually(lambda: mailbox.about(other), "the alert of the other task", within=30)
    assert len(mailbox.about(arn)) == 1
    assert "s3cret" not in json.dumps(mailbox.alerts) + event


def test_nobody_is_told_when_a_service_scales_in_or_somebody_stops_a_task(
    account: Account, outputs: dict[str, str], mailbox: Mailbox
) -> None:
    ecs = account.client("ecs")
    name = f"web-{uuid4().hex[:8]}"
    ecs.create_service(
        cluster=DEMO_CLUSTER,
        serviceName=name,
        taskDefinition="demo-web",
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": [DEMO_SUBNET]}},
    )

    def running() -> list[str]:
        answer = ecs.list_tasks(cluster=DEMO_CLUSTER, serviceName=name, desiredStatus="RUNNING")
        return [
            task["taskArn"]
            for task in ecs.describe_tasks(cluster=DEMO_CLUSTER, tasks=answer["taskArns"])["tasks"]
            if task["lastStatus"] == "RUNNING"
        ]

    (scaled_in,) = eventually(running, "a running task")
    ecs.update_service(cluster=DEMO_CLUSTER, service=name, desiredCount=0)
    stopped = _run(account, "demo-web")
    ecs.stop_task(cluster=DEMO_CLUSTER, task=stopped, reason="maintenance")

    for arn, code in ((scaled_in, "ServiceSchedulerInitiated"), (stopped, "UserInitiated")):
        record = _stopped(account, outputs, arn)
        assert record["stopCode"]["S"] == code
        assert "outcome" not in record
    crashed = _run(account, "demo-migrate", EXIT_CODE="1")
    eventually(lambda: mailbox.about(crashed), "the alert of a crash", within=30)
    assert mailbox.about(scaled_in) + mailbox.about(stopped) == []


def test_each_failure_is_told_once_when_many_come_together(
    account: Account, outputs: dict[str, str], mailbox: Mailbox
) -> None:
    arns = [_run(account, "demo-migrate", EXIT_CODE="1") for _task in range(4)]
    for arn in arns:
        _stopped(account, outputs, arn)

    eventually(lambda: all(mailbox.about(arn) for arn in arns), "an alert of each task")

    assert [len(mailbox.about(arn)) for arn in arns] == [1] * 4


def test_job_has_not_failed_when_only_its_helper_did(
    account: Account, outputs: dict[str, str]
) -> None:
    account.client("ecs").register_task_definition(
        family="demo-job-with-helper",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": name,
                "image": "public.ecr.aws/docker/library/busybox:stable",
                "essential": essential,
                "command": ["sh", "-c", command],
            }
            for name, essential, command in (
                ("app", True, "sleep 1; exit 0"),
                ("helper", False, "trap 'exit 3' TERM; while :; do sleep 0.1; done"),
            )
        ],
    )

    record = _stopped(account, outputs, _run(account, "demo-job-with-helper"))

    assert {name: code["N"] for name, code in record["exitCodes"]["M"].items()} == {
        "app": "0",
        "helper": "3",
    }
    assert "outcome" not in record


def test_event_can_be_searched_when_there_is_a_search_domain(
    account: Account, outputs: dict[str, str]
) -> None:
    arn = _run(account, "demo-job")
    last = json.loads(gzip.decompress(_stopped(account, outputs, arn)["event"]["B"]))
    index = f"ecs-events-{last['time'][:10].replace('-', '.')}"
    pool = urllib3.PoolManager(ca_certs=str(account.ca_bundle))

    def document() -> Any:
        answer = pool.request("GET", f"{account.url}{SEARCH_DOMAIN}/{index}")
        return answer.json().get(last["id"])

    assert eventually(document, "the document") == last


def test_message_goes_to_the_dead_letter_queue_when_it_is_no_event(
    account: Account, outputs: dict[str, str]
) -> None:
    sqs = account.client("sqs")
    queue = outputs["EventQueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    tries = int(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"])
    patient = {"VisibilityTimeout": attributes["VisibilityTimeout"]}
    # Six minutes between two tries are right for production and long for a test.
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "0"})
    try:
        sqs.send_message(QueueUrl=queue, MessageBody="what is this")

        def dead() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=outputs["EventDeadLetterQueueUrl"])
            return list(answer.get("Messages", []))

        letters = eventually(dead, f"a dead letter after {tries} tries", within=60)
    finally:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=patient)
    assert [letter["Body"] for letter in letters] == ["what is this"]
