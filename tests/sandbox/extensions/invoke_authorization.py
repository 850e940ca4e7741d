"""A function that is invoked by a qualifier is authorized on the qualified ARN.

ministack takes the ARN from the path alone, and not the `Qualifier` of the query.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from ministack.core import iam_actions

_INVOCATIONS = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
_UNQUALIFIED = re.compile(r"arn:[^:]*:lambda:[^:]*:[^:]*:function:[^:]+")


def install() -> None:
    """Name the qualified ARN to ministack's check."""
    resource_of = iam_actions.extract_resource_arn

    def extract_resource_arn(service: str, method: str, path: str, *rest: Any) -> str:
        resource = str(resource_of(service, method, path, *rest))
        if service != "lambda" or not _INVOCATIONS.fullmatch(unquote(path)):
            return resource
        *_, query, _region, _account = rest
        qualifier = iam_actions._query_param(query, "Qualifier")
        return (
            f"{resource}:{qualifier}"
            if qualifier and _UNQUALIFIED.fullmatch(resource)
            else resource
        )

    iam_actions.extract_resource_arn = extract_resource_arn
