"""Starts a durable execution that goes on where another one ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ecs_ops.aws.clients import aws_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_lambda import LambdaClient


class FurtherExecution:
    """Of one function, by its name and alias. Needs lambda:InvokeFunction on it."""

    def __init__(self, lambda_client: Callable[[], LambdaClient], function: str) -> None:
        # Few recycles are long enough to need one.
        self._lambda = lambda_client
        self._function = function

    def start(self, name: str, event: Mapping[str, Any]) -> str:
        """Start it asynchronously and return its ARN; a name that was used starts nothing.

        Args:
            name: of the execution, at most 64 characters.
            event: its input, the same for the same name.

        Raises:
            EcsOpsError: what `aws_errors` raises; it may have been started all the same.
        """
        with aws_errors("Invoke"):
            answer = self._lambda().invoke(
                FunctionName=self._function,
                InvocationType="Event",
                DurableExecutionName=name,
                Payload=json.dumps(event),
            )
        return answer["DurableExecutionArn"]
