"""template.yaml keeps the promises it makes to users, and to those who read it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from ecs_ops import custom_resource
from ecs_ops.aws.metrics import NAMES
from ecs_ops.event_record import read_event, record_of
from ecs_ops.event_view import newest, task_state
from ecs_ops.settings import LaunchTaskSettings, LogEventsSettings, RecycleServiceSettings

PATH = Path(__file__).parents[2] / "template.yaml"
EVENTS = PATH.parent / "events"
TEMPLATE: dict[str, Any] = cfn_yaml.load(str(PATH))
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = {
    name: resource["Properties"]
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
}
CONSTRAINTS = {"AllowedPattern", "AllowedValues", "MaxLength", "MaxValue", "MinLength", "MinValue"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_explains_itself_when_somebody_deploys(name: str) -> None:
    parameter = PARAMETERS[name]

    assert parameter["Description"].endswith(".")
    assert "Default" in parameter
    if CONSTRAINTS & parameter.keys():
        assert parameter["ConstraintDescription"]


def test_every_parameter_is_in_a_group_when_the_console_asks() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]

    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_does_something_when_it_is_set(name: str) -> None:
    text = PATH.read_text()

    assert re.search(rf"!Ref {name}\b|\$\{{{name}\}}", text)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_a_log_group_and_a_policy_of_its_own(name: str) -> None:
    properties = FUNCTIONS[name]
    group = RESOURCES[properties["LoggingConfig"]["LogGroup"]["Ref"]]

    assert group["Properties"]["LogGroupName"]["Fn::Sub"] == (
        f"/aws/lambda/{properties['FunctionName']['Fn::Sub']}"
    )
    assert properties["Policies"]
    assert "Role" not in properties


@pytest.mark.parametrize("name", ["RunTaskFunction", "RecycleServiceFunction"])
def test_durable_function_is_published_as_live(name: str) -> None:
    assert FUNCTIONS[name]["AutoPublishAlias"] == "live"
    assert FUNCTIONS[name]["DurableConfig"]["ExecutionTimeout"] > 0


def versions(monkeypatch: pytest.MonkeyPatch, *, layer: str) -> set[str]:
    """Return the logical ids of the versions that the transform makes of code in these places."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    template = copy.deepcopy(TEMPLATE)
    for resource in template["Resources"].values():
        for where in {"CodeUri", "ContentUri"} & resource["Properties"].keys():
            key = layer if where == "ContentUri" else resource["Properties"][where]
            resource["Properties"][where] = f"s3://bucket/{key}"
    translated = Translator({}, Parser()).translate(template, {})
    return {
        name
        for name, resource in translated["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Version"
    }


def test_version_is_published_when_only_the_layer_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nearly all code is in the layer; without a version of its own it would not reach the alias.
    first = versions(monkeypatch, layer="one")
    second = versions(monkeypatch, layer="two")

    assert len(first) == len(second) == 2
    assert not first & second
    assert versions(monkeypatch, layer="one") == first


@pytest.mark.parametrize("name", ["RunTaskFunction", "RecycleServiceFunction"])
def test_version_is_published_and_the_old_one_kept_when_the_revision_has_changed(name: str) -> None:
    function = RESOURCES[name]["Properties"]

    # A version with another description is another version, if the function has changed as well.
    assert function["VersionDescription"] == {"Ref": "Revision"}
    assert "${Revision}" in function["Description"]["Fn::Sub"]
    assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    # It would be that of the versions, too.
    assert "DeletionPolicy" not in RESOURCES[name]


def test_names_of_functions_fit_when_the_stack_has_as_long_a_name_as_is_said() -> None:
    (most,) = re.findall(
        r"name of at most (\d+) characters", (PATH.parent / "README.md").read_text()
    )
    suffixes = [one["FunctionName"]["Fn::Sub"].partition("}")[2] for one in FUNCTIONS.values()]

    assert int(most) + max(map(len, suffixes)) == 64


def test_recycle_may_begin_as_many_further_executions_as_it_needs() -> None:
    # Else Lambda drops the seventeenth of a chain, and nobody puts the service back.
    assert FUNCTIONS["RecycleServiceFunction"]["RecursiveLoop"] == "Allow"


def test_run_task_counts_on_the_execution_timeout_that_it_has() -> None:
    timeout = FUNCTIONS["RunTaskFunction"]["DurableConfig"]["ExecutionTimeout"]

    assert timeout == custom_resource.EXECUTION_TIMEOUT


def test_every_property_is_documented_when_the_custom_resource_takes_it() -> None:
    page = (PATH.parent / "docs" / "custom-ecs-run-task.md").read_text()

    assert [name for name in custom_resource.KNOWN if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LogEventsFunction", LogEventsSettings),
        ("RecycleServiceFunction", RecycleServiceSettings),
        ("LaunchTaskFunction", LaunchTaskSettings),
    ],
)
def test_settings_are_complete_when_the_template_sets_them(name: str, settings: Any) -> None:
    variables = FUNCTIONS[name]["Environment"]["Variables"]
    given = {key: "1" for key in variables if not key.startswith("POWERTOOLS_")}

    assert settings.from_env(given)
    for missing in given:
        with pytest.raises(Exception, match=missing):
            settings.from_env({key: "1" for key in given if key != missing})


def test_each_star_has_its_reason_beside_it() -> None:
    lines = PATH.read_text().splitlines()
    stars = [number for number, line in enumerate(lines) if re.search(r'Resource: "\*"', line)]

    assert stars
    assert all(lines[number - 1].strip().startswith("#") for number in stars)


def test_partition_is_never_written_out() -> None:
    assert "arn:aws:" not in PATH.read_text()


def test_roles_are_handed_to_tasks_and_to_nobody_else() -> None:
    statements = [
        statement
        for properties in FUNCTIONS.values()
        for policy in properties["Policies"]
        for statement in policy["Statement"]
        if statement.get("Action") == "iam:PassRole"
    ]

    assert len(statements) == 2
    for statement in statements:
        passed_to = statement["Condition"]["StringEquals"]["iam:PassedToService"]
        assert passed_to == "ecs-tasks.amazonaws.com"


KEY = {"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
KEYS_OF = {
    "AWS::DynamoDB::Table": "SSESpecification",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SecretsManager::Secret": "KmsKeyId",
}


@pytest.mark.parametrize(
    "name", [name for name, resource in RESOURCES.items() if resource["Type"] in KEYS_OF]
)
def test_everything_at_rest_is_encrypted_with_the_key_when_there_is_one(name: str) -> None:
    kind, properties = RESOURCES[name]["Type"], RESOURCES[name]["Properties"]
    if kind == "AWS::DynamoDB::Table":
        condition, encryption, otherwise = properties["SSESpecification"]["Fn::If"]
        assert (condition, otherwise) == ("HasKmsKey", {"Ref": "AWS::NoValue"})
        assert encryption == {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": {"Ref": "KmsKeyArn"},
        }
    else:
        assert properties[KEYS_OF[kind]] == KEY
    if kind == "AWS::SQS::Queue":
        assert properties["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", False, True]}


def test_inputs_of_durable_executions_are_encrypted_with_the_key_when_there_is_one() -> None:
    durable = [one["DurableConfig"] for one in FUNCTIONS.values() if "DurableConfig" in one]

    assert [config["KMSKeyArn"] for config in durable] == [KEY, KEY]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_uses_the_key_through_other_services_when_there_is_one(name: str) -> None:
    (policy,) = FUNCTIONS[name]["Policies"]
    statements = [one for one in policy["Statement"] if "kms:" in json.dumps(one)]

    assert statements
    for condition, statement, otherwise in (one["Fn::If"] for one in statements):
        assert (condition, otherwise) == ("HasKmsKey", {"Ref": "AWS::NoValue"})
        assert statement["Action"] in {"kms:Decrypt", "kms:GenerateDataKey"}
        assert statement["Resource"] == {"Ref": "KmsKeyArn"}
        assert [*statement["Condition"]] == ["StringEquals"]
        assert [*statement["Condition"]["StringEquals"]] == ["kms:ViaService"]


def test_every_role_is_bounded_and_every_function_in_the_vpc_when_parameters_say_so() -> None:
    common = TEMPLATE["Globals"]["Function"]
    condition, vpc, otherwise = common["VpcConfig"]["Fn::If"]

    assert common["PermissionsBoundary"] == {
        "Fn::If": [
            "HasPermissionsBoundary",
            {"Ref": "PermissionsBoundaryArn"},
            {"Ref": "AWS::NoValue"},
        ]
    }
    assert (condition, otherwise) == ("HasVpc", {"Ref": "AWS::NoValue"})
    assert set(vpc) == {"SubnetIds", "SecurityGroupIds"}
    for properties in FUNCTIONS.values():
        assert not {"PermissionsBoundary", "Role", "VpcConfig"} & properties.keys()
    # The transform makes one for each function, and nobody else does.
    assert [one for one in RESOURCES.values() if one["Type"] == "AWS::IAM::Role"] == []


def test_functions_may_not_what_the_transform_allows_and_nobody_needs() -> None:
    policy = RESOURCES["RoleLimits"]["Properties"]
    interfaces, groups = policy["PolicyDocument"]["Statement"]
    roles = [role["Fn::If"][1]["Ref"] for role in policy["Roles"]]

    assert sorted(roles) == sorted(f"{name}Role" for name in FUNCTIONS)
    assert (interfaces["Effect"], interfaces["Action"]) == ("Deny", "ec2:*")
    # Lambda itself, which has to make them, calls without it.
    assert interfaces["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}
    assert (groups["Effect"], groups["Action"]) == ("Deny", "logs:CreateLogGroup")
    assert "Condition" not in groups


def test_event_log_alone_is_left_when_the_stack_is_deleted() -> None:
    kept = {
        name: resource["DeletionPolicy"]
        for name, resource in RESOURCES.items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }

    assert kept == {"EventTable": "RetainExceptOnCreate"}


def test_each_check_that_is_left_out_has_its_reason_above_it() -> None:
    lines = (PATH.parent / ".checkov.yaml").read_text().splitlines()
    listed = lines[lines.index("skip-check:") + 1 :]

    assert listed
    for above, line in zip(["", *listed], listed, strict=False):
        if line.startswith("  - "):
            assert above.startswith(("  # ", "  - "))
        else:
            assert line.startswith("  # ")


def test_outputs_are_those_that_other_stacks_rely_on() -> None:
    outputs = TEMPLATE["Outputs"]

    assert set(outputs) == {
        "AlertTopicArn",
        "DashboardUrl",
        "EventDeadLetterQueueUrl",
        "EventQueueUrl",
        "EventTableName",
        "LauncherSecretArn",
        "LauncherUrl",
        "RecycleFunctionName",
        "RunTaskServiceToken",
    }
    assert all(output["Description"].endswith(".") for output in outputs.values())
    export = outputs["RunTaskServiceToken"]["Export"]["Name"]["Fn::Sub"]
    assert export == "${AWS::StackName}-RunTaskServiceToken"
    parameter = RESOURCES["RunTaskServiceTokenParameter"]["Properties"]["Name"]["Fn::Sub"]
    assert parameter == "/${AWS::StackName}/run-task/service-token"


def test_records_of_deployments_pass_when_the_rule_is_narrowed_to_clusters() -> None:
    pattern = RESOURCES["EcsEventsRule"]["Properties"]["EventPattern"]
    _condition, narrowed, _all = pattern["detail"]["Fn::If"]

    # Their detail has no clusterArn.
    assert {"clusterArn": [{"exists": False}]} in narrowed["$or"]


def test_event_table_has_the_keys_and_indexes_that_readers_query() -> None:
    table = RESOURCES["EventTable"]["Properties"]
    indexes = {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in table["GlobalSecondaryIndexes"]
    }

    assert [key["AttributeName"] for key in table["KeySchema"]] == ["resourceArn", "eventKey"]
    assert indexes == {
        "taskDefinitionArn-eventKey-index": ["taskDefinitionArn", "eventKey"],
        "failedClusterArn-eventKey-index": ["failedClusterArn", "eventKey"],
        "launcher-launchKey-index": ["launcher", "launchKey"],
    }
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_launched_task_is_seen_whole_when_only_the_index_is_read() -> None:
    table = RESOURCES["EventTable"]["Properties"]
    index = next(
        index
        for index in table["GlobalSecondaryIndexes"]
        if index["IndexName"] == "launcher-launchKey-index"
    )
    keys = [key["AttributeName"] for key in [*table["KeySchema"], *index["KeySchema"]]]
    held = {*keys, *index["Projection"]["NonKeyAttributes"]}
    sample = json.loads((EVENTS / "log_events" / "task_stopped_failed.json").read_text())
    event = read_event(sample["Records"][0]["body"])
    record = record_of(event, retention_days=1, now=0)

    seen = {name: value for name, value in record.items() if name in held}

    assert task_state(seen) == task_state(record)
    assert newest([seen]) == seen
    # Readers leave out what has expired.
    assert "ttl" in held


def test_launcher_is_open_to_the_internet_only_when_a_secret_says_who_may_call() -> None:
    opened = [
        resource
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Lambda::Permission"
        and resource["Properties"]["Principal"] == "*"
    ]
    auth = FUNCTIONS["LaunchTaskFunction"]["FunctionUrlConfig"]["AuthType"]

    assert auth == {"Fn::If": ["HasLauncherSecret", "NONE", "AWS_IAM"]}
    assert {one["Properties"]["Action"] for one in opened} == {
        "lambda:InvokeFunction",
        "lambda:InvokeFunctionUrl",
    }
    for permission in opened:
        assert permission["Condition"] == "HasLauncherSecret"
        # Either way in is the URL; nobody is let in by Invoke.
        through = {"FunctionUrlAuthType": "NONE", "InvokedViaFunctionUrl": True}
        assert through.items() & permission["Properties"].items()


def test_launcher_stops_nothing_but_what_it_launched() -> None:
    launcher = FUNCTIONS["LaunchTaskFunction"]
    stops = [
        statement
        for policy in launcher["Policies"]
        for statement in policy["Statement"]
        if "ecs:StopTask" in statement.get("Action", ())
    ]

    assert [statement["Condition"] for statement in stops] == [
        {"StringEquals": {"aws:ResourceTag/ecs-ops:launcher": launcher["FunctionName"]}}
    ]
    # The name that its code puts into that tag.
    assert launcher["Environment"]["Variables"]["LAUNCH_NAME"] == launcher["FunctionName"]


def test_alarms_may_tell_the_topic_when_they_are_of_this_account() -> None:
    statements = RESOURCES["AlertTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (allowed,) = [one for one in statements if one["Effect"] == "Allow"]

    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_every_alarm_is_on_the_dashboard_and_can_be_switched_off() -> None:
    alarms = {
        name: resource
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    shown = json.dumps(RESOURCES["Dashboard"])

    assert alarms
    for name, alarm in alarms.items():
        assert f"${{{name}.Arn}}" in shown
        assert TEMPLATE["Conditions"][alarm["Condition"]]["Fn::And"][0] == {
            "Condition": "HasAlarms"
        }


def test_every_metric_is_documented() -> None:
    page = (PATH.parent / "docs" / "operations.md").read_text()

    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_saved_queries_name_fields_that_are_logged() -> None:
    queries = [
        resource["Properties"]["QueryString"]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Logs::QueryDefinition"
    ]
    # What the runtime, Powertools, the durable SDK and our own lines write; and functions.
    known = {
        *("level", "message", "logger", "record", "status", "error", "messages"),
        *("failed", "correlation_id", "executionArn", "operationName", "Cluster", "Service"),
        *("Outcome", "log", "timestamp", *NAMES),
        *("fields", "filter", "sort", "limit", "stats", "sum", "ispresent", "by", "as", "in"),
        *("or", "and", "desc", "asc"),
    }

    assert queries
    for query in queries:
        words = set(re.findall(r"[A-Za-z_]+", re.sub(r'"[^"]*"', "", query)))
        assert words <= known
