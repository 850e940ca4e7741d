"""The bundle is deployed over an earlier one, and deleted: nothing is lost, nothing left behind.

In an account of this module's own the old stack gets a record, a migration that waits for its task
and a recycle that waits for a replacement. Then today's bundle is deployed over it, and what waits
is let go.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.http import call
from tests.e2e.stacks import UserStack
from tests.sandbox import stack
from tests.sandbox.account import REPOSITORY, STACK, temporary_account
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.account import Account

# Before the launcher was completed: its table has an index less, its roles may do other things.
PREVIOUS = "bcfcdd95799b082db8f765c5a77c4d383f98e78a"
SERVICE = "upgraded"
CLUSTER = {"cluster": stack.DEMO_CLUSTER}
NETWORK = {"awsvpcConfiguration": {"subnets": [stack.DEMO_SUBNET]}}
MIGRATION = """
Parameters:
  Command: {Type: String}
Resources:
  Migration:
    Type: Custom::ECSRunTask
    Properties:
      ServiceToken: !ImportValue ecs-ops-RunTaskServiceToken
      ServiceTimeout: 600
      Cluster: demo
      TaskDefinition: demo-migrate
      LaunchType: FARGATE
      NetworkConfiguration: {AwsvpcConfiguration: {Subnets: [subnet-demo]}}
      Command: [sh, -c, !Ref Command]
Outputs:
  TaskArn: {Value: !GetAtt Migration.TaskArn}
  ExitCode: {Value: !GetAtt Migration.ExitCode}
"""


@dataclass(frozen=True)
class Before:
    """The account at the end of the old stack's time."""

    resources: set[str]
    """What there was before any stack."""
    outputs: dict[str, str]
    record: dict[str, Any]
    migration: UserStack
    recycle: str
    """The execution's ARN."""
    recycled: set[str]
    """The service's tasks at first."""
    gate: Path
    """As long as it is missing, the migration's task runs, and no new task is healthy."""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with temporary_account(tmp_path_factory.mktemp("upgrade")) as running:
        stack.create_demo_cluster(running)
        yield running


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the bundle of the earlier commit; return its template."""
    git = ["git", "-C", str(REPOSITORY), "archive", PREVIOUS]
    archive = subprocess.run(git, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no history here, such as in a shallow clone: {archive.stderr.decode()}")
    tree = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
    return stack.build(tree)


@pytest.fixture(scope="module")
def before(account: Account, previous: Path, tmp_path_factory: pytest.TempPathFactory) -> Before:
    ecs, functions = account.client("ecs"), account.client("lambda")
    resources = _resources(account)
    outputs = stack.deploy(account, template=previous)
    task = ecs.run_task(**CLUSTER, taskDefinition="demo-job", launchType="FARGATE")
    recorded = eventually(
        lambda: _records(account, outputs, task["tasks"][0]["taskArn"]), "its record", within=60
    )

    gate = tmp_path_factory.mktemp("gate") / "open"
    gate.touch()
    _create_service(ecs, f"until test -e {gate}; do sleep 0.1; done")
    recycled = set(ecs.list_tasks(**CLUSTER, serviceName=SERVICE)["taskArns"])
    gate.unlink()
    recycle = functions.invoke(
        FunctionName=outputs["RecycleFunctionName"],
        InvocationType="Event",
        Payload=json.dumps(
            {"cluster_name": stack.DEMO_CLUSTER, "service_name": SERVICE, "wait_time": 0}
        ),
    )["DurableExecutionArn"]
    migration = UserStack(account)
    _begin(account, migration, f"until test -e {gate}; do sleep 0.1; done; exit 0")
    eventually(
        lambda: _running(ecs, family="demo-migrate") and len(_running(ecs, family=SERVICE)) > 2,
        "a task of the migration, and a replacement",
        within=60,
    )
    return Before(resources, outputs, recorded[0], migration, recycle, recycled, gate)


@pytest.fixture(scope="module")
def outputs(account: Account, before: Before, built: None) -> dict[str, str]:  # noqa: ARG001 (they come first)
    """Deploy today's bundle over the old one, and then let go what waits."""
    outputs = stack.deploy(account)
    waiting = account.client("lambda").get_durable_execution(DurableExecutionArn=before.recycle)
    assert waiting["Status"] == "RUNNING"
    before.gate.touch()
    return outputs


def test_outputs_stay_as_they_were_when_it_is_upgraded(
    before: Before, outputs: dict[str, str]
) -> None:
    assert before.outputs.items() <= outputs.items()


def test_record_is_kept_when_it_is_upgraded(
    account: Account, before: Before, outputs: dict[str, str]
) -> None:
    kept = _records(account, outputs, before.record["resourceArn"]["S"])

    assert before.record in kept


def test_migration_that_waited_ends_well_when_it_is_upgraded(before: Before) -> None:
    assert before.migration.settled()["StackStatus"] == "CREATE_COMPLETE"
    assert before.migration.outputs()["ExitCode"] == "0"


def test_recycle_that_waited_ends_well_when_it_is_upgraded(
    account: Account, before: Before
) -> None:
    ecs, functions = account.client("ecs"), account.client("lambda")

    def ended() -> dict[str, Any] | None:
        found = functions.get_durable_execution(DurableExecutionArn=before.recycle)
        return None if found["Status"] == "RUNNING" else found

    execution = eventually(ended, "the end of the recycle", within=120)

    assert execution["Status"] == "SUCCEEDED", execution
    assert json.loads(execution["Result"])["outcome"] == "succeeded"
    left = set(ecs.list_tasks(**CLUSTER, serviceName=SERVICE, desiredStatus="RUNNING")["taskArns"])
    assert not left & before.recycled


def test_task_runs_and_is_recorded_when_it_has_been_upgraded(
    account: Account, outputs: dict[str, str]
) -> None:
    migration = UserStack(account)

    assert migration.create(MIGRATION, Command="exit 0")["StackStatus"] == "CREATE_COMPLETE"

    task = migration.outputs()["TaskArn"]
    eventually(lambda: _records(account, outputs, task), "its record", within=60)
    migration.delete()


def test_launcher_launches_when_it_has_been_upgraded(
    account: Account, outputs: dict[str, str]
) -> None:
    token = stack.launcher_token(account, outputs)

    answer = call(
        account,
        "POST",
        outputs["LauncherUrl"],
        b"{}",
        {"Authorization": f"Bearer {token}"},
        sign=False,
    )

    assert answer.status == 202


def test_event_bridge_may_send_to_each_queue_when_it_has_been_upgraded(
    account: Account, outputs: dict[str, str]
) -> None:
    sqs = account.client("sqs")
    assert outputs

    queues = account.client("events").list_targets_by_rule(Rule=f"{STACK}-ecs-events")
    assert len(queues["Targets"]) == 2
    for target in queues["Targets"]:
        url = sqs.get_queue_url(QueueName=target["Arn"].rpartition(":")[2])["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        (statement,) = json.loads(found["Policy"])["Statement"]
        assert statement["Resource"] == target["Arn"]
        assert statement["Condition"]["ArnEquals"]["aws:SourceArn"].endswith("-ecs-events")


def test_changed_parameter_is_in_a_new_version_and_the_old_one_stays_when_the_revision_changes(
    account: Account, outputs: dict[str, str]
) -> None:
    functions = account.client("lambda")
    name, _, alias = outputs["RecycleFunctionName"].rpartition(":")
    old = functions.get_alias(FunctionName=name, Name=alias)["FunctionVersion"]
    changed = {"ReportSubjectPrefix": "[new]", "Revision": "2"}

    stack.deploy(account, parameters={**stack.PARAMETERS, **changed})

    def prefix(qualifier: str) -> str:
        found = functions.get_function_configuration(FunctionName=name, Qualifier=qualifier)
        return str(found["Environment"]["Variables"]["REPORT_SUBJECT_PREFIX"])

    assert (prefix(old), prefix(alias)) == ("", "[new]")


def test_event_log_alone_is_left_when_the_stack_is_deleted(
    account: Account, before: Before, outputs: dict[str, str]
) -> None:
    before.migration.delete()
    account.client("ecs").delete_service(**CLUSTER, service=SERVICE, force=True)

    stack.delete(account)

    left = _resources(account) - before.resources
    assert left == {f"table {outputs['EventTableName']}", f"log group {stack.LOG_GROUP}"}
    assert before.record in _records(account, outputs, before.record["resourceArn"]["S"])


def _records(account: Account, outputs: dict[str, str], arn: str) -> list[dict[str, Any]]:
    """Return what the event log has on a task, oldest first."""
    answer = account.client("dynamodb").query(
        TableName=outputs["EventTableName"],
        KeyConditionExpression="resourceArn = :arn",
        ExpressionAttributeValues={":arn": {"S": arn}},
    )
    return list(answer["Items"])


def _create_service(ecs: Any, health: str) -> None:
    """Create a service of two tasks, healthy once the command ends; wait until they are."""
    ecs.register_task_definition(
        family=SERVICE,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "app",
                "image": "busybox",
                "command": ["sh", "-c", "exec sleep 1000"],
                # The check itself waits: for ten minutes a task is neither healthy nor unhealthy.
                "healthCheck": {"command": ["CMD-SHELL", health], "timeout": 60, "retries": 10},
            }
        ],
    )
    ecs.create_service(
        **CLUSTER,
        serviceName=SERVICE,
        taskDefinition=SERVICE,
        desiredCount=2,
        launchType="FARGATE",
        networkConfiguration=NETWORK,
    )

    def healthy() -> bool:
        arns = _running(ecs, family=SERVICE)
        found = ecs.describe_tasks(**CLUSTER, tasks=arns)["tasks"] if arns else []
        return [task["healthStatus"] for task in found] == ["HEALTHY", "HEALTHY"]

    eventually(healthy, "two healthy tasks", within=60)


def _running(ecs: Any, *, family: str) -> list[str]:
    answer = ecs.list_tasks(**CLUSTER, family=family, desiredStatus="RUNNING")
    return list(answer["taskArns"])


def _begin(account: Account, migration: UserStack, command: str) -> None:
    """Begin to create the stack, without waiting for it."""
    account.client("cloudformation").create_stack(
        StackName=migration.name,
        TemplateBody=MIGRATION,
        Parameters=[{"ParameterKey": "Command", "ParameterValue": command}],
    )


def _resources(account: Account) -> set[str]:
    """Return what is in the account of all that the template makes, by kind and name."""

    def names(
        kind: str, service: str, operation: str, key: str, name: str = "", **query: str
    ) -> set[str]:
        found = getattr(account.client(service), operation)(**query).get(key, [])
        return {f"{kind} {one[name] if name else one}" for one in found}

    return set().union(
        names("function", "lambda", "list_functions", "Functions", "FunctionName"),
        names("layer", "lambda", "list_layers", "Layers", "LayerName"),
        names("mapping", "lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
        names("table", "dynamodb", "list_tables", "TableNames"),
        names("queue", "sqs", "list_queues", "QueueUrls"),
        names("topic", "sns", "list_topics", "Topics", "TopicArn"),
        names("subscription", "sns", "list_subscriptions", "Subscriptions", "SubscriptionArn"),
        names("rule", "events", "list_rules", "Rules", "Name"),
        names("role", "iam", "list_roles", "Roles", "RoleName"),
        names("policy", "iam", "list_policies", "Policies", "PolicyName", Scope="Local"),
        names("log group", "logs", "describe_log_groups", "logGroups", "logGroupName"),
        names("alarm", "cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
        names("dashboard", "cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
        names("parameter", "ssm", "describe_parameters", "Parameters", "Name"),
        names("secret", "secretsmanager", "list_secrets", "SecretList", "Name"),
    )
