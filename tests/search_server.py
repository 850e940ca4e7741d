"""An OpenSearch domain, as far as its bulk API goes, which lets in who signs correctly."""

from __future__ import annotations

import gzip
import hashlib
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trustme
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REGION = "eu-west-1"
NAME = "search-logs-abc.eu-west-1.es.amazonaws.com"
"""The certificate is for this name too."""
SECRETS = {"AKIDFIRST": "first-secret-key", "AKIDSECOND": "second-secret-key"}
"""Access key id to the secret key that it signs with."""

type Reply = tuple[int, bytes]


class SearchServer(ThreadingHTTPServer):
    """Keeps what was indexed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents: dict[tuple[str, str], Any] = {}
        """Index and id to the document it holds."""
        self.batches: list[list[str]] = []
        """Ids in each request that was let in."""
        self.callers: list[str | None] = []
        """Access key id of each request; None if its signature is wrong."""
        self.headers: list[Mapping[str, str]] = []
        """Of each request, with small letters."""
        self.item_errors: dict[str, Any] = {}
        """Event id to what its item says in place of success."""
        self.replies: list[Reply] = []
        """Status and body in place of the next answers; nothing is indexed then."""
        self.too_many = 10**9
        """Events that make a request too large."""
        self.hangs = threading.Event()
        """While set, requests are read and not answered."""
        self.released = threading.Event()
        """Set: those that hang are let go."""

    @property
    def endpoint(self) -> str:
        return f"https://localhost:{self.server_address[1]}"

    def caller(self, request: _Handler, body: bytes) -> str | None:
        """Return whose signature this is, made again with the secret that only AWS knows."""
        try:
            algorithm, *parts = request.headers["authorization"].replace(",", "").split()
            given = dict(part.split("=", 1) for part in parts)
            access_key, date, region, service, _ = given["Credential"].split("/")
            secret = SECRETS[access_key]
            time = request.headers["x-amz-date"]
        except (AttributeError, KeyError, ValueError):
            return None
        if (algorithm, region, service) != ("AWS4-HMAC-SHA256", REGION, "es"):
            return None
        # The signer's own canonical form, of what came over the wire.
        host = request.headers["host"]
        signed = AWSRequest(request.command, f"https://{host}{request.path}", data=body)
        for name in given["SignedHeaders"].split(";"):
            if name != "host":
                signed.headers[name] = request.headers[name]
        signed.context["timestamp"] = time
        signer = SigV4Auth(Credentials(access_key, secret), service, region)
        text = signer.string_to_sign(signed, signer.canonical_request(signed))
        is_same = signer.signature(text, signed) == given["Signature"] and time.startswith(date)
        return access_key if is_same else None

    def bulk(self, body: bytes) -> Reply:
        """Index what the request asks for; an item for each."""
        lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        actions = [action["index"] for action in lines[::2]]
        self.batches.append([action["_id"] for action in actions])
        if self.replies:
            return self.replies.pop(0)
        if len(actions) >= self.too_many:
            return 413, b'{"Message": "Request size exceeded 10485760 bytes"}'
        items = []
        for action, document in zip(actions, lines[1::2], strict=True):
            if error := self.item_errors.get(action["_id"]):
                items.append(error)
                continue
            self.documents[action["_index"], action["_id"]] = document
            items.append({"index": {**action, "result": "created", "status": 201}})
        answer = {"took": 1, "errors": bool(self.item_errors), "items": items}
        return 200, json.dumps(answer).encode()


def item_error(kind: str, *, status: int = 400, reason: str = "") -> dict[str, Any]:
    """Return what a domain says of a document that it did not take."""
    return {"index": {"status": status, "error": {"type": kind, "reason": reason}}}


class _Handler(BaseHTTPRequestHandler):
    server: SearchServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        if server.hangs.is_set():
            server.released.wait()
            return
        caller = server.caller(self, body)
        server.callers.append(caller)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if caller is None or urlsplit(self.path).path != "/_bulk":
            message = "The request signature we calculated does not match"
            self._respond(403, json.dumps({"message": message}).encode())
            return
        self._respond(*server.bulk(body))

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=UTF-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None: ...


def digest(data: bytes) -> str:
    """SHA-256, as in `X-Amz-Content-SHA256`."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def search_server(folder: Path) -> Iterator[tuple[SearchServer, Path]]:
    """Serve until the block ends; yield the server and the CA file to trust."""
    authority = trustme.CA()
    trusted = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", NAME).configure_cert(context)
    with SearchServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, trusted
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
