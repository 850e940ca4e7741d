"""Puts whole events into an OpenSearch domain, so that people can search them.

For domains (SigV4 service `es`), not for OpenSearch Serverless. opensearch-py is imported on first
use: it costs a cold start more than boto3's client does, and most stacks have no domain.
"""

from __future__ import annotations

import json
import logging
import random
import re
import ssl
import time
from functools import cached_property
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

import botocore.session

from ecs_ops.errors import AwsFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.credentials import Credentials
    from opensearchpy import OpenSearch

    from ecs_ops.event_record import EcsEvent

type _Chunk = dict[str, bytes]
"""Message id to the lines that the bulk API wants of its event."""

_CHUNK_BYTES: Final = 5_000_000
"""Before compression. Small instance types take requests of 10 MiB.

https://docs.aws.amazon.com/opensearch-service/latest/developerguide/limits.html
"""
_CHUNK_EVENTS: Final = 500
_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 1.0
_OPERATION: Final = "POST /_bulk"
_BAD_REQUEST, _TOO_LARGE, _TOO_MANY, _SERVER_ERROR = 400, 413, 429, 500
_SUCCESS: Final = range(200, 300)
_ERROR_TYPE: Final = re.compile(r"[a-z0-9_]{1,80}")


class SearchIndex:
    """The indexes `ecs-events-<day>` of one domain; one for the life of the Lambda sandbox."""

    def __init__(
        self,
        endpoint: str,
        region: str,
        *,
        credentials: Credentials | None = None,
        connect_seconds: float = _CONNECT_SECONDS,
        read_seconds: float = _READ_SECONDS,
        chunk_bytes: int = _CHUNK_BYTES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Remember where the domain is; nothing is imported or sent yet.

        Args:
            endpoint: of the domain, with or without `https://`. Nothing else than HTTPS is spoken.
            region: of the domain.
            credentials: for the signature; None for the function's own. Asked at every request,
                so those that are refreshed stay fresh.
            connect_seconds: for each address of the endpoint.
            read_seconds: for an answer.
            chunk_bytes: most bytes of a request before compression; an event with more goes alone.
            sleep: for tests.
        """
        self._endpoint = f"https://{endpoint.removeprefix('https://')}"
        self._region = region
        self._credentials = credentials
        self._seconds = connect_seconds, read_seconds
        self._chunk_bytes = chunk_bytes
        self._sleep = sleep

    def index(
        self, events: Mapping[str, EcsEvent], *, time_left: Callable[[], float]
    ) -> dict[str, str]:
        """Index each event under its id, in the index of its own day, and say what was not.

        An event that comes again overwrites itself. After a request that failed as a whole the
        others are not tried: the domain is down, busy, or does not let us in. Only when a request
        itself is refused (400, 413) is it halved, until the culprit stands alone.

        Args:
            events: message id to event, any number.
            time_left: seconds that may still be spent; no request begins without any.

        Returns:
            Message id to the type of error, of those the domain did not acknowledge: the domain's
            own (`mapper_parsing_exception`), `HTTP 403`, the connection's (`SSLError`), `no valid
            answer`, or `no time left`. Fit for a log: never holds anything of an event.
        """
        failures: dict[str, str] = {}
        todo = list(_chunks(events, self._chunk_bytes))
        while todo:
            chunk = todo.pop(0)
            try:
                failures |= self._bulk(chunk, time_left)
            except AwsFailure as error:
                is_request = error.code in {f"HTTP {_BAD_REQUEST}", f"HTTP {_TOO_LARGE}"}
                if is_request and len(chunk) > 1:
                    halves = batched(chunk.items(), (len(chunk) + 1) // 2, strict=False)
                    todo[:0] = map(dict, halves)
                    continue
                failures |= dict.fromkeys(chunk, error.code)
                if not is_request:
                    failures |= {message_id: error.code for rest in todo for message_id in rest}
                    break
        return failures

    def _bulk(self, chunk: _Chunk, time_left: Callable[[], float]) -> dict[str, str]:
        """Send one request, once more if it may help; return its failures by message id.

        Raises:
            AwsFailure: the request failed as a whole.
        """
        from opensearchpy.exceptions import (  # noqa: PLC0415 - costs time; see the module
            ConnectionTimeout,
            SerializationError,
            TransportError,
        )

        body = b"".join(chunk.values())
        for is_last in (False, True):
            if (left := time_left()) <= 0:
                raise AwsFailure(_OPERATION, "no time left", "not sent")
            try:
                return _failures(chunk, self._post(body, left))
            except (SerializationError, AttributeError, RecursionError) as error:
                # AttributeError: of an error that is JSON and no object, in opensearch-py 3.0.0.
                raise AwsFailure(_OPERATION, "no valid answer", "not its JSON") from error
            except TransportError as error:
                # Full jitter: functions that were refused together must not return together.
                pause = random.uniform(0, _LONGEST_PAUSE)  # noqa: S311 - not a secret
                # A domain that is too slow to answer has the request already: once is enough.
                is_slow = isinstance(error, ConnectionTimeout)
                if is_last or is_slow or not _may_pass(error) or time_left() <= pause:
                    raise AwsFailure(_OPERATION, _code(error), "refused or not answered") from error
            self._sleep(pause)
        raise AssertionError("unreachable")

    def _post(self, body: bytes, seconds: float) -> Any:
        from urllib3 import Timeout  # noqa: PLC0415 - comes with opensearch-py

        connect, read = self._seconds
        limit = Timeout(total=seconds, connect=connect, read=read)
        # No parameters in the URL: the service ignores those of a signed POST.
        return self._client.bulk(body=body, params={"request_timeout": limit})

    @cached_property
    def _client(self) -> OpenSearch:
        from opensearchpy import (  # noqa: PLC0415 - costs time; see the module
            OpenSearch,
            Urllib3AWSV4SignerAuth,
            Urllib3HttpConnection,
        )

        # These write whole requests at DEBUG; at WARNING, what our caller says anyway.
        for name in ("opensearch", "opensearchpy.trace"):
            logging.getLogger(name).disabled = True
        credentials = self._credentials or botocore.session.get_session().get_credentials()
        return OpenSearch(
            hosts=[self._endpoint],
            http_auth=Urllib3AWSV4SignerAuth(credentials, self._region, "es"),
            connection_class=Urllib3HttpConnection,
            ssl_context=ssl.create_default_context(),
            # The body is compressed, then signed.
            http_compress=True,
            # It would try again three times at once, and again what is too slow.
            max_retries=0,
        )


def _chunks(events: Mapping[str, EcsEvent], limit: int) -> Iterator[_Chunk]:
    chunk: _Chunk = {}
    size = 0
    for message_id, event in events.items():
        lines = _lines(event)
        if chunk and (size + len(lines) > limit or len(chunk) == _CHUNK_EVENTS):
            yield chunk
            chunk, size = {}, 0
        chunk[message_id] = lines
        size += len(lines)
    if chunk:
        yield chunk


def _lines(event: EcsEvent) -> bytes:
    """`index` and not `create`: what comes again must not be an error."""
    action = {"index": {"_index": f"ecs-events-{event.time:%Y.%m.%d}", "_id": event.id}}
    return "".join(
        json.dumps(line, separators=(",", ":")) + "\n" for line in (action, event.envelope)
    ).encode()


def _failures(chunk: _Chunk, answer: Any) -> dict[str, str]:
    """Read what the domain says of each event: one item each, in the order of the request.

    https://docs.opensearch.org/latest/api-reference/document-apis/bulk/

    Raises:
        AwsFailure: it does not say so.
    """
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != len(chunk):
        raise AwsFailure(_OPERATION, "no valid answer", "not one item for each event")
    verdicts = zip(chunk, map(_item_error, items), strict=True)
    return {message_id: error for message_id, error in verdicts if error}


def _item_error(item: Any) -> str:
    """Return the type of error, '' for none. Its `reason` quotes the event: it stays here."""
    result = item.get("index") if isinstance(item, dict) else None
    if not isinstance(result, dict):
        return "no valid answer"
    if result.get("status") in _SUCCESS and not result.get("error"):
        return ""
    error = result.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else "unknown_error"


def _may_pass(error: Any) -> bool:
    status = error.status_code
    return not isinstance(status, int) or status == _TOO_MANY or status >= _SERVER_ERROR


def _code(error: Any) -> str:
    """`HTTP 403`, or why there was no answer: `NewConnectionError`, `ReadTimeoutError`."""
    status = error.status_code
    return f"HTTP {status}" if isinstance(status, int) else type(error.info).__name__
