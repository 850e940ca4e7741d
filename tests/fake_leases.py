"""Leases in memory. They pass the same contract as the table's: test_recycle_lease.py."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecs_ops.errors import Conflict

if TYPE_CHECKING:
    from ecs_ops.aws.recycle_lease import Lease, Taken
    from ecs_ops.recycle import Changes


@dataclass
class FakeLeases:
    """`items` is by service ARN."""

    items: dict[str, Lease] = field(default_factory=dict)

    def take(
        self, service_arn: str, run: str, execution: str, *, now: float, expires: float
    ) -> Taken:
        lease = self.items.setdefault(
            service_arn,
            {"run": run, "execution": execution, "expires": 0, "changes": None, "changed_by": ""},
        )
        ok = lease["run"] == run or lease["expires"] <= int(now)
        if ok:
            lease.update({"run": run, "execution": execution, "expires": int(expires)})
        left_over = lease["changes"] if ok and lease["changed_by"] != run else None
        return {
            "ok": ok,
            "execution": lease["execution"],
            "expires": lease["expires"],
            "left_over": deepcopy(left_over),
        }

    def record(self, service_arn: str, run: str, changes: Changes) -> None:
        self._ours(service_arn, run).update({"changes": deepcopy(changes), "changed_by": run})

    def renew(self, service_arn: str, run: str, execution: str, *, expires: float) -> None:
        self._ours(service_arn, run).update({"execution": execution, "expires": int(expires)})

    def read(self, service_arn: str) -> Lease | None:
        return deepcopy(self.items.get(service_arn))

    def seize(self, service_arn: str, run: str, *, by: str) -> Changes | None:
        lease = self.items.get(service_arn)
        if lease is None or lease["run"] not in {run, by}:
            return None
        lease.update({"run": by, "changed_by": by})
        return deepcopy(lease["changes"])

    def release(self, service_arn: str, run: str) -> None:
        lease = self.items.get(service_arn)
        if lease is None or lease["run"] != run:
            return
        if lease["changed_by"] in {"", run}:
            del self.items[service_arn]
        else:
            lease["expires"] = 0

    def _ours(self, service_arn: str, run: str) -> Lease:
        lease = self.items.get(service_arn)
        if lease is None or lease["run"] != run:
            raise Conflict(f"the lease of {service_arn} is not held by {run} any more")
        return lease
