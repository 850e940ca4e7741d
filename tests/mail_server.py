"""A mail server with TLS and a login, on a port of this process."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from email.message import EmailMessage

LOGIN = {"username": "user-b7c1", "password": "pass-93f2", "from": "ops@sender-5d1e.example"}
"""Whom it lets in; and `from`, who mails, as the secret of the mail server has it."""


class MailServer(Controller):
    """Keeps what was mailed to it."""

    def __init__(self, *, port_socket: socket.socket, **options: Any) -> None:
        self._socket = port_socket
        super().__init__(
            self,
            hostname="127.0.0.1",
            port=port_socket.getsockname()[1],
            authenticator=self._authenticate,
            **options,
        )
        self.envelopes: list[Envelope] = []
        self.logins: list[bool] = []
        self.commands = 0
        """Attempts to mail, taken or not."""
        self.refused: set[str] = set()
        """Recipients."""
        self.hangs = False
        """Whether it never answers to a mail."""
        self.answer = "250 2.0.0 OK"
        """To a mail."""
        self.hangs_up = False
        """Whether it ends the connection when it has the mail, without a goodbye."""

    def _create_server(self) -> Coroutine[Any, Any, asyncio.Server]:
        return self.loop.create_server(
            self._factory_invoker, sock=self._socket, ssl=self.ssl_context
        )

    def _authenticate(self, *arguments: Any) -> AuthResult:
        given = cast("LoginPassword", arguments[-1])
        right = given == LoginPassword(LOGIN["username"].encode(), LOGIN["password"].encode())
        self.logins.append(right)
        # Some servers repeat what they were given.
        words = f"{given.login.decode()} {given.password.decode()}"
        repeated = f"535 5.7.8 no {words} {b64encode(words.encode()).decode()}"
        return AuthResult(success=right, handled=right, message=None if right else repeated)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks for this name
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.commands += 1
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return f"550 5.1.1 no {address} for {LOGIN['from']}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the same
        self, _server: Any, _session: Any, envelope: Envelope
    ) -> str:
        if self.hangs:
            await asyncio.Event().wait()
        self.envelopes.append(envelope)
        return self.answer

    async def handle_QUIT(  # noqa: N802 - the same
        self, server: Any, _session: Any, _envelope: Envelope
    ) -> str:
        if self.hangs_up:
            server.transport.abort()
        return "221 Bye"

    def mails(self) -> list[EmailMessage]:
        return [
            message_from_bytes(cast("bytes", one.content), policy=policy.SMTP)
            for one in self.envelopes
        ]
