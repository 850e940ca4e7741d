"""A function URL without Lambda: WSGI on one side, events of payload format 2.0 on the other."""

from __future__ import annotations

import base64
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

IAM = {"iam": {"userArn": "arn:aws:sts::111122223333:assumed-role/Developer/alice"}}


class FunctionUrl:
    """WSGI application that hands every request to `resolve` as Lambda would."""

    def __init__(
        self,
        resolve: Callable[[dict[str, Any]], Mapping[str, Any]],
        authorizer: Mapping[str, Any] | None = None,
    ) -> None:
        self._resolve = resolve
        self._authorizer = authorizer

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        answer = self._resolve(self.event(environ))
        status = HTTPStatus(answer["statusCode"])
        start(f"{status.value} {status.phrase}", list(answer["headers"].items()))
        return [answer["body"].encode()]

    def event(self, environ: WSGIEnvironment) -> dict[str, Any]:
        """Return the event that Lambda makes of a request."""
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
        }
        body = environ["wsgi.input"].read()
        # WSGI hands over bytes as if they were Latin-1.
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        context: dict[str, Any] = {
            "http": {"method": environ["REQUEST_METHOD"], "path": path},
            "requestId": str(uuid.uuid4()),
            "stage": "$default",
        }
        if self._authorizer:
            context["authorizer"] = self._authorizer
        event: dict[str, Any] = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": environ.get("QUERY_STRING", ""),
            "headers": headers,
            "requestContext": context,
            "isBase64Encoded": False,
        }
        if body:
            event |= _body(body)
        return event


def _body(body: bytes) -> dict[str, Any]:
    # Lambda goes by the content type; what matters is that both ways are taken.
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
