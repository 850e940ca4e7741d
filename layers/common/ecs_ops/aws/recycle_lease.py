"""Who recycles a service, and what they changed at it: a lease that is a ledger too.

One item for each service, key `serviceArn`:

    nobody ──take──▶ run A ──record──▶ run A, with its changes ──release──▶ nobody
                       ╰── expired: take by run B ──▶ run B, with what A left ──record──▶ …

What a run changes is recorded before it is done, so that whoever comes after the end of an
execution can put it back. What a run left outlives its lease: it stays in the item until the next
run makes it its own with `record`.

| attribute | |
| --- | --- |
| `run` | whose lease it is; the same in all executions of one recycle |
| `execution` | ARN of the durable execution that works on it |
| `number` | which of the run's executions that is: what is left of an earlier one changes nothing |
| `expiresAt` | epoch seconds; 0 when it was given up |
| `changes` | JSON of `ecs_ops.recycle.Changes` |
| `changedBy` | the run that recorded the changes |
| `ttl` | epoch seconds; then DynamoDB forgets all of it |
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypedDict

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from ecs_ops.recycle import Changes

REMEMBERED: Final = 30 * 86_400
"""Seconds after its lease ended for which a ledger is kept."""


_OURS: Final = "#run = :run AND (attribute_not_exists(#number) OR #number <= :number)"


class Holder(NamedTuple):
    """An execution of a run. A lease that a later one has renewed is not an earlier one's."""

    run: str
    number: int
    """1 is the first."""
    execution: str
    """ARN."""


class Taken(TypedDict):
    """What became of `take`; a step's result, so JSON."""

    ok: bool
    execution: str
    """ARN of the execution that holds the lease: ours, or the one in the way."""
    expires: int
    """Epoch seconds at which that one's lease ends."""
    left_over: Changes | None
    """What another run changed and did not put back, when the lease is ours."""


class Lease(TypedDict):
    """What is written down about a service."""

    run: str
    execution: str
    number: int
    expires: int
    """Epoch seconds; 0 when it was given up."""
    changes: Changes | None
    changed_by: str
    """The run that recorded the changes: an earlier one, if this one has recorded none yet."""


class Leases(Protocol):
    """Leases of services. What `RecycleLease` does, and the fake.

    A run may repeat any of its calls: the second time changes nothing more. Every method may raise
    Transient and AwsFailure; the call was then made or not.
    """

    def take(self, service_arn: str, holder: Holder, *, now: float, expires: float) -> Taken:
        """Take the lease if it is free, expired, or of the same run."""
        ...

    def record(self, service_arn: str, holder: Holder, changes: Changes) -> None:
        """Write down what is about to be changed, in place of what was written down before.

        Raises:
            Conflict: the lease is not this holder's (any more).
        """
        ...

    def renew(self, service_arn: str, holder: Holder, *, expires: float) -> Lease:
        """Let the lease end later, and name the execution that works on it now; return it.

        Raises:
            Conflict: the lease is not this holder's (any more).
        """
        ...

    def read(self, service_arn: str) -> Lease | None:
        """Return what is written down; None when there is nothing."""
        ...

    def seize(self, service_arn: str, holder: Holder, *, by: str) -> Changes | None:
        """Take a run's lease away from it, with all that is written down.

        From then on whatever is left of that run can neither change the service nor the lease.

        Args:
            service_arn: the service.
            holder: whose lease it is.
            by: who has it then; a second time changes nothing more.

        Returns:
            What there is to put back; None when there is nothing, or when the lease is not that
            holder's (any more).
        """
        ...

    def release(self, service_arn: str, holder: Holder) -> None:
        """Give the lease up, if it is this holder's, and forget what this run recorded.

        What another run left, and this one did not make its own, stays written down.
        """
        ...


class RecycleLease:
    """Leases in a table; keeps the contract of `Leases`.

    Needs dynamodb:GetItem, UpdateItem and DeleteItem on it.
    """

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def take(self, service_arn: str, holder: Holder, *, now: float, expires: float) -> Taken:
        """Take the lease if it is free, expired, or of the same run."""
        ok, lease = self._update(
            service_arn,
            f"attribute_not_exists(serviceArn) OR ({_OURS}) OR #expiresAt <= :now",
            {":now": {"N": str(int(now))}, **_values(holder)},
            _attributes(holder, expires),
        )
        return {
            "ok": ok,
            "execution": lease["execution"],
            "expires": lease["expires"],
            "left_over": lease["changes"] if ok and lease["changed_by"] != holder.run else None,
        }

    def record(self, service_arn: str, holder: Holder, changes: Changes) -> None:
        """Write down what is about to be changed; raise Conflict when the lease is not ours."""
        self._update_ours(
            service_arn,
            holder,
            {"changes": {"S": json.dumps(changes)}, "changedBy": {"S": holder.run}},
        )

    def renew(self, service_arn: str, holder: Holder, *, expires: float) -> Lease:
        """Let the lease end later, and return it; raise Conflict when it is not ours."""
        return self._update_ours(service_arn, holder, _attributes(holder, expires))

    def read(self, service_arn: str) -> Lease | None:
        """Return what is written down, as the last write left it."""
        with aws_errors("GetItem"):
            item = self._client.get_item(
                TableName=self._table_name, Key=_key(service_arn), ConsistentRead=True
            ).get("Item")
        return _lease(item) if item else None

    def seize(self, service_arn: str, holder: Holder, *, by: str) -> Changes | None:
        """Take a run's lease away from it; return what there is to put back."""
        ok, lease = self._update(
            service_arn,
            f"({_OURS}) OR #run = :by",
            {":by": {"S": by}, **_values(holder)},
            {"run": {"S": by}, "changedBy": {"S": by}},
        )
        return lease["changes"] if ok else None

    def release(self, service_arn: str, holder: Holder) -> None:
        """Give the lease up, if it is ours; keep what another run left."""
        refused = self._client.exceptions.ConditionalCheckFailedException
        with aws_errors("DeleteItem"):
            try:
                self._client.delete_item(
                    TableName=self._table_name,
                    Key=_key(service_arn),
                    ConditionExpression=(
                        f"{_OURS} AND (attribute_not_exists(changedBy) OR changedBy = :run)"
                    ),
                    ExpressionAttributeNames={"#run": "run", "#number": "number"},
                    ExpressionAttributeValues=_values(holder),
                )
            except refused:
                pass
            else:
                return
        self._update(service_arn, _OURS, _values(holder), {"expiresAt": {"N": "0"}})

    def _update_ours(
        self, service_arn: str, holder: Holder, attributes: Mapping[str, AttributeValueTypeDef]
    ) -> Lease:
        ok, lease = self._update(service_arn, _OURS, _values(holder), attributes)
        if not ok:
            raise Conflict(f"the lease of {service_arn} is not held by {holder.execution} any more")
        return lease

    def _update(
        self,
        service_arn: str,
        condition: str,
        values: Mapping[str, AttributeValueTypeDef],
        attributes: Mapping[str, AttributeValueTypeDef],
    ) -> tuple[bool, Lease]:
        """Set attributes under a condition; return whether it was met, and what is there now."""
        refused = self._client.exceptions.ConditionalCheckFailedException
        # Some of the names are words of the expression language.
        words = {word for word in ("run", "number", "expiresAt") if f"#{word}" in condition}
        names = words | {*attributes}
        with aws_errors("UpdateItem"):
            try:
                answer: Mapping[str, Any] = self._client.update_item(
                    TableName=self._table_name,
                    Key=_key(service_arn),
                    ConditionExpression=condition,
                    UpdateExpression="SET "
                    + ", ".join(f"#{name} = :set_{name}" for name in attributes),
                    ExpressionAttributeNames={f"#{name}": name for name in names},
                    ExpressionAttributeValues={
                        **values,
                        **{f":set_{name}": value for name, value in attributes.items()},
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except refused as error:
                present: Mapping[str, Any] = error.response
                return False, _lease(present.get("Item", {}))
        return True, _lease(answer["Attributes"])


def _lease(item: Mapping[str, Any]) -> Lease:
    """Read an item; one that is not there has no holder."""

    def text(name: str) -> str:
        return str(item[name]["S"]) if name in item else ""

    return {
        "run": text("run"),
        "execution": text("execution"),
        # An item of an earlier version has none.
        "number": int(item["number"]["N"]) if "number" in item else 0,
        "expires": int(item["expiresAt"]["N"]) if "expiresAt" in item else 0,
        "changes": json.loads(text("changes")) if "changes" in item else None,
        "changed_by": text("changedBy"),
    }


def _values(holder: Holder) -> dict[str, AttributeValueTypeDef]:
    """Return what `_OURS` speaks of."""
    return {":run": {"S": holder.run}, ":number": {"N": str(holder.number)}}


def _attributes(holder: Holder, expires: float) -> dict[str, AttributeValueTypeDef]:
    return {
        "run": {"S": holder.run},
        "execution": {"S": holder.execution},
        "number": {"N": str(holder.number)},
        "expiresAt": {"N": str(int(expires))},
        "ttl": {"N": str(int(expires) + REMEMBERED)},
    }


def _key(service_arn: str) -> dict[str, AttributeValueTypeDef]:
    return {"serviceArn": {"S": service_arn}}
