"""Answers CloudFormation, through crhelper.

crhelper sends the answer; it neither runs nor polls anything here. What its source (2.0.12) does
besides, and how that is kept in bounds:

* It logs the event and the ResponseURL at DEBUG. The URL is a presigned secret, and properties
  hold other people's. So it is handed only the envelope, and its loggers stay at ERROR.
* Its constructor and every call set the level of the *root* logger: to what that level already is.
* It waits two minutes before it answers a Delete, unless told not to.
* A failed Create gets a random physical id, unless the id is set before the failure.
* Of a reason longer than 256 characters it keeps the end. `Answer.Reason` is never longer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crhelper import CfnResource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_durable_execution_sdk_python.types import LambdaContext

    from ecs_ops.custom_resource import Answer

_ENVELOPE = (
    "RequestType",
    "ResponseURL",
    "StackId",
    "RequestId",
    "LogicalResourceId",
    "PhysicalResourceId",
)
_ANSWER = "Answer"


class TaskVerdict(Exception):
    """Raised for crhelper, to which an exception is what makes an answer FAILED."""


class CloudFormation:
    """Sends answers; one for the life of the Lambda sandbox."""

    def __init__(self) -> None:
        # Made on first use: it makes three clients, and a Test event needs none of them.
        self._helper: CfnResource | None = None

    def answer(
        self, event: Mapping[str, Any], answer: Answer, lambda_context: LambdaContext | None
    ) -> None:
        """Send `answer` to the ResponseURL of `event`.

        It keeps trying until CloudFormation's side has taken it or the invocation times out, so
        an exception means a mistake in the event, not in the network.
        """
        self._helper = self._helper or _make_helper()
        envelope = {key: event[key] for key in _ENVELOPE if key in event}
        self._helper({**envelope, _ANSWER: answer}, lambda_context)


def _make_helper() -> CfnResource:
    logging.getLogger("crhelper").setLevel(logging.ERROR)
    level: Any = logging.getLogger().level
    helper = CfnResource(log_level=level, boto_level=level, sleep_on_delete=0)

    def tell(event: Mapping[str, Any], _context: object) -> str:
        answer: Answer = event[_ANSWER]
        helper.PhysicalResourceId = answer["PhysicalResourceId"]
        if answer["Status"] == "FAILED":
            raise TaskVerdict(answer["Reason"])
        helper.Data.update(answer["Data"])
        return answer["PhysicalResourceId"]

    for register in (helper.create, helper.update, helper.delete):
        register(tell)
    return helper
