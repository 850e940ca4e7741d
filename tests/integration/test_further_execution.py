"""An execution goes on in another one, by way of an asynchronous Invoke."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from ecs_ops.aws.further_execution import FurtherExecution
from ecs_ops.errors import Transient

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:recycle:1/durable-execution/run-2/0f1e"


@pytest.fixture
def client() -> Any:
    return boto3.client(
        "lambda",
        region_name="eu-west-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def test_execution_is_started_by_its_name_when_another_one_goes_on_in_it(client: Any) -> None:
    event = {"cluster_name": "shop", "continuation": {"number": 2}}
    asked = {
        "FunctionName": "recycle:live",
        "InvocationType": "Event",
        "DurableExecutionName": "run-2",
        "Payload": json.dumps(event),
    }
    with Stubber(client) as stub:
        stub.add_response("invoke", {"StatusCode": 202, "DurableExecutionArn": ARN}, asked)

        assert FurtherExecution(lambda: client, "recycle:live").start("run-2", event) == ARN


def test_start_may_be_tried_again_when_lambda_is_busy(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("invoke", "TooManyRequestsException", http_status_code=429)

        with pytest.raises(Transient):
            FurtherExecution(lambda: client, "recycle:live").start("run-2", {})
