"""GetLogEvents is authorized on the log stream, as in "Actions for Amazon CloudWatch Logs".

ministack checks it on the log group, which a policy for streams does not match.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import get_account_id, get_region


def install() -> None:
    """Name the right resource to ministack's check."""
    extract = iam_actions.extract_resource_arn

    def extract_resource_arn(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any
    ) -> str:
        if service == "logs" and headers.get("x-amz-target", "").endswith(".GetLogEvents"):
            data = json.loads(body or b"{}")
            group, stream = data.get("logGroupName", ""), data.get("logStreamName", "")
            prefix = f"arn:aws:logs:{get_region()}:{get_account_id()}"
            return f"{prefix}:log-group:{group}:log-stream:{stream}"
        return str(extract(service, method, path, headers, body, *rest))

    iam_actions.extract_resource_arn = extract_resource_arn
