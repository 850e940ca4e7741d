"""OpenSearch domains take documents, from whoever may `es:ESHttpPost`.

ministack knows the API by which domains are made, not what a domain does. Any domain is here, at

    https://localhost:<port>/_sandbox/search/<domain>              its endpoint
    GET /_sandbox/search/<domain>/<index>                          id to document, unsigned

A path and not a name of its own: Python asks the system's resolver, which may not know names in
`.localhost`. Of the API, `POST <endpoint>/_bulk` with the action `index` is all there is. No access
policy of the domain's own, no mapping.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from ministack import app
from ministack.core import iam_actions
from ministack.services import opensearch

_BULK = re.compile(r"/_sandbox/search/(?P<domain>[a-z][a-z0-9-]*)/_bulk")
_READ = re.compile(r"/_sandbox/search/(?P<domain>[a-z][a-z0-9-]*)/(?P<index>[^/_][^/]*)")

type Response = tuple[int, dict[str, str], bytes]

# Domain and index to id to document.
_indexes: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)


def _json(status: int, body: Any) -> Response:
    return status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(body).encode()


def _bulk(domain: str, body: bytes) -> Response:
    """Keep each document; what is no pair of an `index` action and an object is refused whole."""
    try:
        lines = [json.loads(line) for line in body.splitlines()]
        pairs = list(zip((line["index"] for line in lines[::2]), lines[1::2], strict=True))
        keys = [(action["_index"], action["_id"]) for action, _ in pairs]
    except (ValueError, KeyError, TypeError) as error:
        reason = {"type": "illegal_argument_exception", "reason": type(error).__name__}
        return _json(400, {"error": reason, "status": 400})
    items = []
    for (index, key), (_, document) in zip(keys, pairs, strict=True):
        result = "updated" if key in _indexes[domain, index] else "created"
        _indexes[domain, index][key] = document
        status = 201 if result == "created" else 200
        items.append({"index": {"_index": index, "_id": key, "result": result, "status": status}})
    return _json(200, {"took": 1, "errors": False, "items": items})


def _authorize() -> None:
    action_of, resource_of = iam_actions.extract_iam_action, iam_actions.extract_resource_arn

    def extract_iam_action(service: str, method: str, path: str, *rest: Any) -> str | None:
        if service == "opensearch" and _BULK.fullmatch(path):
            return f"es:ESHttp{method.capitalize()}"
        action: str | None = action_of(service, method, path, *rest)
        return action

    def extract_resource_arn(service: str, method: str, path: str, *rest: Any) -> str:
        if service == "opensearch" and (bulk := _BULK.fullmatch(path)):
            *_, region, account = rest
            return f"arn:aws:es:{region}:{account}:domain/{bulk['domain']}/_bulk"
        return str(resource_of(service, method, path, *rest))

    iam_actions.extract_iam_action = extract_iam_action
    iam_actions.extract_resource_arn = extract_resource_arn


def _answer() -> None:
    detect, handle = app.detect_service, opensearch.handle_request
    shortcut = app._handle_post_body_shortcuts

    def detect_service(method: str, path: str, *rest: Any) -> str:
        # Else what is not signed for a domain would go to another service.
        return "opensearch" if _BULK.fullmatch(path) else str(detect(method, path, *rest))

    async def handle_or_index(method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Any:
        if method == "POST" and (bulk := _BULK.fullmatch(path)):
            # ministack does not compare the service that a signature is for.
            if "/es/aws4_request" not in headers.get("authorization", ""):
                return _json(403, {"message": "Credential should be scoped to correct service."})
            return _bulk(bulk["domain"], body)
        return await handle(method, path, headers, body, *rest)

    async def read_or_go_on(method: str, path: str, *rest: Any) -> Any:
        if method == "GET" and (read := _READ.fullmatch(path)):
            return _json(200, _indexes.get((read["domain"], read["index"]), {}))
        return await shortcut(method, path, *rest)

    app.detect_service = detect_service
    opensearch.handle_request = handle_or_index
    app._handle_post_body_shortcuts = read_or_go_on


def install() -> None:
    """Name action and resource to ministack's check, and answer in its place."""
    _authorize()
    _answer()
