"""launch_task as HTTP: a request as it came, and an answer as it goes.

Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from ecs_ops.errors import (
    Conflict,
    EcsOpsError,
    InvalidRequest,
    NotFound,
    Throttled,
    Transient,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_LIMIT = 1_048_576
"""Bytes. What a task can be given is far less; webhooks are wordy."""

_RETRY_AFTER_SECONDS = 5
_FIELD_LIMIT = 200
"""Characters; a field can be a name that a caller made up."""


class Unauthorized(EcsOpsError):
    """The request is not signed, or not by somebody who may call. Says no more than that."""


class NotThere(NotFound):
    """There is no such thing that this caller may see; the text is fit for them."""


class TooLarge(InvalidRequest):
    """The body has more than `BODY_LIMIT` bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: str
    """As it was sent, without the question mark."""
    headers: Mapping[str, str]
    """Names in lower case."""
    content: str
    """As Lambda hands it over."""
    is_base64: bool
    """Whether Lambda encoded the body, as it does with bytes that are not text."""
    iam_arn: str
    """Of whom AWS found the request to be signed by; '' when it did not look."""
    id: str

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Self:
        """Read an event of a function URL (payload format 2.0, header names in lower case)."""
        context = event["requestContext"]
        # Each of the two may be there and null.
        iam = (context.get("authorizer") or {}).get("iam") or {}
        return cls(
            method=context["http"]["method"],
            path=event["rawPath"],
            query=event.get("rawQueryString") or "",
            headers=event["headers"],
            content=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
            iam_arn=iam.get("userArn") or "",
            id=context["requestId"],
        )

    def body(self) -> bytes:
        """Return the body as it was sent.

        Raises:
            TooLarge: it is.
            InvalidRequest: it is not what Lambda says that it is.
        """
        # Base64 takes four characters for three bytes.
        if len(self.content) > BODY_LIMIT * (4 / 3 if self.is_base64 else 1) + 4:
            raise TooLarge("body", f"must be at most {BODY_LIMIT} bytes")
        try:
            sent = (
                base64.b64decode(self.content, validate=True)
                if self.is_base64
                else self.content.encode()
            )
        except ValueError as error:
            raise InvalidRequest("body", "is not text in UTF-8") from error
        if len(sent) > BODY_LIMIT:
            raise TooLarge("body", f"must be at most {BODY_LIMIT} bytes")
        return sent

    def text(self) -> str:
        """Return the body as text; raise as `body` does."""
        try:
            return self.body().decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("body", "is not text in UTF-8") from error


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer."""

    status: HTTPStatus
    content_type: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(
    content: object,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return an answer in JSON, which nobody on the way is to keep."""
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return Reply(status, "application/json", json.dumps(content), kept)


def page(html: str) -> Reply:
    """Return a page that may run its own script, wear its own style, and ask its own origin.

    Args:
        html: holds one script and one style, both without attributes.
    """
    policy = [
        "default-src 'none'",
        f"script-src '{_digest(html, 'script')}'",
        f"style-src '{_digest(html, 'style')}'",
        *("connect-src 'self'", "img-src data:"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    ]
    headers = {
        "Content-Security-Policy": "; ".join(policy),
        # Nor is the page, with a token in its memory, for the browser to come back to.
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Reply(HTTPStatus.OK, "text/html; charset=utf-8", html, headers)


def _digest(html: str, element: str) -> str:
    content = html.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def description(document: str, auth: str) -> Reply:
    """Return the OpenAPI document, with the one way in that there is.

    Args:
        document: openapi.json, which knows them all.
        auth: `AWS_IAM`, `TOKEN` or `HMAC`.
    """
    content = json.loads(document)
    content["security"] = [{_SCHEMES[auth]: []}]
    return answer(content)


def methods_at(path: str, document: str) -> str:
    """Return the methods at a path of the OpenAPI document, as in `GET, POST`; '' for none."""
    for template, operations in json.loads(document)["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            return ", ".join(sorted(name.upper() for name in _METHODS & operations.keys()))
    return ""


_METHODS = {"delete", "get", "post"}
_SCHEMES = {"AWS_IAM": "iam", "TOKEN": "token", "HMAC": "hmac"}
_CHALLENGES = {"AWS_IAM": "AWS4-HMAC-SHA256", "TOKEN": "Bearer", "HMAC": "HMAC-SHA256"}


def problem(
    status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None, **members: str
) -> Reply:
    """Return a problem document; its type is `about:blank`, for the status says it all."""
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        **members,
    }
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return Reply(status, "application/problem+json", json.dumps(document), kept)


def problem_of(error: Exception, reference: str, auth: str) -> Reply:
    """Return the answer to a request that raised `error`.

    Only what the caller can mend is told in detail. For the rest they get `reference`, by which
    the operator finds the error in the log.

    Args:
        error: whatever it is.
        reference: of the request.
        auth: `AWS_IAM`, `TOKEN` or `HMAC`: what a 401 asks for.
    """
    match error:
        case InvalidRequest(field=name):
            status = (
                HTTPStatus.CONTENT_TOO_LARGE
                if isinstance(error, TooLarge)
                else HTTPStatus.BAD_REQUEST
            )
            return problem(status, error.problem, field=name[:_FIELD_LIMIT])
        case Unauthorized():
            detail = "Sign the request as somebody who may call."
            return problem(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": _CHALLENGES[auth]})
        case NotThere():
            return problem(HTTPStatus.NOT_FOUND, str(error), field="id")
        case Conflict():
            detail = "This Idempotency-Key was used with another request. Use a new key."
            return problem(HTTPStatus.CONFLICT, detail, field="Idempotency-Key")
    return _trouble(error, reference)


def _trouble(error: Exception, reference: str) -> Reply:
    """Return the answer to what is not the caller's to mend."""
    later = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
    if isinstance(error, Throttled):
        status, detail = HTTPStatus.TOO_MANY_REQUESTS, f"AWS asks for fewer requests. {_REPEAT}"
    elif isinstance(error, Transient):
        status = HTTPStatus.SERVICE_UNAVAILABLE
        detail = f"AWS has no room or gives no answer at the moment. {_REPEAT}"
    else:
        status, later = HTTPStatus.INTERNAL_SERVER_ERROR, {}
        detail = "This is for the operator to mend, who finds the cause by the reference."
    return problem(status, detail, later, reference=reference)


_REPEAT = "Try again; what is launched with an Idempotency-Key starts once."


def no_route(method: str = "", allowed: str = "") -> Reply:
    """Return the answer to a request that nothing handles.

    Args:
        method: of the request.
        allowed: the methods there are on its path, as in `GET, POST`; '' when there is no path.
    """
    # A path of the right shape, with the right method, that no router takes is no path.
    if allowed and method not in allowed.split(", "):
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, f"Use {allowed}.", {"Allow": allowed})
    return problem(HTTPStatus.NOT_FOUND, "There is nothing at this path.")
