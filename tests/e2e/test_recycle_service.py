"""A service's tasks are replaced, never fewer run than were asked for, and it is left as it was."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.executions import execute
from tests.e2e.services import ON_INSTANCES, PATIENCE, Service, Stories, World, begin_all
from tests.e2e.stacks import UserStack, create_further
from tests.mail_server import LOGIN, MailServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.account import Account

# Seconds: time for somebody to do something between two batches.
PAUSE = 5


@pytest.fixture(scope="module")
def stories(
    account: Account, outputs: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Stories]:
    yield from begin_all(World(account, outputs), request)


def nothing_goes_wrong(world: World) -> None:
    service, over, lowest = Service(world, count=2), threading.Event(), [2]

    def watch() -> None:
        while not over.wait(0.1):
            lowest[0] = min(lowest[0], service.describe()["runningCount"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    report = service.recycle(wait_time=1)
    over.set()
    watcher.join()

    assert report["outcome"] == "succeeded"
    assert sorted(report["recycled"]) == sorted(service.old)
    assert report["capacity"] == {"before": 2, "during": 2, "after": 2}
    assert lowest[0] >= 2
    service.assert_put_back()
    service.assert_all_replaced()
    (letter,) = service.reports("succeeded")
    assert letter["Subject"] == f"Recycled {service.name} in {service.name}: 2 of 2 tasks"


def nobody_is_to_be_told(world: World) -> None:
    service = Service(world)

    execution = service.start(notify=False)

    assert service.end(execution)["Result"]["outcome"] == "succeeded"
    assert world.reports.about(service.name) == []


def two_are_replaced_at_once(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(batch_size=2)

    report = service.end(execution)["Result"]
    assert report["outcome"] == "succeeded"
    assert report["capacity"]["during"] == 2
    assert "stop-2" not in service.operations(execution)
    service.assert_put_back()
    service.assert_all_replaced()


def strength_need_not_be_kept(world: World) -> None:
    service = Service(world)

    report = service.recycle(maintain_service_state=False)

    assert report["outcome"] == "succeeded"
    assert report["desired_count"] == {"before": 1, "after": 1}
    service.assert_put_back()
    service.assert_all_replaced()


def it_is_a_dry_run(world: World) -> None:
    service = Service(world, count=2)

    report = service.recycle(dry_run=True)

    assert report["outcome"] == "planned"
    assert sorted(report["planned"]) == sorted(service.old)
    service.assert_put_back()
    assert service.kept() == service.old


def tasks_are_too_young(world: World) -> None:
    service = Service(world)

    report = service.recycle(min_age=3600)

    assert report["outcome"] == "succeeded"
    assert [one["task_arn"] for one in report["skipped"]] == [*service.old]
    assert "younger than 3600 s" in report["skipped"][0]["why"]
    service.assert_put_back()
    assert service.kept() == service.old


def a_task_is_protected(world: World) -> None:
    service = Service(world, count=2)
    protected, other = sorted(service.old)
    service.ecs.update_task_protection(
        cluster=service.name, tasks=[protected], protectionEnabled=True
    )

    report = service.recycle()

    assert report["outcome"] == "succeeded"
    assert report["recycled"] == [other]
    assert report["skipped"] == [{"task_arn": protected, "why": "it is under task protection"}]
    service.assert_put_back()
    assert protected in service.kept()
    assert service.recycled() == [other]


def auto_scaling_has_no_room(world: World) -> None:
    service = Service(world, count=2, bounds=(1, 2))

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    raised = service.bounds, service.desired_count
    report = service.end(execution)["Result"]

    assert raised == ((3, 3), 3)
    assert report["outcome"] == "succeeded"
    assert report["capacity"]["during"] == 2
    service.assert_put_back()
    service.assert_all_replaced()


def a_person_sets_a_bound_meanwhile(world: World) -> None:
    service = Service(world, count=2, bounds=(1, 2))

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    service.scale_between(3, 9)
    service.end(execution)

    service.bounds_at_first = (1, 9)
    service.assert_put_back()
    service.assert_all_replaced()


def a_person_asks_for_more(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    service.resize(4)
    report = service.end(execution)["Result"]

    assert report["outcome"] == "succeeded"
    assert report["desired_count"]["after"] == 4
    service.assert_put_back(desired_count=4)
    service.assert_all_replaced()


def a_person_asks_for_fewer(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    service.resize(1)
    report = service.end(execution)["Result"]

    assert report["outcome"] == "failed"
    assert "lowered from 3 to 1" in report["problem"]
    assert len(report["recycled"]) == len(service.recycled()) == 1
    service.assert_put_back(desired_count=1)
    (letter,) = service.reports("failed")
    assert "ended early: 1 of 2 tasks replaced" in letter["Subject"]


def a_deployment_begins(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    service.ecs.update_service(cluster=service.name, service=service.name, forceNewDeployment=True)
    report = service.end(execution)["Result"]

    assert report["outcome"] == "failed"
    assert report["problem"] == "a deployment has begun"
    service.assert_put_back()


def an_alarm_goes_off(world: World) -> None:
    service, alarms = Service(world, count=2), world.client("cloudwatch")
    alarms.put_metric_alarm(
        AlarmName=service.name,
        Namespace="Test",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )

    execution = service.start(wait_time=PAUSE, alarm_names=[service.name])
    service.reach(execution, "pause-1")
    alarms.set_alarm_state(AlarmName=service.name, StateValue="ALARM", StateReason="test")
    report = service.end(execution)["Result"]

    assert report["outcome"] == "failed"
    assert report["problem"] == f"in ALARM: {service.name}"
    assert len(service.recycled()) == 1
    service.assert_put_back()


def it_is_behind_a_load_balancer(world: World) -> None:
    service = Service(world, target_group=True)

    report = service.recycle()

    assert report["outcome"] == "succeeded"
    assert report["capacity"]["during"] == 1
    service.assert_put_back()
    service.assert_all_replaced()


def its_targets_are_unhealthy_for_a_while(world: World) -> None:
    service = Service(world, count=2, target_group=True)

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    service.change_health_check("/unhealthy")
    service.reach(execution, "recovery-2")
    assert len(service.recycled()) == 1
    service.change_health_check("/")
    report = service.end(execution)["Result"]

    assert report["outcome"] == "succeeded"
    service.assert_put_back()
    service.assert_all_replaced()


def its_tasks_are_on_container_instances(world: World) -> None:
    service = Service(world, family=ON_INSTANCES, target_group=True)

    report = service.recycle()

    assert report["outcome"] == "succeeded"
    assert report["capacity"]["during"] == 1
    service.assert_put_back()
    service.assert_all_replaced()


def it_takes_more_operations_than_an_execution_has(world: World) -> None:
    service = Service(world, count=2)

    execution = service.start(wait_time=PAUSE)
    service.reach(execution, "pause-1")
    # As though the first replacement had taken an hour.
    service.faults.remember(execution, "replacement-1", polls=2_000)
    handed_over = service.end(execution)["Result"]

    assert handed_over["outcome"] == "continued", handed_over
    assert handed_over["tasks"] == {"planned": 1, "recycled": 1, "skipped": 0, "failed": 0}
    report = service.end(handed_over["next_execution"])["Result"]
    assert report["outcome"] == "succeeded"
    assert sorted(report["recycled"]) == sorted(service.old)
    service.assert_put_back()
    service.assert_all_replaced()


def _mail_server(account: Account) -> MailServer:
    """Return one, not started, whose certificate the functions trust."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(
        account.folder / "tls" / "server.pem", account.folder / "tls" / "server.key"
    )
    listener = socket.create_server(("127.0.0.1", 0))
    return MailServer(port_socket=listener, tls_context=tls, require_starttls=True)


def its_report_is_mailed(world: World) -> None:
    service, account, server = Service(world), world.account, _mail_server(world.account)
    server.start()
    try:
        secret = world.client("secretsmanager").create_secret(
            Name=f"mail-{service.name}",
            SecretString=json.dumps({"host": "localhost", "port": server.port, **LOGIN}),
        )["ARN"]
        parameters = {"SmtpSecretArn": secret, "ReportRecipients": "anna@example.com"}
        name = f"mail-{service.name}"
        create_further(account, name, EnableRecycleService="true", **parameters)
        assert UserStack(account, name).settled()["StackStatus"] == "CREATE_COMPLETE"

        event = {"cluster_name": service.name, "service_name": service.name, "wait_time": 0}
        execute(account, f"{name}-recycle-service:live", event, within=PATIENCE)
    finally:
        server.stop()

    (mail,) = server.mails()
    assert (mail["From"], mail["To"]) == (LOGIN["from"], "anna@example.com")
    assert mail["Subject"] == f"Recycled {service.name} in {service.name}: 1 of 1 tasks"
    assert server.logins == [True]
    service.assert_all_replaced()


def it_is_being_recycled_already(world: World) -> None:
    service = Service(world, count=2)

    first = service.start(wait_time=PAUSE)
    service.reach(first, "pause-1")
    second = service.end(service.start())

    assert second["Status"] == "FAILED"
    assert f"being recycled already, by {first}" in second["Error"]["ErrorMessage"]
    # Lambda reports the one that was refused; what comes of that leaves the first alone.
    service.reports("failed")
    assert service.desired_count == 3
    assert service.end(first)["Result"]["outcome"] == "succeeded"
    service.assert_put_back()
    service.assert_all_replaced()


def it_is_done_in_a_role(world: World) -> None:
    service, iam = Service(world), world.client("iam")
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Condition": {"StringEquals": {"sts:ExternalId": "x1"}},
    }
    name = f"recycler-{service.name}"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))["Role"]["Arn"]

    def allow(*actions: str) -> None:
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=_policy(statement))

    reading = "ecs:Describe*", "ecs:List*", "ecs:Get*", "application-autoscaling:Describe*"
    allow(*reading, "ecs:UpdateService")
    stranger = service.end(service.start(role_arn=role, external_id="guessed"))
    refused = service.recycle(role_arn=role, external_id="x1")
    service.assert_put_back()
    allow(*reading, "ecs:UpdateService", "ecs:StopTask")
    report = service.recycle(role_arn=role, external_id="x1")

    assert stranger["Status"] == "FAILED"
    assert "AssumeRole failed" in stranger["Error"]["ErrorMessage"]
    assert refused["outcome"] == "failed"
    assert "StopTask failed" in refused["problem"]
    assert report["outcome"] == "succeeded"
    service.assert_put_back()
    service.assert_all_replaced()


def its_keys_are_in_a_secret(world: World) -> None:
    service, iam, secrets = Service(world), world.client("iam"), world.client("secretsmanager")
    name = f"recycler-{service.name}"
    iam.create_user(UserName=name)
    statement = {
        "Effect": "Allow",
        "Action": ["ecs:*", "application-autoscaling:Describe*"],
        "Resource": "*",
    }
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=_policy(statement))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
    secret = secrets.create_secret(Name=name, SecretString=json.dumps(keys))["ARN"]

    report = service.recycle(credentials_secret_arn=secret)
    iam.delete_user_policy(UserName=name, PolicyName="only")
    refused = service.end(service.start(credentials_secret_arn=secret))

    assert report["outcome"] == "succeeded"
    service.assert_put_back()
    service.assert_all_replaced()
    assert refused["Status"] == "FAILED"
    assert "DescribeServices failed" in refused["Error"]["ErrorMessage"]
    assert key["SecretAccessKey"] not in json.dumps([report, refused], default=str)


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def its_input_is_bad(world: World) -> None:
    service = Service(world)
    bad: list[dict[str, Any]] = [
        {"service_name": "nowhere"},
        {"cluster_name": "nowhere"},
        {"service_name": ""},
        {"wait_time": "soon"},
        {"speed": "fast"},
        {"alarm_names": ["nothing"]},
        {"role_arn": "arn:aws:iam::000000000000:role/not-allowed"},
    ]

    for wish, execution in [(wish, service.start(**wish)) for wish in bad]:
        (field,) = wish
        ended = service.end(execution)
        assert ended["Status"] == "FAILED"
        assert field in ended["Error"]["ErrorMessage"]
    service.assert_put_back()
    assert service.kept() == service.old


STORIES = [
    nothing_goes_wrong,
    nobody_is_to_be_told,
    two_are_replaced_at_once,
    strength_need_not_be_kept,
    it_is_a_dry_run,
    tasks_are_too_young,
    a_task_is_protected,
    auto_scaling_has_no_room,
    a_person_sets_a_bound_meanwhile,
    a_person_asks_for_more,
    a_person_asks_for_fewer,
    a_deployment_begins,
    an_alarm_goes_off,
    it_is_behind_a_load_balancer,
    its_targets_are_unhealthy_for_a_while,
    its_tasks_are_on_container_instances,
    it_takes_more_operations_than_an_execution_has,
    its_report_is_mailed,
    it_is_being_recycled_already,
    it_is_done_in_a_role,
    its_keys_are_in_a_secret,
    its_input_is_bad,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_service_is_left_as_it_should_be_when(
    story: Callable[[World], None], stories: Stories
) -> None:
    stories.begin(story).result()
