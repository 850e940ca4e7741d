"""AWS for one invocation of each function. It answers at once, and remembers when it was called.

Usage: python aws_stub.py. It prints its port. A GET returns what was called since the last GET, as
JSON: pairs of the moment, by the monotonic clock, and the operation.
"""

from __future__ import annotations

import http.server
import json
import sys
import time
from typing import Any

_ARN = "arn:aws:ecs:us-east-1:000000000000:"
_TASK = {
    "taskArn": f"{_ARN}task/demo/0123456789abcdef0123456789abcdef",
    "clusterArn": f"{_ARN}cluster/demo",
    "taskDefinitionArn": f"{_ARN}task-definition/demo-job:1",
    "containers": [{"name": "app", "exitCode": 0}],
    "createdAt": 1767225600.5,
    "desiredStatus": "RUNNING",
    "lastStatus": "PENDING",
    "launchType": "FARGATE",
    "group": "family:demo-job",
    "tags": [],
    "version": 1,
}
_DEFINITION = {
    "taskDefinitionArn": _TASK["taskDefinitionArn"],
    "containerDefinitions": [{"name": "app", "essential": True}],
}
_SERVICE = {
    "serviceArn": f"{_ARN}service/demo/web",
    "clusterArn": _TASK["clusterArn"],
    "serviceName": "web",
    "status": "ACTIVE",
    "desiredCount": 1,
    "runningCount": 1,
    "deploymentController": {"type": "ECS"},
    "deployments": [{"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "COMPLETED"}],
}
_LEASE = {
    "serviceArn": {"S": _SERVICE["serviceArn"]},
    "run": {"S": "run"},
    "execution": {"S": "run"},
    "expiresAt": {"N": "4102444800"},
}
_STACKS = """\
<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>shop</StackName>
<CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_IN_PROGRESS</StackStatus>
</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""
_ANSWERS: dict[str, Any] = {
    "BatchWriteItem": {"UnprocessedItems": {}},
    "CheckpointDurableExecution": {
        "CheckpointToken": "next",
        "NewExecutionState": {"Operations": []},
    },
    "DescribeScalableTargets": {"ScalableTargets": []},
    "DescribeServices": {"services": [_SERVICE], "failures": []},
    "DescribeTaskDefinition": {"taskDefinition": _DEFINITION},
    "GetTaskProtection": {"protectedTasks": [], "failures": []},
    "ListTasks": {"taskArns": [_TASK["taskArn"]]},
    "UpdateItem": {"Attributes": _LEASE},
    "UpdateService": {"service": _SERVICE},
}


def _task(cluster: str) -> dict[str, Any]:
    """Return a task that starts; in the cluster `over`, one that is over."""
    status = "STOPPED" if cluster == "over" else "PENDING"
    return {**_TASK, "clusterArn": cluster, "lastStatus": status}


class _Aws(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # In one write: two of them would wait for each other's acknowledgement.
    calls: list[tuple[float, str]] = []  # noqa: RUF012 - of all of them

    def do_GET(self) -> None:
        calls, self.calls[:] = self.calls[:], []
        self._send(json.dumps(calls))

    def do_POST(self) -> None:
        moment = time.monotonic()
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        operation = self._operation(body)
        self.calls.append((moment, operation))
        if operation == "DescribeStacks":
            self._send(_STACKS)
            return
        answer = _ANSWERS.get(operation, {})
        if operation in {"RunTask", "DescribeTasks"}:
            answer = {"tasks": [_task(json.loads(body)["cluster"])], "failures": []}
        self._send(json.dumps(answer))

    do_PUT = do_POST  # noqa: N815 - the base class's names

    def _operation(self, body: str) -> str:
        if target := self.headers.get("x-amz-target"):
            return target.rpartition(".")[2]
        if self.path.endswith("/checkpoint"):
            return "CheckpointDurableExecution"
        return "DescribeStacks" if body.startswith("Action=DescribeStacks") else "PUT"

    def _send(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Aws)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
