"""A caller can do in ECS what its policy says, on the resources AWS checks, and nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.sandbox.conftest import allow, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.sandbox.conftest import Cluster

_ARN = "arn:aws:ecs:us-east-1:000000000000"
_ROLE = "arn:aws:iam::000000000000:role/app"


@pytest.fixture
def ecs_as(client_as: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ECS client of a new user who has just these statements."""
    return partial(client_as, "ecs")


def test_run_task_is_allowed_on_the_task_definition_when_policy_names_it(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    definition = cluster.define("exit 0")
    other = cluster.define("exit 0")
    ecs = ecs_as(allow("ecs:RunTask", definition))

    assert not refused(lambda: ecs.run_task(cluster=cluster.name, taskDefinition=definition))
    assert "ecs:RunTask" in refused(
        lambda: ecs.run_task(cluster=cluster.name, taskDefinition=other)
    )


def test_pass_role_is_needed_when_a_task_is_given_a_role(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    request = {
        "cluster": cluster.name,
        "taskDefinition": cluster.define("exit 0"),
        "overrides": {"taskRoleArn": _ROLE},
    }
    run = allow("ecs:RunTask", "*")
    to_ecs = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    without, wrong, right = (
        ecs_as(run),
        ecs_as(run, allow("iam:PassRole", _ROLE, StringEquals=to_ec2)),
        ecs_as(run, allow("iam:PassRole", _ROLE, StringEquals=to_ecs)),
    )

    assert "iam:PassRole" in refused(lambda: without.run_task(**request))
    assert "iam:PassRole" in refused(lambda: wrong.run_task(**request))
    assert not refused(lambda: right.run_task(**request))


def test_tag_resource_is_needed_when_a_task_is_run_with_tags(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    request = {
        "cluster": cluster.name,
        "taskDefinition": cluster.define("exit 0"),
        "tags": [{"key": "team", "value": "a"}],
    }
    run = allow("ecs:RunTask", "*")

    assert "ecs:TagResource" in refused(lambda: ecs_as(run).run_task(**request))
    tag = allow("ecs:TagResource", f"{_ARN}:task/*")
    assert not refused(lambda: ecs_as(run, tag).run_task(**request))


def test_stop_task_is_allowed_on_the_task_when_policy_names_its_cluster(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    arn = cluster.run(cluster.define("sleep 60"))
    elsewhere = ecs_as(allow("ecs:StopTask", f"{_ARN}:task/other/*"))
    here = ecs_as(allow("ecs:StopTask", f"{_ARN}:task/{cluster.name}/*"))

    assert "ecs:StopTask" in refused(lambda: elsewhere.stop_task(cluster=cluster.name, task=arn))
    assert not refused(lambda: here.stop_task(cluster=cluster.name, task=arn.rpartition("/")[2]))


def test_stop_task_is_allowed_by_a_tag_when_the_task_was_run_with_it(
    cluster: Cluster, ecs_as: Callable[..., Any]
) -> None:
    definition = cluster.define("sleep 60")
    tagged = cluster.run(definition, tags=[{"key": "app:owner", "value": "a"}])
    others = cluster.run(definition, tags=[{"key": "app:owner", "value": "b"}])
    untagged = cluster.run(definition)
    condition = {"aws:ResourceTag/app:owner": "a"}
    ecs = ecs_as(allow("ecs:StopTask", f"{_ARN}:task/*", StringEquals=condition))

    assert not refused(lambda: ecs.stop_task(cluster=cluster.name, task=tagged))
    assert "ecs:StopTask" in refused(lambda: ecs.stop_task(cluster=cluster.name, task=others))
    assert "ecs:StopTask" in refused(lambda: ecs.stop_task(cluster=cluster.name, task=untagged))
