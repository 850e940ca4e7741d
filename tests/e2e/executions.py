"""Start a durable execution as a user does, and wait for its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.account import Account


def execute(
    account: Account, function: str, event: Mapping[str, Any], *, within: float = 60
) -> dict[str, Any]:
    """Invoke with `InvocationType=Event`, and return the closed execution.

    Returns:
        What GetDurableExecution says: `Status`, and `Result` (parsed) or `Error`.
    """
    functions = account.client("lambda")
    started = functions.invoke(
        FunctionName=function, InvocationType="Event", Payload=json.dumps(event)
    )
    arn = started["DurableExecutionArn"]

    def closed() -> dict[str, Any] | None:
        execution = functions.get_durable_execution(DurableExecutionArn=arn)
        return None if execution["Status"] == "RUNNING" else execution

    execution = eventually(closed, f"the end of {arn}", within=within)
    if "Result" in execution:
        execution["Result"] = json.loads(execution["Result"])
    return execution
