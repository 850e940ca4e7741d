"""Let something go wrong for one name in the local account, and see that it did.

The other side is `tests.sandbox.extensions.faults`, which says what can go wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import urllib3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.sandbox.account import Account

ANSWER = "cloudformation:Answer"
REQUEST = "cloudformation:Request"
_PATH = "/_sandbox/faults"


class Faults:
    """The bad luck of whatever mentions one name; a block of `with` fails if it did not strike."""

    def __init__(self, account: Account, about: str) -> None:
        self.about = about
        self._url = account.url + _PATH
        self._pool = urllib3.PoolManager(ca_certs=str(account.ca_bundle))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.check()

    def inject(self, action: str, fault: str, **more: Any) -> None:
        """Add a rule; `more` are its other members."""
        self._call("PUT", "", {"about": self.about, "action": action, "fault": fault, **more})

    def refuse(self, action: str, code: str, *, status: int = 400, **more: Any) -> None:
        """Answer with an error."""
        self.inject(action, "refuse", code=code, status=status, **more)

    def report(self) -> dict[str, Any]:
        """Return `rules`, `requests`, `answers` and `executions` that mention the name."""
        return self._call("GET", f"?about={self.about}")

    def check(self) -> None:
        """Fail unless every rule came true as often as it says (those without a number, once)."""
        for rule in self.report()["rules"]:
            expected = rule["times"] or 1
            assert rule["happened"] >= expected, f"this was to go wrong and did not: {rule}"

    def interrupt_spot(self, task_arn: str) -> None:
        """Take back the capacity of a running task."""
        self._call("POST", "/spot-interruption", {"task": task_arn})

    def forget(self, task_arn: str) -> None:
        """Let ECS forget a task that has stopped."""
        self._call("POST", "/forgetting", {"task": task_arn})

    def time_out(self, execution_arn: str) -> None:
        """End the time that a durable execution may take."""
        self._call("POST", "/time-out", {"execution": execution_arn})

    def remember(self, execution_arn: str, operation: str, **numbers: int) -> None:
        """Let an operation of an execution have ended with these in its result, an object."""
        memory = {"execution": execution_arn, "operation": operation, "numbers": numbers}
        self._call("POST", "/memory", memory)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        text = json.dumps(body) if body else None
        # Tests wait long between two calls: no connection that the server may just be closing.
        answer = self._pool.request(
            method, self._url + path, body=text, headers={"connection": "close"}, retries=False
        )
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.data!r}"
        return dict(json.loads(answer.data))
