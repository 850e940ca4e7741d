"""EventBridge hears of every change in ECS, with the documented shape."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.sandbox.conftest import Cluster
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.account import Account


@pytest.fixture
def listen(account: Account, request: pytest.FixtureRequest) -> Callable[[], list[dict[str, Any]]]:
    """Send ECS's events to a queue of this test's own; return what reads all that came so far."""
    sqs, events = account.client("sqs"), account.client("events")
    name = request.node.name[:60].replace("[", "-").replace("]", "")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    events.put_rule(Name=name, EventPattern=json.dumps({"source": ["aws.ecs"]}))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])
    heard: list[dict[str, Any]] = []

    def read() -> list[dict[str, Any]]:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            heard.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return heard

    return read


def _of(events: list[dict[str, Any]], resource: str) -> list[dict[str, Any]]:
    return [event for event in events if event["resources"] == [resource]]


def _last_status(events: list[dict[str, Any]]) -> set[str]:
    return {event["detail"]["lastStatus"] for event in events}


def test_versions_increase_when_a_task_lives_and_ends(
    cluster: Cluster, listen: Callable[[], list[dict[str, Any]]]
) -> None:
    arn = cluster.run(cluster.define("exit 3"))

    eventually(lambda: "STOPPED" in _last_status(_of(listen(), arn)), "the STOPPED event")

    events = _of(listen(), arn)
    details = [event["detail"] for event in events]
    versions = [detail["version"] for detail in details]
    assert versions == sorted(set(versions))
    assert details[0]["lastStatus"] == "PROVISIONING"
    assert {event["detail-type"] for event in events} == {"ECS Task State Change"}
    assert {event["source"] for event in events} == {"aws.ecs"}
    last = details[-1]
    assert last["clusterArn"] == cluster.arn
    assert last["containers"][0]["exitCode"] == 3
    assert last["stopCode"] == "EssentialContainerExited"
    assert not {"tags", "healthStatus"} & last.keys()


def test_service_events_come_when_a_service_becomes_steady(
    cluster: Cluster, listen: Callable[[], list[dict[str, Any]]]
) -> None:
    created = cluster.ecs.create_service(
        cluster=cluster.name,
        serviceName="web",
        taskDefinition=cluster.define("sleep 60"),
        desiredCount=1,
        launchType="FARGATE",
    )
    service = created["service"]["serviceArn"]
    cluster.ecs.update_service(cluster=cluster.name, service="web", forceNewDeployment=True)

    def names() -> list[str]:
        return [event["detail"]["eventName"] for event in _of(listen(), service)]

    eventually(lambda: "SERVICE_STEADY_STATE" in names(), "steady state")
    eventually(lambda: "SERVICE_DEPLOYMENT_COMPLETED" in names(), "the deployment's end")
    deployments = [
        event
        for event in _of(listen(), service)
        if event["detail-type"] == "ECS Deployment State Change"
    ]
    assert deployments
    assert all("clusterArn" not in event["detail"] for event in deployments)


def test_every_event_comes_twice_when_the_cluster_asks_for_duplicates(
    account: Account, listen: Callable[[], list[dict[str, Any]]]
) -> None:
    cluster = Cluster(account, tags=[{"key": "sandbox:events", "value": "duplicated reordered"}])
    arn = cluster.run(cluster.define("exit 0"))

    def twice() -> Counter[str] | None:
        counts = Counter(event["id"] for event in _of(listen(), arn))
        statuses = _last_status(_of(listen(), arn))
        complete = {"PROVISIONING", "STOPPED"} <= statuses and set(counts.values()) == {2}
        return counts if complete else None

    eventually(twice, "every event twice")
