"""ListDurableExecutionsByFunction filters by version or alias, by statuses and by start time.

Without a qualifier it lists the executions of all versions (API reference).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import lambda_durable, lambda_svc


def _list(function_ref: str, query: dict[str, list[str]], _lookup: object) -> Any:
    def given(name: str, default: str = "") -> str:
        return str(lambda_durable._qp_first(query, name, default))

    name, qualifier = lambda_svc._resolve_name_and_qualifier(function_ref)
    qualifier = qualifier or given("Qualifier") or None
    _, config = lambda_svc._get_func_record_for_qualifier(name, qualifier)
    if config is None:
        message = f"Function not found: {function_ref}"
        return error_response_json("ResourceNotFoundException", message, 404)
    prefix = f"{lambda_svc._func_arn(name)}:{config['Version'] if qualifier else ''}"
    after = datetime.fromisoformat(given("StartedAfter", "1970-01-01T00:00:00Z")).timestamp()
    before = datetime.fromisoformat(given("StartedBefore", "9999-01-01T00:00:00Z")).timestamp()
    statuses = query.get("Statuses")
    found = [
        lambda_durable._execution_summary(record)
        for record in lambda_durable._executions.values()
        if record["FunctionArn"].startswith(prefix)
        and (not qualifier or record["FunctionArn"] == prefix)
        and after <= record["StartTimestamp"] <= before
        and (not statuses or record["Status"] in statuses)
        and given("DurableExecutionName") in {"", record["DurableExecutionName"]}
    ]
    newest_first = given("ReverseOrder") != "true"
    found.sort(key=lambda summary: summary["StartTimestamp"], reverse=newest_first)
    first = int(given("Marker", "0"))
    end = first + (int(given("MaxItems", "0")) or 100)
    more = {"NextMarker": str(end)} if end < len(found) else {}
    return json_response({"DurableExecutions": found[first:end], **more})


def install() -> None:
    """Replace the handler: it compares unqualified ARNs and knows one status."""
    lambda_durable.handle_list_by_function = _list
