"""Custom::ECSRunTask: requests, properties and answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.custom_resource import (
    EXECUTION_TIMEOUT,
    CustomResourceRequest,
    Kind,
    RunTaskProperties,
    answer_within,
    attributes,
    phase_of,
    work_of,
)
from ecs_ops.errors import InvalidRequest
from ecs_ops.task_request import CapacityProvider, Network

EVENTS = Path(__file__).parents[2] / "events/run_task"
ALL_ATTRIBUTES = {
    *("TaskArn", "ExitCode", "StopCode", "StoppedReason", "StartedAt", "StoppedAt"),
    *("LogGroup", "LogStream", "Outcome"),
}


def event(case: str = "create", **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    return content | changes


def properties(**changes: Any) -> RunTaskProperties:
    return RunTaskProperties.parse({"ServiceToken": "arn", "TaskDefinition": "shop", **changes})


def refusal(**changes: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        properties(**changes)
    return refused.value


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_event_is_understood_when_it_is_one_of_the_samples(path: Path) -> None:
    request = CustomResourceRequest.parse(event(path.stem))

    assert request.logical_resource_id == "Migration"
    assert request.stack_name == "shop"
    assert request.is_test is (path.stem == "test")
    assert RunTaskProperties.parse(request.properties).task.task_definition


def test_physical_id_is_the_same_when_create_is_repeated() -> None:
    first = CustomResourceRequest.parse(event()).physical_resource_id
    again = CustomResourceRequest.parse(event(RequestId="another")).physical_resource_id

    assert first == again
    assert first.startswith("ECSRunTask-Migration-")


@pytest.mark.parametrize(
    "change", [{"LogicalResourceId": "Seeding"}, {"StackId": "arn:aws:x:y:1:stack/shop/other"}]
)
def test_physical_id_differs_when_it_is_another_resource(change: dict[str, str]) -> None:
    first = CustomResourceRequest.parse(event()).physical_resource_id

    assert CustomResourceRequest.parse(event(**change)).physical_resource_id != first


@pytest.mark.parametrize("case", ["update", "delete", "test"])
def test_physical_id_is_kept_when_there_is_one(case: str) -> None:
    given_event = event(case)

    request = CustomResourceRequest.parse(given_event)

    assert request.physical_resource_id == given_event["PhysicalResourceId"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"RequestType": "Refresh"}, "RequestType"),
        ({"RequestType": ""}, "RequestType"),
        ({"StackId": ""}, "StackId"),
        ({"RequestId": None}, "RequestId"),
        ({"ResponseURL": ""}, "ResponseURL"),
        ({"ResponseURL": "http://example.com"}, "ResponseURL"),
        ({"ResourceProperties": "none"}, "ResourceProperties"),
    ],
)
def test_request_is_refused_when_nobody_could_be_answered(
    change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CustomResourceRequest.parse(event(**change))

    assert refused.value.field == field


def test_event_is_no_test_when_its_test_key_is_false() -> None:
    assert not CustomResourceRequest.parse(event(Test=False)).is_test


def test_defaults_apply_when_only_the_task_definition_is_given() -> None:
    parsed = properties()

    assert parsed.run_on == {"Create", "Update"}
    assert parsed.wait_for_exit is True
    assert parsed.success_exit_codes == {0}
    assert parsed.service_timeout == 3600
    assert parsed.container == ""
    assert parsed.task.enable_execute_command is None
    assert parsed.run_on_rollback is False
    assert parsed.timeout is None
    assert parsed.service == ""


def test_every_property_is_read_when_all_come_as_strings() -> None:
    parsed = RunTaskProperties.parse(event("create_every_property")["ResourceProperties"])
    task = parsed.task

    assert task.cluster == "arn:aws:ecs:eu-west-1:111122223333:cluster/shop"
    assert task.environment == {"DATABASE": "orders", "ACCOUNT": "012345678901"}
    assert task.capacity_providers == (
        CapacityProvider(name="FARGATE_SPOT", weight=3),
        CapacityProvider(name="FARGATE", weight=1, base=1),
    )
    assert task.platform_version == "1.4.0"
    assert task.network == Network(subnets=("subnet-0a1",))
    assert (task.cpu, task.memory, task.ephemeral_storage_gib) == ("512", "1024", 30)
    assert task.task_role_arn.endswith(":role/shop-migrate")
    assert task.execution_role_arn.endswith(":role/shop-execution")
    assert task.enable_execute_command is True
    assert task.group == "migrations"
    assert task.tags == {"team": "orders"}
    assert task.propagate_tags == "TASK_DEFINITION"
    assert parsed.run_on == {"Create", "Update", "Delete"}
    assert parsed.success_exit_codes == {0, 3}


def test_environment_is_the_same_when_it_is_a_list_or_a_map() -> None:
    listed = properties(Environment=[{"Name": "A", "Value": "1"}, {"Name": "B", "Value": True}])
    mapped = properties(Environment={"A": 1, "B": "true"})

    assert listed.task.environment == mapped.task.environment == {"A": "1", "B": "true"}


@given(st.text(min_size=1))
def test_strings_stay_as_they_are_whatever_they_look_like(text: str) -> None:
    assert properties(Command=[text]).task.command == (text,)


def test_scalars_are_written_as_cloudformation_would_when_a_test_event_has_json_ones() -> None:
    parsed = properties(Command=["--limit", 10, True], Cpu=512, WaitForExit=False, RunOn="Update")

    assert parsed.task.command == ("--limit", "10", "true")
    assert parsed.task.cpu == "512"
    assert parsed.wait_for_exit is False
    assert parsed.run_on == {"Update"}


def test_properties_are_left_out_when_a_template_leaves_them_empty() -> None:
    parsed = properties(
        Cluster="", LaunchType="", PlatformVersion="", Environment=[], ServiceTimeout=""
    )

    assert parsed.task == properties().task
    assert parsed.service_timeout == 3600


def test_empty_subnets_and_groups_are_left_out_when_a_list_parameter_is_empty() -> None:
    # What CloudFormation makes of a CommaDelimitedList whose value is ''.
    given = {"Subnets": ["", "subnet-1"], "SecurityGroups": [""]}

    parsed = properties(NetworkConfiguration={"AwsvpcConfiguration": given})

    assert parsed.task.network == Network(subnets=("subnet-1",))


@pytest.mark.parametrize("change", [{"Iteration": "2"}, {"Triggers": {"any": ["thing"]}}])
def test_nothing_changes_when_only_a_trigger_does(change: dict[str, Any]) -> None:
    assert properties(**change) == properties()


def test_nearest_property_is_offered_when_one_is_misspelt() -> None:
    refused = refusal(ContainerNames="app")

    assert refused.field == "ContainerNames"
    assert refused.problem == "is not a known property; did you mean ContainerName?"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"TaskDefinition": ""}, "TaskDefinition"),
        ({"TaskDefinition": ["a"]}, "TaskDefinition"),
        ({"Cluster": "a", "ClusterId": "a"}, "ClusterId"),
        ({"Command": "migrate"}, "Command"),
        ({"Command": ["a", ["b"]]}, "Command[1]"),
        ({"Environment": "A=1"}, "Environment"),
        ({"Environment": ["A=1"]}, "Environment[0]"),
        ({"Environment": [{"name": "A", "Value": "1"}]}, "Environment[0].name"),
        ({"Environment": [{"Name": "A"}]}, "Environment[0].Value"),
        ({"Environment": [{"Value": "1"}]}, "Environment[0].Name"),
        ({"Environment": [{"Name": "A", "Value": {"x": "y"}}]}, "Environment.A"),
        ({"Environment": [{"Name": "A", "Value": "1"}] * 2}, "Environment.A"),
        ({"LaunchType": "fargate"}, "LaunchType"),
        (
            {
                "LaunchType": "FARGATE",
                "CapacityProviderStrategy": [{"CapacityProvider": "FARGATE_SPOT"}],
            },
            "LaunchType",
        ),
        ({"Service": ["web"]}, "Service"),
        ({"Timeout": "0"}, "Timeout"),
        ({"Timeout": "-1"}, "Timeout"),
        ({"Timeout": "1.5"}, "Timeout"),
        ({"RunOnRollback": "maybe"}, "RunOnRollback"),
        ({"CapacityProviderStrategy": [{}]}, "CapacityProviderStrategy[0].CapacityProvider"),
        (
            {"CapacityProviderStrategy": [{"CapacityProvider": "FARGATE", "Weight": "many"}]},
            "CapacityProviderStrategy[0].Weight",
        ),
        ({"NetworkConfiguration": {}}, "NetworkConfiguration.AwsvpcConfiguration"),
        ({"NetworkConfiguration": "x"}, "NetworkConfiguration"),
        (
            {"NetworkConfiguration": {"AwsvpcConfiguration": {"SecurityGroups": ["sg-1"]}}},
            "NetworkConfiguration.AwsvpcConfiguration.Subnets",
        ),
        (
            {"NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": [""]}}},
            "NetworkConfiguration.AwsvpcConfiguration.Subnets",
        ),
        (
            {"NetworkConfiguration": {"AwsvpcConfiguration": {"Subnet": ["subnet-1"]}}},
            "NetworkConfiguration.AwsvpcConfiguration.Subnet",
        ),
        (
            {
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {"Subnets": ["subnet-1"], "AssignPublicIp": "yes"}
                }
            },
            "NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp",
        ),
        ({"EphemeralStorageGiB": "20"}, "EphemeralStorageGiB"),
        ({"EphemeralStorageGiB": "1_00"}, "EphemeralStorageGiB"),
        ({"EnableExecuteCommand": "yes"}, "EnableExecuteCommand"),
        ({"Tags": [{"Key": "a", "Value": "1"}] * 2}, "Tags.a"),
        ({"PropagateTags": "SERVICE"}, "PropagateTags"),
        ({"RunOn": ["create"]}, "RunOn"),
        ({"WaitForExit": "maybe"}, "WaitForExit"),
        ({"SuccessExitCodes": ["256"]}, "SuccessExitCodes"),
        ({"SuccessExitCodes": "-1"}, "SuccessExitCodes"),
        ({"SuccessExitCodes": "\N{ARABIC-INDIC DIGIT THREE}"}, "SuccessExitCodes"),
        ({"ServiceTimeout": "3601"}, "ServiceTimeout"),
        ({"ServiceTimeout": "9" * 5000}, "ServiceTimeout"),
    ],
)
def test_property_is_refused_by_name_when_it_is_wrong(change: dict[str, Any], field: str) -> None:
    assert refusal(**change).field == field


def test_nearest_property_is_offered_when_a_nested_one_is_misspelt() -> None:
    refused = refusal(NetworkConfiguration={"AwsvpcConfiguration": {"SubnetIds": ["subnet-1"]}})

    assert refused.field == "NetworkConfiguration.AwsvpcConfiguration.SubnetIds"
    assert refused.problem.endswith("did you mean Subnets?")


@given(st.integers(1, 3600), st.none() | st.integers(1, 9_999_999))
def test_answer_comes_in_time_whatever_the_timeouts(service: int, own: int | None) -> None:
    timeouts = {"ServiceTimeout": str(service)} | ({"Timeout": str(own)} if own else {})
    patience = properties(**timeouts).patience

    most = answer_within(service)
    assert 1 <= patience <= most <= EXECUTION_TIMEOUT
    assert patience <= (own or service)
    # Nothing is kept back beyond half a minute, or a third of what there is.
    assert patience == own or most - patience == min(30, service // 3)


STATUSES = {
    *("CREATE_COMPLETE", "CREATE_FAILED", "CREATE_IN_PROGRESS", "DELETE_COMPLETE"),
    *("DELETE_FAILED", "DELETE_IN_PROGRESS", "IMPORT_COMPLETE", "IMPORT_IN_PROGRESS"),
    *("IMPORT_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_FAILED", "IMPORT_ROLLBACK_IN_PROGRESS"),
    *("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "ROLLBACK_IN_PROGRESS"),
    *("UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_FAILED"),
    *("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"),
    *("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"),
}
FORWARD = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}


@pytest.mark.parametrize(
    ("kind", "under_way"),
    [
        ("Create", FORWARD),
        ("Update", FORWARD),
        ("Delete", {"DELETE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}),
    ],
)
def test_request_is_part_of_what_the_stack_is_about_when_its_status_says_so(
    kind: Any, under_way: set[str]
) -> None:
    rolling_back = {
        *("ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS"),
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    }
    phases = {status: phase_of(status, kind) for status in STATUSES}

    assert {status for status in STATUSES if phases[status] == "under way"} == under_way
    assert {status for status in STATUSES if phases[status] == "rolling back"} == rolling_back


NOW = 1_700_000_000.0
"""2023-11-14T22:13:20Z"""


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("X-Amz-Date=20231114T221200Z", NOW - 80),
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20231114T201320Z&X-Amz-Expires=7200",
            NOW - 7200,
        ),
        # What cannot be, or says nothing.
        ("X-Amz-Date=20231114T221321Z", NOW),
        ("X-Amz-Date=20231113T221319Z", NOW),
        ("X-Amz-Date=20231314T221200Z", NOW),
        ("X-Amz-Date=yesterday", NOW),
        ("Not-X-Amz-Date=20231114T221200Z", NOW),
        ("AWSAccessKeyId=A&Expires=1700000000&Signature=x", NOW),
    ],
)
def test_request_was_sent_when_its_url_was_signed(query: str, sent: float) -> None:
    url = f"https://answers.s3.amazonaws.com/arn%3Aaws%3Astack/shop?{query}"

    assert CustomResourceRequest.parse(event(ResponseURL=url)).sent_at(NOW) == sent


@pytest.mark.parametrize(
    ("change", "cluster"),
    [
        ({"Cluster": "shop"}, "shop"),
        ({"ClusterId": "shop"}, "shop"),
        ({"Service": "web"}, ""),
        ({"Service": "arn:aws:ecs:eu-west-1:111122223333:service/shop/web"}, "shop"),
        ({"Service": "arn:aws:ecs:eu-west-1:111122223333:service/web"}, ""),
        ({"Service": "arn:aws:ecs:eu-west-1:1:service/shop/web", "Cluster": "x"}, "x"),
    ],
)
def test_cluster_is_that_of_the_service_when_only_its_arn_names_it(
    change: dict[str, str], cluster: str
) -> None:
    assert properties(**change).task.cluster == cluster


@given(st.text(), st.text(), st.text(), st.text())
def test_origins_are_of_one_resource_each_whatever_the_names(
    stack: str, other_stack: str, logical: str, other_logical: str
) -> None:
    def origin(*, stack_id: str, name: str) -> str:
        request = CustomResourceRequest.parse(
            event(StackId=f"arn:{stack_id}", LogicalResourceId=f"L{name}")
        )
        assert re.fullmatch(r"[A-Za-z0-9/_-]{1,128}", request.origin("rollback"))
        return request.origin("")

    one = origin(stack_id=stack, name=logical)
    assert one == origin(stack_id=stack, name=logical)
    same = (stack, logical) == (other_stack, other_logical)
    assert (one == origin(stack_id=other_stack, name=other_logical)) is same


def test_origin_tells_kinds_of_task_and_a_test_apart_from_the_rest() -> None:
    create, update = (CustomResourceRequest.parse(event(case)) for case in ("create", "update"))
    test = CustomResourceRequest.parse(event("update", Test=True))
    kinds: list[Kind] = ["", "wait", "rollback", "delete"]

    origins = [create.origin(kind) for kind in kinds]

    assert origins == [update.origin(kind) for kind in kinds]
    assert len({*origins, *map(test.origin, kinds)}) == 8
    # A Delete finds what an earlier version has run, which told no kinds but these two apart.
    assert re.fullmatch(r"run_task/shop/Migration/[0-9a-f]{16}", origins[0])
    assert origins[1:] == [f"{origins[0]}/{kind}" for kind in kinds[1:]]


def test_request_is_the_same_when_it_is_to_the_byte() -> None:
    create = CustomResourceRequest.parse(event())
    again = CustomResourceRequest.parse(event())
    other = event()
    other["ResourceProperties"]["Iteration"] = "8"

    assert create.cause == again.cause
    # CloudFormation may reuse a RequestId when a deployment is tried again (aws-cdk#35957).
    assert create.cause != CustomResourceRequest.parse(other).cause
    assert create.cause != CustomResourceRequest.parse(event(RequestId="another")).cause


def test_timeout_is_known_when_other_properties_are_wrong() -> None:
    wrong = {"ServiceTimeout": "60", "Wrong": "x", "Cluster": "shop"}
    request = CustomResourceRequest.parse(event(ResourceProperties=wrong))

    assert request.service_timeout == 60
    assert request.cluster == "shop"
    badly = CustomResourceRequest.parse(event(ResourceProperties={"ServiceTimeout": "x"}))
    assert badly.service_timeout == 3600


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0*"), min_size=4)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.booleans(), st.data())
def test_no_secret_is_left_when_a_text_repeats_it(
    secrets: list[str],
    mapped: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    named = {f"NAME{index}": secret for index, secret in enumerate(secrets)}
    listed = [{"Name": name, "Value": value} for name, value in named.items()]
    sent = event(ResourceProperties={"Environment": named if mapped else listed})
    request = CustomResourceRequest.parse(sent)
    said = data.draw(st.sampled_from([*secrets, sent["ResponseURL"]]))

    for text in (f"<{said}>", json.dumps({"x": said}), f"a {said}\n{said} b"):
        hidden = request.hide(text)
        assert said not in hidden
        assert "***" in hidden


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("RunTask failed: Denied: no task for RunTask", "RunTask failed: Denied: no *** for ***"),
        ("RunTask placed no task: RESOURCE:task", "RunTask placed no task: RESOURCE:***"),
        ("StopTask got no answer: ReadTimeoutError", "StopTask got no answer: ReadTimeoutError"),
        ("unexpected KeyError: 'task'", "unexpected KeyError: '***'"),
        ("no task failed: it: task", "no *** ***: it: ***"),
    ],
)
def test_our_own_words_stay_when_an_error_begins_with_them(text: str, hidden: str) -> None:
    values = {"A": "task", "B": "RunTask", "C": "Denied", "D": "failed", "E": "answer"}
    request = CustomResourceRequest.parse(event(ResourceProperties={"Environment": values}))

    assert request.hide_in_error(text) == hidden


def test_lines_of_a_secret_are_hidden_when_a_log_has_them_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nQUJDREVGRw\n-----END KEY-----"
    request = CustomResourceRequest.parse(
        event(ResourceProperties={"Environment": {"KEY": key, "SHORT": "abc"}})
    )

    assert request.hide("key: QUJDREVGRw abc") == "key: *** abc"


@pytest.mark.parametrize(
    ("case", "run_on", "runs"),
    [
        ("create", None, True),
        ("update", None, True),
        ("delete", None, False),
        ("create", ["Update"], False),
        ("update", "Update", True),
        ("delete", ["Delete"], True),
        ("create", [], False),
    ],
)
def test_task_runs_when_run_on_says_so(case: str, run_on: Any, runs: bool) -> None:  # noqa: FBT001
    given_event = event(case)
    if run_on is not None:
        given_event["ResourceProperties"]["RunOn"] = run_on

    assert (work_of(CustomResourceRequest.parse(given_event)) is not None) is runs


@pytest.mark.parametrize("case", ["create", "update"])
def test_mistake_shows_when_nothing_would_have_run(case: str) -> None:
    given_event = event(case, ResourceProperties={"RunOn": "Delete", "TaskDefinitions": "shop"})

    with pytest.raises(InvalidRequest):
        work_of(CustomResourceRequest.parse(given_event))


def test_stack_can_be_deleted_when_its_properties_were_refused() -> None:
    given_event = event("delete", ResourceProperties={"RunOn": "Delete", "Wrong": "shop"})

    assert work_of(CustomResourceRequest.parse(given_event)) is None


@given(SECRETS, st.data())
def test_beginning_of_a_secret_is_hidden_when_a_line_is_cut_inside_it(
    secret: str, data: st.DataObject
) -> None:
    request = CustomResourceRequest.parse(event(ResourceProperties={"Environment": {"A": secret}}))
    length = data.draw(st.integers(4, len(secret)))

    hidden = request.hide_in_line(f"<{secret[:length]}...")
    assert secret[:length] not in hidden
    assert "***" in hidden
    assert request.hide_in_line("nothing here...") == "nothing here..."


def test_execution_ends_in_the_template_when_the_rules_say_so() -> None:
    template = (EVENTS.parents[1] / "template.yaml").read_text()

    assert f"ExecutionTimeout: {EXECUTION_TIMEOUT}\n" in template


def test_nothing_runs_on_delete_when_this_function_never_made_the_resource() -> None:
    given_event = event("delete", PhysicalResourceId="shop-Migration-1A2B3C4D5E6F")
    given_event["ResourceProperties"]["RunOn"] = ["Delete"]

    assert work_of(CustomResourceRequest.parse(given_event)) is None
    assert work_of(CustomResourceRequest.parse(given_event | {"Test": True})) is not None


def test_all_attributes_are_there_when_nothing_ran() -> None:
    data = attributes("Skipped")

    assert data.keys() == ALL_ATTRIBUTES
    assert data["Outcome"] == "Skipped"
    assert all(isinstance(value, str) for value in data.values())


def test_attributes_are_filled_when_the_task_has_ended() -> None:
    data = attributes(
        "Succeeded",
        task={
            "taskArn": "arn:aws:ecs:eu-west-1:111122223333:task/shop/1",
            "clusterArn": "arn:aws:ecs:eu-west-1:111122223333:cluster/shop",
            "lastStatus": "STOPPED",
            "containers": [],
            "stopCode": "EssentialContainerExited",
            "stoppedReason": "Essential container in task exited",
            "startedAt": "2024-05-02T10:15:30.000Z",
            "stoppedAt": "2024-05-02T10:16:30.000Z",
        },
        exit_code=0,
        log_group="/shop",
        log_stream="ecs/app/1",
    )

    assert data == {
        "TaskArn": "arn:aws:ecs:eu-west-1:111122223333:task/shop/1",
        "ExitCode": "0",
        "StopCode": "EssentialContainerExited",
        "StoppedReason": "Essential container in task exited",
        "StartedAt": "2024-05-02T10:15:30.000Z",
        "StoppedAt": "2024-05-02T10:16:30.000Z",
        "LogGroup": "/shop",
        "LogStream": "ecs/app/1",
        "Outcome": "Succeeded",
    }


@given(st.text())
def test_failure_has_a_short_plain_reason_whatever_went_wrong(reason: str) -> None:
    answer = CustomResourceRequest.parse(event()).failed(reason)

    assert answer["Status"] == "FAILED"
    assert 1 <= len(answer["Reason"]) <= 4000
    assert answer["Reason"].isascii()
    assert answer["Data"] == {}


@given(st.text(st.sampled_from('"\\aé\n🎉'), min_size=2000))
def test_answer_fits_when_everything_in_it_is_as_long_as_it_gets(text: str) -> None:
    cluster = "c" * 255
    request = CustomResourceRequest.parse(
        event(
            "update",
            StackId=f"arn:aws:cloudformation:ap-southeast-1:1:stack/{'s' * 128}/{'u' * 48}",
            LogicalResourceId="L" * 255,
            PhysicalResourceId="P" * 1024,
        )
    )
    data = attributes(
        "Succeeded",
        task={
            "taskArn": f"arn:aws:ecs:ap-southeast-1:111122223333:task/{cluster}/{'i' * 32}",
            "clusterArn": cluster,
            "lastStatus": "STOPPED",
            "containers": [],
            "stopCode": "ServiceSchedulerInitiated",
            "stoppedReason": text,
            "startedAt": "2024-05-02T10:15:30.000Z",
            "stoppedAt": "2024-05-02T10:16:30.000Z",
        },
        exit_code=255,
        log_group="/" * 600,
        log_stream="s" * 600,
    )
    ours = request.succeeded(data)
    body = {
        **ours,
        "StackId": request.stack_id,
        "RequestId": request.request_id,
        "LogicalResourceId": request.logical_resource_id,
        "NoEcho": False,
    }

    assert len(json.dumps(body)) <= 4096
