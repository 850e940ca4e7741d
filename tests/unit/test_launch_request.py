"""What a caller of launch_task asks for, and the RunTask that follows from it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.launch_profile import EnvironmentRule, Profile
from ecs_ops.launch_request import (
    Order,
    launch_arguments,
    read_environment,
    read_order,
    read_webhook,
    request_token,
    webhook_token,
)

ALICE = "arn:aws:sts::111122223333:assumed-role/Developer/alice"
PROFILE = Profile(
    name="nightly",
    cluster="shop",
    task_definition="nightly",
    container="job",
    subnets=("subnet-1", "subnet-2"),
    security_groups=("sg-1",),
    environment=(EnvironmentRule(name="JOB_*"), EnvironmentRule(name="MODE", value="[a-z]+")),
    command=True,
    max_cpu=1024,
    max_memory=2048,
    tags=("Team",),
    webhook={"JOB_REF": "ref", "JOB_COMMIT": "head_commit.id"},
)


def refusal(read: Any, *arguments: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        read(*arguments)
    return refused.value


class TestFlatBody:
    def test_values_become_the_text_they_are_written_as_when_they_are_no_strings(self) -> None:
        body = '{"A": 1.10, "B": 1e400, "C": true, "D": -0, "E": "x"}'

        environment = read_environment(body).environment

        assert environment == {"A": "1.10", "B": "1e400", "C": "true", "D": "-0", "E": "x"}

    @given(
        st.dictionaries(
            st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z"),
            st.text(st.characters(exclude_characters="\0", codec="utf-8")),
        )
    )
    def test_strings_arrive_unchanged(self, values: dict[str, str]) -> None:
        assert read_environment(json.dumps(values)).environment == values

    @pytest.mark.parametrize("body", ["", "  \n", "{}"])
    def test_nothing_is_asked_for_when_the_body_is_empty(self, body: str) -> None:
        assert read_environment(body) == read_order(body).__replace__(blame="") == Order()

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ("not json", "body"),
            ('{"MODE": "x"', "body"),
            ('"MODE"', "body"),
            ("[]", "body"),
            ('[["MODE", "x"]]', "body"),
            ("3", "body"),
            ("null", "body"),
            ('{"MODE": NaN}', "body"),
            ("[" * 200_000, "body"),
            ('{"MODE":' * 200_000, "body"),
            ('{"MODE": null}', "MODE"),
            ('{"MODE": {}}', "MODE"),
            ('{"MODE": {"A": "b"}}', "MODE"),
            ('{"MODE": ["a"]}', "MODE"),
            ('{"MODE": "a", "MODE": "b"}', "MODE"),
            ('{"MODE": "a\\u0000"}', "MODE"),
            ('{"": "a"}', ""),
            ('{"JOB_=": "a"}', "JOB_="),
        ],
    )
    def test_body_is_refused_by_name_when_it_is_wrong(self, body: str, field: str) -> None:
        assert refusal(read_environment, body).field == field

    def test_no_value_is_repeated_when_a_body_is_refused(self) -> None:
        assert "hunter2" not in str(refusal(read_environment, '{"MODE": ["hunter2"]}'))


class TestOrder:
    def test_order_has_what_the_body_says(self) -> None:
        body = {
            "profile": "nightly",
            "environment": {"MODE": "x", "JOB_LIMIT": 1.10, "JOB_DRY": False},
            "command": ["run", "--all"],
            "cpu": 256,
            "memory": 512,
            "tags": {"Team": "a"},
        }

        assert read_order(json.dumps(body)) == Order(
            profile="nightly",
            environment={"MODE": "x", "JOB_LIMIT": "1.1", "JOB_DRY": "false"},
            command=("run", "--all"),
            cpu=256,
            memory=512,
            tags={"Team": "a"},
            blame="environment",
        )

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ("[]", "body"),
            ({"Profile": "x"}, "Profile"),
            ('{"cpu": 256, "cpu": 512}', "cpu"),
            ({"profile": 3}, "profile"),
            ({"profile": None}, "profile"),
            ({"environment": []}, "environment"),
            ({"environment": None}, "environment"),
            ({"environment": {"A": None}}, "environment.A"),
            ({"environment": {"A": {}}}, "environment.A"),
            ({"command": "run"}, "command"),
            ({"command": {}}, "command"),
            ({"command": []}, "command"),
            ({"command": ["run", 1]}, "command[1]"),
            ({"command": ["run\0"]}, "command"),
            ({"cpu": "256"}, "cpu"),
            ({"cpu": 256.5}, "cpu"),
            ({"cpu": -256}, "cpu"),
            ({"cpu": True}, "cpu"),
            ({"cpu": None}, "cpu"),
            ({"memory": None}, "memory"),
            ({"command": None}, "command"),
            ({"command": ["\ud800"]}, "command"),
            ({"environment": {"A": "\ud800"}}, "environment.A"),
            ({"environment": {"\ud800": "a"}}, "environment.\ud800"),
            ({"tags": None}, "tags"),
            ('{"memory": 1' + "0" * 5000 + "}", "memory"),
            ({"tags": {"Team": 1}}, "tags.Team"),
            ({"tags": ["Team"]}, "tags"),
            ('{"tags": {"Team": "a", "Team": "b"}}', "tags.Team"),
            ({"tags": {f"k{n}": "" for n in range(41)}}, "tags"),
        ],
    )
    def test_body_is_refused_by_name_when_it_is_wrong(self, body: Any, field: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)

        assert refusal(read_order, text).field == field


class TestWebhook:
    def test_environment_is_what_the_profile_takes_from_the_body(self) -> None:
        body = {"ref": "refs/heads/main", "head_commit": {"id": "abc"}, "PATH": "/tmp"}

        order = read_webhook(json.dumps(body), PROFILE)

        assert order.profile == "nightly"
        assert order.environment == {"JOB_REF": "refs/heads/main", "JOB_COMMIT": "abc"}

    @pytest.mark.parametrize(
        "body", [{}, {"head_commit": None}, {"head_commit": "x"}, {"ref": None}]
    )
    def test_variable_is_left_out_when_the_body_has_none(self, body: Any) -> None:
        assert read_webhook(json.dumps(body), PROFILE).environment == {}

    @pytest.mark.parametrize("body", [{"ref": {"a": 1}}, {"ref": ["a"]}, []])
    def test_body_is_refused_when_what_is_taken_is_nested(self, body: Any) -> None:
        assert refusal(read_webhook, json.dumps(body), PROFILE).field in {"JOB_REF", "body"}

    def test_token_is_the_same_when_the_same_body_is_delivered_again(self) -> None:
        first = webhook_token(launcher="one", profile="a", body=b"x")

        assert webhook_token(launcher="one", profile="a", body=b"x") == first
        assert webhook_token(launcher="two", profile="a", body=b"x") != first
        assert webhook_token(launcher="one", profile="b", body=b"x") != first
        assert webhook_token(launcher="one", profile="a", body=b"y") != first


def token(**given_: Any) -> str:
    return request_token(
        **{
            "launcher": "ecs-ops-launch-task",
            "profile": "nightly",
            "caller": ALICE,
            "key": "k",
            "request_id": "1",
            **given_,
        }
    )


class TestToken:
    def test_token_is_the_same_when_the_caller_repeats_the_key(self) -> None:
        assert token(request_id="1") == token(request_id="2")

    @pytest.mark.parametrize(
        "other",
        [{"caller": "bob"}, {"profile": "other"}, {"key": "l"}, {"launcher": "test-launch-task"}],
    )
    def test_token_differs_when_anything_else_does(self, other: dict[str, str]) -> None:
        assert token(**other) != token()

    def test_token_differs_when_requests_have_no_key(self) -> None:
        assert token(key=None, request_id="1") != token(key=None, request_id="2")

    @pytest.mark.parametrize("key", ["", "k" * 256])
    def test_key_is_refused_when_its_length_is_wrong(self, key: str) -> None:
        assert refusal(lambda: token(key=key)).field == "Idempotency-Key"


def arguments(order: Order, profile: Profile = PROFILE, caller: str = ALICE) -> dict[str, Any]:
    return dict(
        launch_arguments(
            order,
            profile,
            launcher="ecs-ops-launch-task",
            caller=caller,
            container="job",
            token="t",
        )
    )


class TestArguments:
    def test_profile_is_launched_on_fargate_in_the_callers_name(self) -> None:
        order = Order(
            environment={"MODE": "x"}, command=("run",), cpu=256, memory=512, tags={"Team": "a"}
        )

        assert arguments(order) == {
            "cluster": "shop",
            "taskDefinition": "nightly",
            "clientToken": "t",
            "startedBy": "ecs-ops-launch-task/nightly/assumed-role/Developer/alice",
            "count": 1,
            "launchType": "FARGATE",
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": ["subnet-1", "subnet-2"],
                    "securityGroups": ["sg-1"],
                    "assignPublicIp": "DISABLED",
                }
            },
            "overrides": {
                "containerOverrides": [
                    {
                        "name": "job",
                        "command": ["run"],
                        "environment": [{"name": "MODE", "value": "x"}],
                    }
                ],
                "cpu": "256",
                "memory": "512",
            },
            "tags": [
                {"key": "Team", "value": "a"},
                {"key": "ecs-ops:launcher", "value": "ecs-ops-launch-task"},
                {"key": "ecs-ops:profile", "value": "nightly"},
                {"key": "ecs-ops:caller", "value": ALICE},
            ],
        }

    @pytest.mark.parametrize(
        ("order", "field"),
        [
            (Order(environment={"OTHER": "x"}), "OTHER"),
            (Order(environment={"OTHER": "x"}, blame="environment"), "environment.OTHER"),
            (Order(environment={"MODE": "9"}), "MODE"),
            (Order(cpu=2048, memory=4096), "cpu"),
            (Order(tags={"Other": "x"}), "tags.Other"),
            (Order(environment={"MODE": "x" * 9000}), "MODE"),
            (Order(environment={"MODE": "x" * 5000, "JOB_A": "x" * 5000}), "body"),
            (Order(command=("x" * 9000,)), "body"),
        ],
    )
    def test_order_is_refused_by_name_when_the_profile_does_not_allow_it(
        self, order: Order, field: str
    ) -> None:
        assert refusal(arguments, order).field == field

    def test_command_is_refused_when_the_profile_has_its_own(self) -> None:
        assert (
            refusal(arguments, Order(command=("x",)), PROFILE.__replace__(command=False)).field
            == "command"
        )

    @given(st.text(min_size=1))
    def test_caller_fits_into_startedby_and_tag_whatever_its_name(self, caller: str) -> None:
        sent = arguments(Order(), caller=caller)

        assert len(sent["startedBy"]) <= 128
        assert sent["startedBy"].startswith("ecs-ops-launch-task/nightly/")
        assert len(sent["tags"][-1]["value"]) <= 256
