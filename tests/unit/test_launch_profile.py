"""Profiles: how they are read, who may use them, and what they let a caller set."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.errors import InvalidRequest
from ecs_ops.launch_profile import (
    FARGATE_SIZES,
    BrokenProfile,
    EnvironmentRule,
    Profile,
    Profiles,
    check_size,
    check_tags,
    check_values,
    read_profiles,
    read_rules,
)

ALICE = "arn:aws:sts::111122223333:assumed-role/Developer/alice"
NIGHTLY = {"taskDefinition": "nightly:3", "subnets": ["subnet-1"]}


def profile(**given_: Any) -> Profile:
    return Profile(**{"name": "default", "task_definition": "job", "subnets": ("s",), **given_})


def read(**further: Any) -> Profiles:
    return read_profiles(profile(), json.dumps(further))


def refusal(check: Any, *arguments: Any, **named: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        check(*arguments, **named)
    return refused.value


class TestReading:
    def test_profile_has_what_the_parameter_says(self) -> None:
        whole = {
            "cluster": "batch",
            "taskDefinition": "arn:aws:ecs:eu-west-1:111122223333:task-definition/nightly:3",
            "container": "job",
            "subnets": ["subnet-1", "subnet-2"],
            "securityGroups": ["sg-1"],
            "assignPublicIp": True,
            "environment": {"JOB_*": None, "MODE": "dev|prod"},
            "command": True,
            "maxCpu": 1024,
            "maxMemory": 4096,
            "tags": ["Team", "Cost*"],
            "callers": ["alice"],
            "webhook": {"JOB_REF": "ref"},
        }

        found = read(nightly=whole).usable["nightly"]

        assert found == Profile(
            name="nightly",
            cluster="batch",
            task_definition=str(whole["taskDefinition"]),
            container="job",
            subnets=("subnet-1", "subnet-2"),
            security_groups=("sg-1",),
            assign_public_ip=True,
            environment=(
                EnvironmentRule(name="JOB_*"),
                EnvironmentRule(name="MODE", value="dev|prod"),
            ),
            command=True,
            max_cpu=1024,
            max_memory=4096,
            tags=("Team", "Cost*"),
            callers=("alice",),
            webhook={"JOB_REF": "ref"},
        )
        assert found.family == "nightly"

    def test_only_the_default_one_is_there_when_there_is_no_parameter(self) -> None:
        assert list(read_profiles(profile(), "").usable) == ["default"]

    @pytest.mark.parametrize(
        ("content", "culprit"),
        [
            ([], "broken"),
            ({"taskDefinition": "job"}, "subnets"),
            ({"subnets": ["s"]}, "taskDefinition"),
            ({**NIGHTLY, "subnets": []}, "subnets"),
            ({**NIGHTLY, "subnets": "s"}, "subnets"),
            ({**NIGHTLY, "subnets": [1]}, "subnets"),
            ({**NIGHTLY, "cluster": 7}, "cluster"),
            ({**NIGHTLY, "cluster": " "}, "cluster"),
            ({**NIGHTLY, "Command": True}, "Command"),
            ({**NIGHTLY, "command": "yes"}, "command"),
            ({**NIGHTLY, "assignPublicIp": "ENABLED"}, "assignPublicIp"),
            ({**NIGHTLY, "maxCpu": True}, "maxCpu"),
            ({**NIGHTLY, "maxCpu": -1, "maxMemory": 1}, "maxCpu"),
            ({**NIGHTLY, "maxCpu": 256}, "maxCpu"),
            ({**NIGHTLY, "environment": ["MODE"]}, "environment"),
            ({**NIGHTLY, "environment": {"MODE": 1}}, "environment.MODE"),
            ({**NIGHTLY, "environment": {"MODE": "("}}, "environment.MODE"),
            ({**NIGHTLY, "environment": {"": None}}, "environment."),
            ({**NIGHTLY, "environment": {"JOB_?": None}}, "environment.JOB_?"),
            ({**NIGHTLY, "tags": ["a b"]}, "tags"),
            ({**NIGHTLY, "callers": "alice"}, "callers"),
            ({**NIGHTLY, "callers": []}, "callers"),
            ({**NIGHTLY, "environment": {"MODE": "a{4294967296}"}}, "environment.MODE"),
            ({**NIGHTLY, "environment": {"MODE": "(" * 3000 + ")" * 3000}}, "environment.MODE"),
            ({**NIGHTLY, "webhook": {"MODE": "ref"}}, "webhook.MODE"),
            ({**NIGHTLY, "environment": {"MODE": None}, "webhook": {"MODE": 1}}, "webhook.MODE"),
        ],
    )
    def test_one_is_refused_by_name_and_the_others_stand_when_it_is_broken(
        self, content: Any, culprit: str
    ) -> None:
        profiles = read(broken=content, nightly=NIGHTLY)

        assert profiles.broken["broken"].startswith(f"{culprit}: ")
        assert set(profiles.usable) == {"default", "nightly"}
        assert profiles.choose("nightly", ALICE).name == "nightly"
        with pytest.raises(BrokenProfile, match="broken"):
            profiles.choose("broken", ALICE)

    @pytest.mark.parametrize("name", ["default", "", "a/b", "-a", "ä", "x" * 33])
    def test_name_is_refused_when_it_cannot_be_one(self, name: str) -> None:
        assert list(read_profiles(profile(), json.dumps({name: NIGHTLY})).broken) == [name]

    @pytest.mark.parametrize("text", ["{", "[]", '"x"', "[" * 100_000])
    def test_default_one_stands_when_the_parameter_is_no_object(self, text: str) -> None:
        profiles = read_profiles(profile(), text)

        assert profiles.choose("default", ALICE).name == "default"
        with pytest.raises(BrokenProfile):
            profiles.choose("nightly", ALICE)


class TestCallers:
    @pytest.mark.parametrize(
        ("pattern", "may"),
        [
            (ALICE, True),
            ("arn:aws:sts::111122223333:assumed-role/Developer/*", True),
            ("arn:aws:iam::111122223333:role/Developer", True),
            ("arn:aws:iam::111122223333:role/Dev*", True),
            ("arn:aws:iam::111122223333:role/teams/search/Developer", True),
            ("arn:aws:iam::111122223333:role/*", True),
            ("arn:aws:iam::111122223333:role/Operator", False),
            ("arn:aws:iam::999922223333:role/Developer", False),
            ("alice", False),
        ],
    )
    def test_profile_is_for_those_it_names(self, pattern: str, may: bool) -> None:  # noqa: FBT001
        profiles = read(nightly={**NIGHTLY, "callers": [pattern]})

        assert ("nightly" in profiles.of(ALICE)) is may

    @pytest.mark.parametrize(
        "path", ["analysts/*", "aws-reserved/sso.amazonaws.com/*", "a*/Developer", "teams/Dev*"]
    )
    def test_profile_is_broken_when_a_pattern_has_the_path_of_roles(self, path: str) -> None:
        # No session tells it: without the path it would be for roles that are not meant.
        profiles = read(nightly={**NIGHTLY, "callers": [f"arn:aws:iam::111122223333:role/{path}"]})

        assert "nightly" not in profiles.of(ALICE)
        assert "callers" in profiles.broken["nightly"]

    def test_profile_is_unknown_when_it_is_for_others(self) -> None:
        profiles = read(nightly={**NIGHTLY, "callers": ["bob"]}, other=NIGHTLY)

        told = str(refusal(profiles.choose, "nightly", "alice"))

        assert told == "profile: is not one you may use; allowed: default, other"
        assert profiles.choose("nightly", "bob").name == "nightly"


def values(rules: tuple[str, ...], environment: dict[str, str]) -> None:
    check_values(profile(environment=read_rules(rules)), environment, blame="environment")


class TestEnvironment:
    @pytest.mark.parametrize(
        ("rules", "name", "value"),
        [
            (("MODE",), "MODE", "anything\nat all"),
            (("JOB_*",), "JOB_", ""),
            (("JOB_*_FILE",), "JOB_A_FILE", "x"),
            (("MODE=dev|prod",), "MODE", "prod"),
            (("JOB_*=[0-9]+", "JOB_NAME"), "JOB_NAME", "x"),
            (("*", "PATH"), "PATH", "/bin"),
            (("AWS_REGION",), "AWS_REGION", "eu-west-1"),
            (("A=x=y",), "A", "x=y"),
        ],
    )
    def test_value_may_be_set_when_a_rule_allows_it(
        self, rules: tuple[str, ...], name: str, value: str
    ) -> None:
        values(rules, {name: value})

    @pytest.mark.parametrize(
        ("rules", "name", "value"),
        [
            ((), "MODE", "x"),
            (("LD_*",), "LD_*", "x"),
            (("MODE",), "mode", "x"),
            (("MODE",), "MODE2", "x"),
            (("JOB_*",), "XJOB_A", "x"),
            (("MODE=dev|prod",), "MODE", "production"),
            (("MODE=dev|prod",), "MODE", "dev\n"),
            (("JOB_*=[0-9]+",), "JOB_LIMIT", ""),
            (("MODE=dev", "M*"), "MODE", "prod"),
            (("*",), "JOB_\nLD_PRELOAD", "x"),
            (("*",), "JOB NAME", "x"),
        ],
    )
    def test_value_is_refused_by_name_when_no_rule_allows_it(
        self, rules: tuple[str, ...], name: str, value: str
    ) -> None:
        error = refusal(values, rules, {name: value})

        assert error.field == f"environment.{name}"
        assert not value or value not in error.problem.split()

    @pytest.mark.parametrize(
        "name",
        [
            *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "path", "IFS"),
            *("AWS_ACCESS_KEY_ID", "aws_profile", "ECS_CONTAINER_METADATA_URI_V4", "PYTHONPATH"),
            *("NODE_OPTIONS", "BASH_ENV", "GIT_SSH_COMMAND", "https_proxy", "JAVA_TOOL_OPTIONS"),
            *("SSL_CERT_FILE", "_JAVA_OPTIONS", "PERL5OPT", "RUBYOPT", "GCONV_PATH"),
        ],
    )
    def test_delicate_name_is_refused_when_only_a_pattern_fits(self, name: str) -> None:
        assert refusal(values, ("*", f"{name[:3]}*"), {name: "x"}).field == f"environment.{name}"
        values(("*", name), {name: "x"})

    def test_expression_is_not_asked_when_the_value_is_longer_than_ecs_takes(self) -> None:
        # It would take half a minute: the square of the length.
        error = refusal(values, ("MODE=[a-z]*[a-z0-9]*x",), {"MODE": "a" * 100_000})

        assert error.problem == "must be at most 8192 characters"

    def test_expressions_are_not_asked_when_the_values_together_are_longer(self) -> None:
        many = {f"MODE{number}": "a" * 8000 for number in range(100)}

        error = refusal(values, ("MODE*=[a-z]*",), many)

        assert (error.field, error.problem) == ("body", "must be at most 8192 characters")

    @given(
        st.dictionaries(st.text(string.ascii_uppercase + "_", min_size=1), st.text(), max_size=4),
        st.lists(st.text(string.ascii_uppercase + "_", min_size=1), max_size=4),
    )
    def test_nothing_but_what_is_listed_passes(
        self, environment: dict[str, str], names: list[str]
    ) -> None:
        if set(environment) <= set(names):
            values(tuple(names), environment)
        else:
            refusal(values, tuple(names), environment)


class TestSize:
    @given(st.integers(0, 20_000), st.integers(0, 130_000))
    def test_size_is_one_that_fargate_has_within_the_limits(self, cpu: int, memory: int) -> None:
        allowed = profile(max_cpu=4096, max_memory=16384)
        fits = cpu <= 4096 and memory <= 16384 and memory in FARGATE_SIZES.get(cpu, ())

        if fits:
            check_size(allowed, cpu, memory)
        else:
            assert refusal(check_size, allowed, cpu, memory).field in {"cpu", "memory"}

    def test_every_size_passes_when_the_limits_are_the_largest(self) -> None:
        allowed = profile(max_cpu=16384, max_memory=122880)

        for cpu, sizes in FARGATE_SIZES.items():
            for memory in sizes:
                check_size(allowed, cpu, memory)

    @pytest.mark.parametrize(
        ("cpu", "memory", "field"),
        [
            (256, None, "memory"),
            (None, 512, "cpu"),
            (256, 1536, "memory"),
            (0, 512, "cpu"),
            (2048, 4096, "cpu"),
            (1024, 8192, "memory"),
        ],
    )
    def test_culprit_is_named_when_the_size_is_wrong(
        self, cpu: int | None, memory: int | None, field: str
    ) -> None:
        assert (
            refusal(check_size, profile(max_cpu=1024, max_memory=4096), cpu, memory).field == field
        )

    def test_size_is_refused_when_the_profile_allows_none(self) -> None:
        assert refusal(check_size, profile(), 256, 512).field == "cpu"
        check_size(profile(), None, None)


class TestTags:
    @pytest.mark.parametrize(
        ("key", "value"), [("Team", ""), ("Cost:center", "a/b + c@d=e_f-g"), ("Cost", "ä" * 256)]
    )
    def test_tag_may_be_set_when_the_profile_allows_it(self, key: str, value: str) -> None:
        check_tags(profile(tags=("Team", "Cost*")), {key: value})

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("Other", "x"),
            ("ecs-ops:caller", "mallory"),
            ("ECS-OPS:caller", "mallory"),
            ("aws:x", "x"),
            ("a,b", "x"),
            ("x" * 129, "x"),
            ("Team", "x" * 257),
            ("Team", "<b>"),
            ("Team", "AWS:x"),
        ],
    )
    def test_tag_is_refused_by_name_when_it_is_wrong(self, key: str, value: str) -> None:
        allowed = profile(tags=("*",) if key != "Other" else ("Team",))

        assert refusal(check_tags, allowed, {key: value}).field == f"tags.{key}"
