"""Bounds are compared and set one by one: as a rule, and as what is sent to Auto Scaling.

What goes over moto: tests/integration/test_ecs_services.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.aws.scalable_target import ScalableTarget, changed
from ecs_ops.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ecs_ops.recycle import Bounds

TARGET = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/shop/web",
    "ScalableDimension": "ecs:service:DesiredCount",
}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with Stubber(boto3.client("application-autoscaling", "us-west-2")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def bounds(lowest: int, highest: int) -> Bounds:
    return {"lowest": lowest, "highest": highest}


def present(stub: Stubber, lowest: int, highest: int) -> ScalableTarget:
    """Queue an answer of DescribeScalableTargets."""
    told: dict[str, Any] = {
        **TARGET,
        "MinCapacity": lowest,
        "MaxCapacity": highest,
        "RoleARN": "arn:aws:iam::111122223333:role/scaling",
        "CreationTime": 0,
    }
    asked = {**TARGET, "ResourceIds": [TARGET["ResourceId"]]}
    del asked["ResourceId"]
    stub.add_response("describe_scalable_targets", {"ScalableTargets": [told]}, asked)
    return ScalableTarget(lambda _service: stub.client, "shop", "web")


def test_only_the_bound_that_changes_is_sent_when_the_other_stays(stub: Stubber) -> None:
    target = present(stub, 1, 4)
    stub.add_response("register_scalable_target", {}, {**TARGET, "MaxCapacity": 5})

    assert target.change_bounds(bounds(1, 4), bounds(1, 5)) == bounds(1, 5)


def test_nothing_is_sent_when_nothing_changes(stub: Stubber) -> None:
    target = present(stub, 1, 4)

    assert target.change_bounds(bounds(2, 5), bounds(1, 4)) == bounds(1, 4)


def test_error_is_transient_when_another_change_is_being_made(stub: Stubber) -> None:
    target = present(stub, 1, 4)
    stub.add_client_error("register_scalable_target", "ConcurrentUpdateException")

    with pytest.raises(Transient):
        target.change_bounds(bounds(1, 4), bounds(2, 5))


@pytest.mark.parametrize(
    ("now", "expected", "wanted", "after"),
    [
        # Raising: somebody lowered the maximum. A raised minimum would never be lowered again.
        ((1, 3), (1, 5), (6, 6), (1, 3)),
        # Restoring: somebody raised the minimum above the old maximum.
        ((4, 6), (6, 6), (1, 3), (4, 4)),
        ((6, 9), (6, 6), (1, 5), (1, 9)),
    ],
)
def test_change_of_somebody_else_is_kept_when_it_is_in_the_way(
    now: tuple[int, int], expected: tuple[int, int], wanted: tuple[int, int], after: tuple[int, int]
) -> None:
    assert changed(bounds(*now), bounds(*expected), bounds(*wanted)) == bounds(*after)


ordered = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda pair: bounds(*sorted(pair)))


@given(ordered, ordered, ordered)
def test_bounds_stay_in_order_and_others_changes_are_kept_whatever_they_are(
    now: Bounds, expected: Bounds, wanted: Bounds
) -> None:
    after = changed(now, expected, wanted)

    assert after["lowest"] <= after["highest"]
    if now["lowest"] != expected["lowest"]:
        assert after["lowest"] == now["lowest"]
    if now["highest"] != expected["highest"]:
        assert after["highest"] == now["highest"]
    if now == expected:
        assert after == wanted
    assert after["lowest"] in (now["lowest"], wanted["lowest"])
