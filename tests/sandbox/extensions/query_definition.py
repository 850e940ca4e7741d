"""CloudFormation keeps saved queries of CloudWatch Logs Insights; ministack knows no such type."""

from __future__ import annotations

import uuid
from typing import Any

from ministack.services import cloudwatch_logs
from ministack.services.cloudformation import provisioners

type Properties = dict[str, Any]


def _create(_logical_id: str, props: Properties, _stack_name: str) -> tuple[str, Properties]:
    missing = set(props.get("LogGroupNames", ())) - set(cloudwatch_logs._log_groups)
    if missing:
        raise ValueError(f"Log groups do not exist: {', '.join(sorted(missing))}")
    if not props.get("Name") or not props.get("QueryString"):
        raise ValueError("A query needs Name and QueryString")
    return str(uuid.uuid4()), {}


def _update(
    physical_id: str, _old: Properties, new: Properties, stack_name: str, *_rest: Any, **_more: Any
) -> tuple[str, Properties]:
    _create("", new, stack_name)
    return physical_id, {}


def _delete(_physical_id: str, _props: Properties) -> None:
    """Nothing was kept."""


def install() -> None:
    """Add the type to those that the account can make."""
    provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
