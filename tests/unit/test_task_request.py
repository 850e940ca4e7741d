"""The arguments of RunTask, and the rules of ECS they obey."""

import json
import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.task_request import (
    OVERRIDES_LIMIT,
    CapacityProvider,
    ContainerDefinition,
    Network,
    TaskRequest,
    check_environment,
    choose_container,
    client_token,
    deciding_containers,
    inherit,
    run_task_arguments,
    started_by,
)

TASK_ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
WORDS = st.text(max_size=300)


def arguments(**task: Any) -> dict[str, Any]:
    request = TaskRequest(**{"task_definition": "shop-migrate", **task})
    return dict(
        run_task_arguments(request, container="app", token="t", origin="o", blame="Environment")
    )


def test_only_what_was_asked_for_is_sent_when_the_rest_is_left_out() -> None:
    assert arguments() == {
        "taskDefinition": "shop-migrate",
        "clientToken": "t",
        "startedBy": "o",
        "count": 1,
    }


def test_everything_reaches_its_place_when_everything_is_given() -> None:
    sent = arguments(
        cluster="shop",
        command=["./manage.py", "migrate"],
        environment={"DATABASE": "orders"},
        capacity_providers=[
            CapacityProvider(name="FARGATE_SPOT", weight=3),
            CapacityProvider(name="FARGATE", weight=0, base=1),
        ],
        platform_version="1.4.0",
        network=Network(
            subnets=["subnet-1"], security_groups=["sg-1"], assign_public_ip="DISABLED"
        ),
        cpu="512",
        memory="1024",
        ephemeral_storage_gib=30,
        task_role_arn="arn:task",
        execution_role_arn="arn:execution",
        enable_execute_command=False,
        group="migrations",
        tags={"team": "orders"},
        propagate_tags="TASK_DEFINITION",
    )

    assert sent == {
        "taskDefinition": "shop-migrate",
        "clientToken": "t",
        "startedBy": "o",
        "count": 1,
        "cluster": "shop",
        "capacityProviderStrategy": [
            {"capacityProvider": "FARGATE_SPOT", "weight": 3},
            {"capacityProvider": "FARGATE", "weight": 0, "base": 1},
        ],
        "platformVersion": "1.4.0",
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": ["subnet-1"],
                "securityGroups": ["sg-1"],
                "assignPublicIp": "DISABLED",
            }
        },
        "overrides": {
            "containerOverrides": [
                {
                    "name": "app",
                    "command": ["./manage.py", "migrate"],
                    "environment": [{"name": "DATABASE", "value": "orders"}],
                }
            ],
            "cpu": "512",
            "memory": "1024",
            "ephemeralStorage": {"sizeInGiB": 30},
            "taskRoleArn": "arn:task",
            "executionRoleArn": "arn:execution",
        },
        "enableExecuteCommand": False,
        "group": "migrations",
        "tags": [{"key": "team", "value": "orders"}],
        "propagateTags": "TASK_DEFINITION",
    }


def test_launch_type_is_refused_when_capacity_providers_are_given() -> None:
    with pytest.raises(InvalidRequest) as refused:
        arguments(launch_type="FARGATE", capacity_providers=[CapacityProvider(name="FARGATE")])

    assert refused.value.field == "LaunchType"


def test_overrides_are_sent_when_they_just_fit() -> None:
    empty = {"containerOverrides": [{"name": "app", "environment": [{"name": "A", "value": ""}]}]}
    room = OVERRIDES_LIMIT - len(json.dumps(empty, separators=(",", ":")))

    assert arguments(environment={"A": "x" * room})["overrides"]
    with pytest.raises(InvalidRequest, match="take 8193 characters"):
        arguments(environment={"A": "x" * (room + 1)})


def test_no_value_is_repeated_when_overrides_are_too_large() -> None:
    with pytest.raises(InvalidRequest) as refused:
        arguments(environment={"TOKEN": "hunter2" * 2000})

    assert refused.value.field == "Environment"
    assert "hunter2" not in str(refused.value)


@given(st.lists(WORDS, max_size=4))
def test_client_token_is_what_ecs_takes_when_made_of_anything(cause: list[str]) -> None:
    token = client_token(*cause)

    assert re.fullmatch(r"[!-~]{1,64}", token)
    assert token == client_token(*cause)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4))
@example(["ab", "c"], ["a", "bc"])
def test_client_tokens_differ_when_causes_do(one: list[str], other: list[str]) -> None:
    assume(one != other)

    assert client_token(*one) != client_token(*other)


@given(st.lists(WORDS, max_size=4))
@example(["run_task", "shop", "L" * 255])
def test_started_by_is_what_ecs_takes_when_made_of_anything(parts: list[str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9/_-]{0,128}", started_by(*parts))


def test_started_by_can_be_read_when_it_is_short() -> None:
    assert (
        started_by("launch_task", "assumed-role/Dev/a@b.c") == "launch_task/assumed-role/Dev/a-b-c"
    )


def test_long_started_by_stay_apart_when_only_their_ends_differ() -> None:
    assert started_by("x" * 200 + "1") != started_by("x" * 200 + "2")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="=\0", codec="utf-8"), min_size=1),
        st.text(st.characters(exclude_characters="\0", codec="utf-8"))
        | st.integers()
        | st.booleans(),
    )
)
def test_environment_is_all_text_when_it_is_accepted(given_values: dict[str, Any]) -> None:
    environment = check_environment(given_values.items(), blame="Environment")

    assert environment.keys() == given_values.keys()
    for name, value in given_values.items():
        assert environment[name] == (value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([("", "x")], "Environment."),
        ([("A=B", "x")], "Environment.A=B"),
        ([("A", "x"), ("A", "x")], "Environment.A"),
        ([("A", None)], "Environment.A"),
        ([("A", ["x"])], "Environment.A"),
        ([("A", {"x": "y"})], "Environment.A"),
        ([("A", "hunter2\0")], "Environment.A"),
    ],
)
def test_environment_is_refused_by_name_when_it_is_none(pairs: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_environment(pairs, blame="Environment")

    assert refused.value.field == field
    assert "hunter2" not in str(refused.value)


APP = ContainerDefinition(name="app")
PROXY = ContainerDefinition(name="proxy")
SIDECAR = ContainerDefinition(name="logs", essential=False)


def test_the_only_essential_container_is_chosen_when_none_is_named() -> None:
    assert choose_container([SIDECAR, APP], "", blame="ContainerName") is APP


def test_the_named_container_is_chosen_when_it_exists() -> None:
    assert choose_container([APP, SIDECAR], "logs", blame="ContainerName") is SIDECAR


@pytest.mark.parametrize(("containers", "wanted"), [([APP, PROXY], ""), ([], ""), ([APP], "web")])
def test_no_container_is_chosen_when_there_is_a_doubt(
    containers: list[ContainerDefinition], wanted: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        choose_container(containers, wanted, blame="ContainerName")

    assert refused.value.field == "ContainerName"


def deciding(*containers: ContainerDefinition, wanted: str = "", overrides: bool = False) -> Any:
    return deciding_containers(containers, wanted, overrides=overrides, blame="ContainerName")


def test_every_essential_container_decides_when_none_is_named() -> None:
    assert deciding(APP, SIDECAR, PROXY) == (APP, PROXY)


def test_named_container_decides_alone_when_one_is_named() -> None:
    assert deciding(APP, SIDECAR, PROXY, wanted="logs") == (SIDECAR,)


def test_only_essential_container_decides_when_it_gets_the_overrides() -> None:
    assert deciding(SIDECAR, APP, overrides=True) == (APP,)


@pytest.mark.parametrize(
    ("containers", "overrides"), [([APP, PROXY], True), ([SIDECAR], False), ([], False)]
)
def test_container_must_be_named_when_there_is_a_doubt(
    containers: list[ContainerDefinition],
    overrides: bool,  # noqa: FBT001
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        deciding(*containers, overrides=overrides)

    assert refused.value.field == "ContainerName"


SERVICE: Any = {
    "launchType": "FARGATE",
    "platformVersion": "1.4.0",
    "awsvpcConfiguration": {
        "subnets": ["subnet-9"],
        "securityGroups": ["sg-9"],
        "assignPublicIp": "ENABLED",
    },
}
SPOT: Any = {
    "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 2, "base": 1}],
    "platformVersion": "LATEST",
}
SHOP = TaskRequest(task_definition="shop")


def test_everything_is_inherited_when_the_task_leaves_it_open() -> None:
    task = inherit(SHOP, SERVICE)

    assert task.launch_type == "FARGATE"
    assert task.platform_version == "1.4.0"
    assert task.network == Network(
        subnets=("subnet-9",), security_groups=("sg-9",), assign_public_ip="ENABLED"
    )
    providers = inherit(SHOP, SPOT).capacity_providers
    assert providers == (CapacityProvider(name="FARGATE_SPOT", weight=2, base=1),)


def test_what_the_task_says_wins_when_the_service_says_otherwise() -> None:
    network = Network(subnets=("subnet-1",))
    own = TaskRequest(task_definition="shop", launch_type="EC2", network=network)

    assert inherit(own, SPOT) == own
    assert inherit(own, SERVICE) == own


def test_platform_version_is_inherited_when_the_task_asks_for_fargate_too() -> None:
    own = TaskRequest(task_definition="shop", launch_type="FARGATE")

    assert inherit(own, SPOT).platform_version == "LATEST"
    assert inherit(own, SPOT).capacity_providers == ()


def test_nothing_changes_when_there_is_no_service() -> None:
    assert inherit(SHOP, {}) == SHOP


def test_log_stream_is_known_when_the_driver_has_a_prefix() -> None:
    container = ContainerDefinition(name="app", log_group="/shop", log_stream_prefix="ecs")

    assert container.log_stream(TASK_ID) == f"ecs/app/{TASK_ID}"


@pytest.mark.parametrize("container", [APP, ContainerDefinition(name="app", log_group="/shop")])
def test_log_stream_is_empty_when_it_cannot_be_known(container: ContainerDefinition) -> None:
    assert container.log_stream(TASK_ID) == ""
