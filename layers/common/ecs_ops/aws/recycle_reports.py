"""Brings the report of a recycle to people: through SNS, and by mail over SMTP.

The secret of the mail server is JSON in Secrets Manager, read for every mail, so that a password
may rotate:

    {"host": "…", "port": 587, "username": "…", "password": "…", "from": "…", "tls": "starttls"}

`tls` may be left out: it is `tls` (encrypted from the first byte) for port 465, otherwise
`starttls`. Nothing is ever sent without encryption, or to a server whose certificate does not
verify. None of these values is logged: a server may repeat in its answer what it was sent, so of
an answer only the codes are told.

`smtplib` is imported when a mail is sent: most cold starts never send one. boto3 brings the rest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import ssl
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import TYPE_CHECKING, Final, Self

from ecs_ops.aws.clients import aws_errors
from ecs_ops.errors import EcsOpsError
from ecs_ops.recycle_report import (
    RestoreReport,
    attributes_of,
    body_of,
    restore_body_of,
    restore_subject_of,
    subject_of,
)
from ecs_ops.verdict import one_line

if TYPE_CHECKING:
    import smtplib
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient

    from ecs_ops.aws.recycle_rescue import Rescue
    from ecs_ops.recycle import Report

_TIMEOUT: Final = 10
"""Seconds for the connection, and for each answer of the server."""
_IMPLICIT_TLS_PORT: Final = 465
_LARGEST_PORT: Final = 65_535
_LOG_LIMIT: Final = 500
# smtplib would ask DNS for a name of this machine, which may take long; this is what it says when
# there is none. https://datatracker.ietf.org/doc/html/rfc5321#section-4.1.4
_OWN_NAME: Final = "[127.0.0.1]"
# https://datatracker.ietf.org/doc/html/rfc3463#section-2
_STATUS: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")

_logger = logging.getLogger(__name__)


class _NotMailed(EcsOpsError):
    """Why a mail did not go; its text holds nothing of the secret."""


@dataclass(frozen=True, slots=True)
class _Server:
    """What the secret holds."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    sender: str
    implicit_tls: bool

    @classmethod
    def parse(cls, secret: str) -> Self:
        """Raise _NotMailed, which names what is wrong but not its value."""
        with _while("reading the SMTP secret"):
            held = json.loads(secret)
        if not isinstance(held, dict):
            raise _NotMailed("the SMTP secret must be a JSON object")
        names = ("host", "username", "password", "from")
        wrong = [name for name in names if not _is_text(held.get(name))]
        port = _port(held.get("port"))
        if not port:
            wrong.append("port")
        tls = held.get("tls", "tls" if port == _IMPLICIT_TLS_PORT else "starttls")
        if tls not in ("tls", "starttls"):
            wrong.append("tls")
        if wrong:
            raise _NotMailed(f"the SMTP secret lacks, or holds wrongly: {', '.join(wrong)}")
        host, username, password, sender = (held[name] for name in names)
        return cls(host, port, username, password, sender, implicit_tls=tls == "tls")


class RecycleReports:
    """A topic and the recipients of mails; both, one of them, or neither.

    Permissions: sns:Publish on the topic; secretsmanager:GetSecretValue on the secret, and
    kms:Decrypt if it is encrypted with a key of one's own.
    """

    def __init__(
        self,
        sns: Callable[[], SNSClient],
        secrets: Callable[[], SecretsManagerClient],
        *,
        topic_arn: str = "",
        smtp_secret_arn: str = "",
        recipients: Sequence[str] = (),
        subject_prefix: str = "",
        timeout: float = _TIMEOUT,
    ) -> None:
        """Make it; nothing is called yet.

        Args:
            sns: makes the client, when it is needed.
            secrets: the same for Secrets Manager.
            topic_arn: '' for none.
            smtp_secret_arn: '' for no mail.
            recipients: addresses; empty for no mail.
            subject_prefix: of the reports; its first 24 characters count.
            timeout: seconds for the connection to the mail server, and for each of its answers.
        """
        self._sns = sns
        self._secrets = secrets
        self._topic_arn = topic_arn
        self._smtp_secret_arn = smtp_secret_arn
        self._recipients = recipients
        self._subject_prefix = subject_prefix
        self._timeout = timeout

    def tell(self, report: Report, execution_arn: str) -> None:
        """Send the report of a recycle; raise nothing."""
        self.send(
            subject_of(report, self._subject_prefix),
            body_of(report, execution_arn),
            attributes_of(report["cluster_name"], report["service_name"], report["outcome"]),
            execution_arn=execution_arn,
        )

    def tell_of_rescue(self, rescue: Rescue, problem: str = "") -> None:
        """Send what became of a recycle that ended without a report; raise nothing.

        Args:
            rescue: what was found and done.
            problem: why the service could not be put back; '' when it could.
        """
        restore = RestoreReport(
            cluster_name=rescue["cluster_name"],
            service_name=rescue["service_name"],
            status=rescue["status"],
            error=rescue["error"],
            put_back=rescue["put_back"],
            desired_count=rescue["desired_count"],
            problem=problem,
        )
        self.send(
            restore_subject_of(restore, self._subject_prefix),
            restore_body_of(restore, rescue["execution"]),
            attributes_of(restore.cluster_name, restore.service_name, restore.status),
            execution_arn=rescue["execution"],
        )

    def send(
        self, subject: str, body: str, attributes: Mapping[str, str], *, execution_arn: str
    ) -> None:
        """Publish and mail a report; raise nothing.

        What fails is logged: a recycle that went well is not to fail for its report, and a mail
        is to go without the topic and the other way round.

        Args:
            subject: at most 99 printable ASCII characters.
            body: plain text; with the attributes at most 256 KiB of UTF-8.
            attributes: names and values by which a subscription to the topic can filter.
            execution_arn: makes a mail that is sent again the same mail, by its Message-ID.
        """
        if self._topic_arn:
            with _logged("published"):
                self._publish(subject, body, attributes)
        if self._smtp_secret_arn and self._recipients:
            with _logged("mailed"):
                self._mail(subject, body, execution_arn)

    def _publish(self, subject: str, body: str, attributes: Mapping[str, str]) -> None:
        with aws_errors("Publish"):
            self._sns().publish(
                TopicArn=self._topic_arn,
                Subject=subject,
                Message=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in attributes.items()
                },
            )

    def _mail(self, subject: str, body: str, execution_arn: str) -> None:
        with aws_errors("GetSecretValue"):
            answer = self._secrets().get_secret_value(SecretId=self._smtp_secret_arn)
        server = _Server.parse(answer.get("SecretString", ""))
        with _while("writing the mail"):
            # The same execution may have two things to tell: its report, and that it was stopped.
            told = f"{execution_arn}\n{subject}"
            message = _message(server.sender, self._recipients, subject, body, told)
        with closing(_connection(server, self._timeout)) as connection:
            with _while("logging in to the mail server"):
                connection.login(server.username, server.password)
            with _while("handing over the mail"):
                refused = connection.send_message(message)
            with suppress(OSError):  # The server has the mail; how it says goodbye is no matter.
                connection.quit()
        if refused:
            of_them = f"{len(refused)} of {len(self._recipients)} recipients"
            raise _NotMailed(f"the mail server refused {of_them}: {_replies(refused)}")


def _connection(server: _Server, timeout: float) -> smtplib.SMTP:
    """Connect, encrypted and to whom the certificate says; raise _NotMailed."""
    import smtplib  # noqa: PLC0415 - costs time; see the module

    context = ssl.create_default_context()
    with _while("connecting to the mail server"):
        if server.implicit_tls:
            return smtplib.SMTP_SSL(
                server.host,
                server.port,
                local_hostname=_OWN_NAME,
                timeout=timeout,
                context=context,
            )
        connection = smtplib.SMTP(
            server.host, server.port, local_hostname=_OWN_NAME, timeout=timeout
        )
    try:
        with _while("beginning TLS with the mail server"):
            # Raises when the server does not offer it: there is no going on in plain text.
            connection.starttls(context=context)
    except BaseException:
        connection.close()
        raise
    return connection


def _message(
    sender: str, recipients: Sequence[str], subject: str, body: str, identity: str
) -> EmailMessage:
    """Write a mail; raise ValueError for a line break in a header, as EmailMessage does.

    The same sender and identity make the same Message-ID.
    """
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message["Date"] = datetime.now(UTC)
    for name, count in ("From", 1), ("To", len(recipients)):
        addresses = message[name].addresses
        if len(addresses) != count or not all(one.username and one.domain for one in addresses):
            raise _NotMailed(f"{name} must be {count} mail address{'es' if count > 1 else ''}")
    digest = hashlib.sha256(identity.encode()).hexdigest()[:40]
    message["Message-ID"] = f"<{digest}@{message['From'].addresses[0].domain}>"
    # So that nobody's absence is announced to it. https://datatracker.ietf.org/doc/html/rfc3834
    message["Auto-Submitted"] = "auto-generated"
    # Not every server takes 8 bits.
    message.set_content(body, cte="quoted-printable")
    return message


@contextmanager
def _logged(done: str) -> Iterator[None]:
    """Log any error and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a report is never worth a recycle
        # Only our own errors have a text that is known to hold no secret.
        why = str(error) if isinstance(error, EcsOpsError) else type(error).__name__
        _logger.warning("The report was not %s: %s", done, one_line(why, _LOG_LIMIT))


@contextmanager
def _while(doing: str) -> Iterator[None]:
    """Turn any error into one that tells what was being done, and nothing of the secret."""
    try:
        yield
    except _NotMailed:
        raise
    except Exception as error:
        raise _NotMailed(f"{doing} failed: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Name an error by its type and codes; its text may repeat what is secret."""
    import smtplib  # noqa: PLC0415 - costs time; see the module

    match error:
        case smtplib.SMTPNotSupportedError():
            told = "the server does not offer it"
        case smtplib.SMTPResponseException():
            told = _reply(error.smtp_code, error.smtp_error)
        case smtplib.SMTPRecipientsRefused():
            told = _replies(error.recipients)
        case ssl.SSLCertVerificationError():
            told = error.verify_message.partition(",")[0]  # What follows may name the host.
        case _:
            told = ""
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _replies(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(_reply(code, text) for code, text in refused.values())


def _reply(code: int, text: bytes | str) -> str:
    """Return the codes of a server's answer, such as `535 5.7.8`."""
    status = _STATUS.match(text if isinstance(text, bytes) else text.encode())
    return f"{code} {status[0].decode()}" if status else str(code)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _port(value: object) -> int:
    """Return a port; 0 for what is none. The console of Secrets Manager keeps numbers as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:6])
    if type(value) is int and 0 < value <= _LARGEST_PORT:
        return value
    return 0
