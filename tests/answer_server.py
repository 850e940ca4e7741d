"""The HTTPS endpoint where custom resources put their answers, as CloudFormation's bucket is."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "X-Amz-Signature=0123456789abcdef"
"""What must never be logged."""


class AnswerServer(ThreadingHTTPServer):
    """Keeps what was put to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[dict[str, Any]] = []
        """Those that were taken."""
        self.sizes: list[int] = []
        """Bytes of each answer."""
        self.content_types: list[str | None] = []
        """What each answer claimed to be."""
        self.refusals: list[int] = []
        """Statuses of the next answers, which are then not taken."""
        self.attempts = 0

    @property
    def url(self) -> str:
        """A ResponseURL; its query is a secret."""
        return f"https://localhost:{self.server_address[1]}/answer?{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: AnswerServer

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        server.attempts += 1
        if server.refusals:
            # As S3 does, which repeats what was sent.
            error = f"<Error><Code>AccessDenied</Code><Request>{self.path}</Request></Error>"
            self._respond(server.refusals.pop(0), error.encode())
            return
        if self.path.endswith(SECRET):
            server.sizes.append(len(body))
            server.content_types.append(self.headers["content-type"])
            server.answers.append(json.loads(body))
        self._respond(200, b"")

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None: ...


@contextmanager
def answer_server(folder: Path) -> Iterator[tuple[AnswerServer, Path]]:
    """Serve until the block ends; yield the server and the CA file to trust."""
    authority = trustme.CA()
    trusted = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with AnswerServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, trusted
        finally:
            server.shutdown()
            thread.join()
