"""Leases in memory. They pass the same contract as the table's: test_recycle_lease.py."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecs_ops.errors import Conflict

if TYPE_CHECKING:
    from ecs_ops.aws.recycle_lease import Holder, Lease, Taken
    from ecs_ops.recycle import Changes


@dataclass
class FakeLeases:
    """`items` is by service ARN."""

    items: dict[str, Lease] = field(default_factory=dict)

    def take(self, service_arn: str, holder: Holder, *, now: float, expires: float) -> Taken:
        lease = self.items.setdefault(
            service_arn,
            {
                "run": holder.run,
                "execution": holder.execution,
                "number": holder.number,
                "expires": 0,
                "changes": None,
                "changed_by": "",
            },
        )
        ok = _is_of(holder, lease) or lease["expires"] <= int(now)
        if ok:
            _renew(lease, holder, expires)
        left_over = lease["changes"] if ok and lease["changed_by"] != holder.run else None
        return {
            "ok": ok,
            "execution": lease["execution"],
            "expires": lease["expires"],
            "left_over": deepcopy(left_over),
        }

    def record(self, service_arn: str, holder: Holder, changes: Changes) -> None:
        lease = self._ours(service_arn, holder)
        lease.update({"changes": deepcopy(changes), "changed_by": holder.run})

    def renew(self, service_arn: str, holder: Holder, *, expires: float) -> Lease:
        lease = self._ours(service_arn, holder)
        _renew(lease, holder, expires)
        return deepcopy(lease)

    def read(self, service_arn: str) -> Lease | None:
        return deepcopy(self.items.get(service_arn))

    def seize(self, service_arn: str, holder: Holder, *, by: str) -> Changes | None:
        lease = self.items.get(service_arn)
        if lease is None or not (_is_of(holder, lease) or lease["run"] == by):
            return None
        lease.update({"run": by, "changed_by": by})
        return deepcopy(lease["changes"])

    def release(self, service_arn: str, holder: Holder) -> None:
        lease = self.items.get(service_arn)
        if lease is None or not _is_of(holder, lease):
            return
        if lease["changed_by"] in {"", holder.run}:
            del self.items[service_arn]
        else:
            lease["expires"] = 0

    def _ours(self, service_arn: str, holder: Holder) -> Lease:
        lease = self.items.get(service_arn)
        if lease is None or not _is_of(holder, lease):
            raise Conflict(f"the lease of {service_arn} is not held by {holder.execution} any more")
        return lease


def _is_of(holder: Holder, lease: Lease) -> bool:
    return lease["run"] == holder.run and lease["number"] <= holder.number


def _renew(lease: Lease, holder: Holder, expires: float) -> None:
    run, number, execution = holder
    lease.update({"run": run, "number": number, "execution": execution, "expires": int(expires)})
