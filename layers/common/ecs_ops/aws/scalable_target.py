"""The bounds between which Application Auto Scaling sets a service's desired count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ecs_ops.aws.clients import aws_errors
from ecs_ops.recycle import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_application_autoscaling.type_defs import RegisterScalableTargetRequestTypeDef

_NAMESPACE: Final = "ecs"
_DIMENSION: Final = "ecs:service:DesiredCount"


class ScalableTarget:
    """The scalable target of one service, if it has one.

    Needs application-autoscaling:DescribeScalableTargets and RegisterScalableTarget. With that one,
    Auto Scaling also checks whether the caller may describe and update the service itself:
    https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_permission_validation.html
    """

    def __init__(self, client: Callable[[str], Any], cluster: str, service: str) -> None:
        """Make no call yet; cluster and service are names or ARNs."""
        self._client = client
        self._resource_id = f"service/{_name(cluster)}/{_name(service)}"

    def bounds(self) -> Bounds | None:
        """Return the bounds; None when Auto Scaling has nothing to do with the service."""
        with aws_errors("DescribeScalableTargets"):
            targets = self._autoscaling.describe_scalable_targets(
                ServiceNamespace=_NAMESPACE,
                ResourceIds=[self._resource_id],
                ScalableDimension=_DIMENSION,
            )["ScalableTargets"]
        if not targets:
            return None
        return {"lowest": targets[0]["MinCapacity"], "highest": targets[0]["MaxCapacity"]}

    def change_bounds(self, expected: Bounds, wanted: Bounds) -> Bounds | None:
        """Compare and set each bound by itself; return both as they are afterwards.

        There is no conditional update: a change by somebody else in the same moment can be lost.
        Auto Scaling moves the desired count into the new bounds by itself.
        """
        present = self.bounds()
        if present is None:
            return None
        after = changed(present, expected, wanted)
        if after == present:
            return after
        # What is not given stays as it is.
        change: RegisterScalableTargetRequestTypeDef = {
            "ServiceNamespace": _NAMESPACE,
            "ResourceId": self._resource_id,
            "ScalableDimension": _DIMENSION,
        }
        if after["lowest"] != present["lowest"]:
            change["MinCapacity"] = after["lowest"]
        if after["highest"] != present["highest"]:
            change["MaxCapacity"] = after["highest"]
        with aws_errors("RegisterScalableTarget"):
            self._autoscaling.register_scalable_target(**change)
        return after

    @property
    def _autoscaling(self) -> ApplicationAutoScalingClient:
        client: ApplicationAutoScalingClient = self._client("application-autoscaling")
        return client


def changed(present: Bounds, expected: Bounds, wanted: Bounds) -> Bounds:
    """Return the bounds after a compare-and-set of each; the lowest is never above the highest.

    Where somebody else moved the one bound beyond what is wanted of the other: a minimum is then
    not raised at all, because nobody would know to lower it again; a maximum is lowered as far as
    it goes, because that is the nearest to what it was.
    """
    ours = present["highest"] == expected["highest"]
    lowest = wanted["lowest"] if present["lowest"] == expected["lowest"] else present["lowest"]
    highest = wanted["highest"] if ours else present["highest"]
    if lowest > highest:
        return Bounds(
            lowest=lowest if ours else present["lowest"],
            highest=lowest if ours else highest,
        )
    return Bounds(lowest=lowest, highest=highest)


def _name(name_or_arn: str) -> str:
    return name_or_arn.rpartition("/")[2]
