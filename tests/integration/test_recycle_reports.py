"""A report reaches people: a queue on the topic, and a mail server of this process.

The mail server is a real one, with TLS and logins; SNS and Secrets Manager are moto's.
"""

import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
import trustme
from botocore.exceptions import ClientError
from moto import mock_aws

from ecs_ops.aws.recycle_reports import RecycleReports
from tests.mail_server import LOGIN, MailServer

if TYPE_CHECKING:
    from ecs_ops.aws.recycle_rescue import Rescue
    from ecs_ops.recycle import Report

REPOSITORY = Path(__file__).parents[2]
EXECUTION = "arn:aws:lambda:eu-west-1:111122223333:function:f:7/durable-execution/web/0a16"
ATTRIBUTES = {"cluster": "shop", "service": "web", "outcome": "succeeded"}
RECIPIENTS = ("anna@example.com", "ben@example.com")
SUBJECT = "Recycled web in shop: 20 of 20 tasks"
BODY = f"Recycling Grüße in shop is done.\n\n- {'x' * 400}\n.\n"


class World:
    """The topic with a queue on it, the secret, and mail servers when asked for."""

    def __init__(self, stack: ExitStack, context: ssl.SSLContext) -> None:
        self._stack = stack
        self._context = context
        self.sns = boto3.client("sns", region_name="eu-west-1")
        self.secrets = boto3.client("secretsmanager", region_name="eu-west-1")
        self._sqs = boto3.client("sqs", region_name="eu-west-1")
        self.topic = self.sns.create_topic(Name="alerts")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="inbox")["QueueUrl"]
        self.sns.subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint="arn:aws:sqs:eu-west-1:123456789012:inbox"
        )
        self.secret = self.secrets.create_secret(Name="smtp")["ARN"]
        self.secret_reads = 0

    def server(self, kind: str = "starttls") -> MailServer:
        """Start a server that offers `starttls`, is all `tls`, or offers `neither`."""
        options: dict[str, Any] = {"auth_require_tls": False}
        if kind == "starttls":
            options = {"tls_context": self._context, "require_starttls": True}
        elif kind == "tls":
            options["ssl_context"] = self._context
        server = MailServer(port_socket=socket.create_server(("127.0.0.1", 0)), **options)
        server.start()
        self._stack.callback(server.stop)
        self.keep(port=server.port, **({"tls": "tls"} if kind == "tls" else {}))
        return server

    def keep(self, secret: str | None = None, **fields: Any) -> None:
        """Put the secret; a field that is None is left out."""
        held = {"host": "localhost", **LOGIN, **fields}
        text = json.dumps({name: value for name, value in held.items() if value is not None})
        self.secrets.put_secret_value(
            SecretId=self.secret, SecretString=text if secret is None else secret
        )

    def send(self, subject: str = SUBJECT, body: str = BODY, **options: Any) -> None:
        self.reports(**options).send(subject, body, ATTRIBUTES, execution_arn=EXECUTION)

    def reports(self, **options: Any) -> RecycleReports:
        def secrets() -> Any:
            self.secret_reads += 1
            return self.secrets

        given: dict[str, Any] = {
            "sns": lambda: self.sns,
            "secrets": secrets,
            "topic_arn": self.topic,
            "smtp_secret_arn": self.secret,
            "recipients": RECIPIENTS,
            "timeout": 5,
        }
        return RecycleReports(**given | options)

    def published(self) -> list[dict[str, Any]]:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in found.get("Messages", [])]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def world(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with mock_aws(), ExitStack() as stack:
        yield World(stack, context)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Whatever happens, no value of the secret is logged, and each failure takes one line."""
    with caplog.at_level(logging.DEBUG, logger="ecs_ops"):
        yield caplog
    # `records` are those of the present phase, and the test is over.
    for line in told(caplog.get_records("call")):
        assert "\n" not in line
        assert not [value for value in ("localhost", *LOGIN.values()) if value in line]
        assert b64encode(LOGIN["password"].encode()).decode() not in line


def told(records: Sequence[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if record.name.startswith("ecs_ops")]


@contextmanager
def silent_after(*replies: str) -> Iterator[int]:
    """Answer a client's lines with these replies, and then never again; yield the port."""

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as lines:
            for reply in replies:
                client.sendall(f"{reply}\r\n".encode())
                lines.readline()
            while client.recv(1_024):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_report_is_published_and_mailed(
    world: World, log: pytest.LogCaptureFixture, kind: str
) -> None:
    server = world.server(kind)

    world.send()

    (published,) = world.published()
    assert (published["Subject"], published["Message"]) == (SUBJECT, BODY)
    assert published["MessageAttributes"] == {
        name: {"Type": "String", "Value": value} for name, value in ATTRIBUTES.items()
    }
    ((mail,), (envelope,)) = server.mails(), server.envelopes
    assert server.logins == [True]
    assert (envelope.mail_from, envelope.rcpt_tos) == (LOGIN["from"], list(RECIPIENTS))
    assert (mail["From"], mail["To"]) == (LOGIN["from"], ", ".join(RECIPIENTS))
    assert mail["Subject"] == SUBJECT
    assert mail.get_content().replace("\r\n", "\n") == BODY
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(parsedate_to_datetime(mail["Date"]).timestamp() - time.time()) < 60
    content = cast("bytes", envelope.content)
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) < 100
    assert told(log.records) == []


def test_everyone_reads_the_same_when_a_recycle_is_done(world: World) -> None:
    server = world.server()
    report: Report = {
        "outcome": "failed",
        "problem": "a deployment has begun",
        "cluster_name": "shop",
        "service_name": "Grüße",
        "planned": [],
        "recycled": ["arn:1"],
        "skipped": [{"task_arn": "arn:2", "why": "recycling ended before its turn"}],
        "failed": [],
        "capacity": {"before": 2, "during": 2, "after": 2},
        "desired_count": {"before": 2, "after": 2},
        "next_execution": None,
    }

    world.reports(subject_prefix="[test]").tell(report, EXECUTION)

    ((published,), (mail,)) = world.published(), server.mails()
    subject = "[test] Recycle of Gr??e in shop ended early: 1 of 2 tasks replaced"
    assert published["Subject"] == mail["Subject"] == subject
    assert "Recycling Grüße in shop ended early.\nProblem: a deployment" in published["Message"]
    assert mail.get_content().replace("\r\n", "\n") == f"{published['Message']}\n"
    assert published["MessageAttributes"]["outcome"]["Value"] == "failed"


@pytest.mark.parametrize(("problem", "left"), [("", "put back"), ("AccessDenied", "NOT put back")])
def test_people_hear_how_the_service_was_left_when_a_recycle_was_stopped(
    world: World, problem: str, left: str
) -> None:
    server = world.server()
    rescue: Rescue = {
        "execution": EXECUTION,
        "status": "STOPPED",
        "error": "",
        "cluster_name": "shop",
        "service_name": "web",
        "put_back": not problem,
        "desired_count": 3,
    }

    world.reports(subject_prefix="[test]").tell_of_rescue(rescue, problem)

    ((published,), (mail,)) = world.published(), server.mails()
    subject = f"[test] Recycle of web in shop was stopped: {left}"
    assert published["Subject"] == mail["Subject"] == subject
    assert EXECUTION in published["Message"]
    assert published["MessageAttributes"]["outcome"]["Value"] == "stopped"


def test_mail_has_seven_bits_when_names_have_more(world: World) -> None:
    server = world.server()

    world.send(body="Grüße\n")

    content = cast("bytes", server.envelopes[0].content)
    assert content.isascii()
    assert server.mails()[0].get_content() == "Grüße\r\n"


@pytest.mark.parametrize(
    ("port", "tls", "encrypted"), [(465, None, True), (587, None, False), (465, "starttls", False)]
)
def test_port_decides_about_tls_when_the_secret_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch, port: int, tls: str | None, *, encrypted: bool
) -> None:
    # What is connected to is a port that tests may not open, so a connection is as far as it goes.
    tried: list[tuple[str, int]] = []

    def refuse(kind: str) -> Any:
        def connect(_host: str, port: int, **_options: Any) -> Any:
            tried.append((kind, port))
            raise ConnectionRefusedError

        return connect

    monkeypatch.setattr("smtplib.SMTP_SSL", refuse("tls"))
    monkeypatch.setattr("smtplib.SMTP", refuse("starttls"))
    world.keep(port=port, tls=tls)

    world.send()

    assert tried == [("tls" if encrypted else "starttls", port)]


def test_port_may_be_text_as_the_console_keeps_it(world: World) -> None:
    server = world.server()
    world.keep(port=str(server.port))

    world.send()

    assert len(server.envelopes) == 1


def test_sender_may_have_a_name(world: World) -> None:
    server = world.server()
    world.keep(port=server.port, **{"from": f"Über uns <{LOGIN['from']}>"})

    world.send()

    ((mail,), (envelope,)) = server.mails(), server.envelopes
    assert mail["From"].addresses[0].display_name == "Über uns"
    assert envelope.mail_from == LOGIN["from"]
    assert mail["Message-ID"].endswith("@sender-5d1e.example>")


def test_mail_has_the_same_id_when_it_is_sent_again(world: World) -> None:
    server = world.server()

    world.send()
    world.send()
    world.send("Recycle of web in shop was stopped: put back")

    first, again, other = (mail["Message-ID"] for mail in server.mails())
    assert first == again != other
    assert first.startswith("<")


def test_secret_is_read_once_for_each_mail_so_that_it_may_rotate(world: World) -> None:
    server = world.server()

    world.send()
    assert world.secret_reads == 1
    world.keep(port=server.port, password="rotated")
    world.send()

    assert world.secret_reads == 2
    assert server.logins[0]
    assert not any(server.logins[1:])
    assert len(server.envelopes) == 1


@pytest.mark.parametrize(
    "options", [{"smtp_secret_arn": ""}, {"recipients": ()}], ids=["no secret", "no recipients"]
)
def test_nothing_is_mailed_when_mail_is_not_configured(
    world: World, log: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    server = world.server()

    world.send(**options)

    assert len(world.published()) == 1
    assert (server.envelopes, world.secret_reads, told(log.records)) == ([], 0, [])


def test_nothing_is_published_when_there_is_no_topic(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()

    world.send(topic_arn="")

    assert (len(server.envelopes), world.published(), told(log.records)) == (1, [], [])


@pytest.mark.parametrize("error", ["gone", "no client", "not of AWS"])
def test_mail_goes_when_sns_fails(world: World, log: pytest.LogCaptureFixture, error: str) -> None:
    server = world.server()

    def no_client() -> Any:
        raise {
            "no client": ClientError({"Error": {"Code": "Throttled"}}, "Publish"),
            "not of AWS": RuntimeError(f"about {LOGIN['password']}"),
        }[error]

    world.send(**({"topic_arn": f"{world.topic}x"} if error == "gone" else {"sns": no_client}))

    assert len(server.envelopes) == 1
    (line,) = told(log.records)
    assert line.startswith("The report was not published: ")


def failing(world: World, log: pytest.LogCaptureFixture, **options: Any) -> str:
    """Send a report that cannot be mailed; return the one line that was logged."""
    world.send(**options)
    assert len(world.published()) == 1
    (line,) = told(log.records)
    assert line.startswith("The report was not mailed: ")
    return line.removeprefix("The report was not mailed: ")


def test_topic_hears_when_the_password_is_wrong(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()
    world.keep(port=server.port, password=f"{LOGIN['password']}-old")

    line = failing(world, log)

    assert line == "logging in to the mail server failed: SMTPAuthenticationError: 535 5.7.8"
    assert not any(server.logins)
    assert server.commands == 0


def test_topic_hears_when_the_password_cannot_be_sent(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    world.keep(port=world.server().port, password="pässword")

    assert failing(world, log).startswith("logging in to the mail server failed: Unicode")


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_nothing_is_said_when_the_certificate_is_not_trusted(
    world: World,
    log: pytest.LogCaptureFixture,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = world.server(kind)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))

    line = failing(world, log)

    assert "SSLCertVerificationError: unable to get local issuer certificate" in line
    assert (server.logins, server.commands) == ([], 0)


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_nothing_is_said_when_the_certificate_is_for_another_host(
    world: World, log: pytest.LogCaptureFixture, kind: str
) -> None:
    server = world.server(kind)
    world.keep(host="127.0.0.1", port=server.port, tls=kind)

    line = failing(world, log)

    assert "SSLCertVerificationError: IP address mismatch" in line
    assert "127.0.0.1" not in line
    assert (server.logins, server.commands) == ([], 0)


def test_nothing_is_said_when_the_server_does_not_offer_starttls(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server("neither")

    line = failing(world, log)

    assert line == (
        "beginning TLS with the mail server failed: "
        "SMTPNotSupportedError: the server does not offer it"
    )
    assert (server.logins, server.commands) == ([], 0)


def test_topic_hears_when_the_server_refuses_connections(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    world.keep(port=port)

    line = failing(world, log)

    assert line == "connecting to the mail server failed: ConnectionRefusedError"


@pytest.mark.parametrize(
    ("replies", "tls"),
    [
        ([], "starttls"),
        ([], "tls"),
        (["220 hello"], "starttls"),
        (["220 hello", "250-mail\r\n250 STARTTLS"], "starttls"),
        (["220 hello", "250-mail\r\n250 STARTTLS", "220 go on"], "starttls"),
    ],
)
def test_patience_ends_when_the_server_goes_silent(
    world: World, log: pytest.LogCaptureFixture, replies: Sequence[str], tls: str
) -> None:
    with silent_after(*replies) as port:
        world.keep(port=port, tls=tls)
        began = time.monotonic()
        line = failing(world, log, timeout=0.2)

    assert time.monotonic() - began < 10
    assert "mail server failed: " in line


def test_patience_ends_when_the_server_does_not_take_the_mail(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()
    server.hangs = True
    began = time.monotonic()

    line = failing(world, log, timeout=1)

    assert time.monotonic() - began < 20
    assert line.startswith("handing over the mail failed: ")


def test_topic_hears_when_the_server_refuses_the_mail(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    world.server().answer = f"554 5.7.1 not from {LOGIN['from']}"

    assert failing(world, log) == "handing over the mail failed: SMTPDataError: 554 5.7.1"


def test_nothing_is_wrong_when_the_server_hangs_up_after_the_mail(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()
    server.hangs_up = True

    world.send()

    assert len(server.envelopes) == 1
    assert told(log.records) == []


def test_others_get_the_mail_when_one_recipient_is_refused(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()
    server.refused = {RECIPIENTS[0]}

    assert failing(world, log) == "the mail server refused 1 of 2 recipients: 550 5.1.1"
    assert server.envelopes[0].rcpt_tos == [RECIPIENTS[1]]


def test_topic_hears_when_every_recipient_is_refused(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()
    server.refused = {*RECIPIENTS}

    assert failing(world, log).endswith("SMTPRecipientsRefused: 550 5.1.1, 550 5.1.1")
    assert server.envelopes == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (f"password={LOGIN['password']}", "reading the SMTP secret failed: JSONDecodeError"),
        ("", "reading the SMTP secret failed: JSONDecodeError"),
        (json.dumps([LOGIN["password"]]), "the SMTP secret must be a JSON object"),
        ("{}", "the SMTP secret lacks, or holds wrongly: host, username, password, from, port"),
    ],
)
def test_topic_hears_when_the_secret_is_no_login(
    world: World, log: pytest.LogCaptureFixture, secret: str, why: str
) -> None:
    # An empty SecretString cannot be put; a secret that holds bytes has none.
    if secret:
        world.keep(secret)
    else:
        world.secrets.put_secret_value(SecretId=world.secret, SecretBinary=b"x")

    assert failing(world, log) == why


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"password": None}, "password"),
        ({"password": 7}, "password"),
        ({"host": " "}, "host"),
        ({"from": None}, "from"),
        ({"port": 0}, "port"),
        ({"port": True}, "port"),
        ({"port": "65536"}, "port"),
        ({"port": "smtp"}, "port"),
        ({"port": "²"}, "port"),
        ({"tls": "none"}, "tls"),
        ({"tls": ["tls"]}, "tls"),
    ],
)
def test_topic_hears_which_key_of_the_secret_is_wrong(
    world: World, log: pytest.LogCaptureFixture, fields: dict[str, Any], name: str
) -> None:
    world.keep(**{"port": 587} | fields)

    assert failing(world, log) == f"the SMTP secret lacks, or holds wrongly: {name}"


def test_topic_hears_when_there_is_no_secret(world: World, log: pytest.LogCaptureFixture) -> None:
    line = failing(world, log, smtp_secret_arn=f"{world.secret}x")

    assert line.startswith("GetSecretValue failed: ResourceNotFoundException: ")


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        ({"recipients": ["anna@example.com\r\nBcc: eve@example.com"]}, {}),
        ({"recipients": ["anna@example.com, eve@example.com"]}, {}),
        ({"recipients": ["anna"]}, {}),
        ({}, {"from": f"{LOGIN['from']}\r\nBcc: eve@example.com"}),
        ({}, {"from": "nobody"}),
    ],
)
def test_no_header_can_be_smuggled_in(
    world: World, log: pytest.LogCaptureFixture, options: dict[str, Any], secret: dict[str, str]
) -> None:
    server = world.server()
    world.keep(port=server.port, **secret)

    assert failing(world, log, **options)
    assert server.commands == 0


def test_no_header_can_be_smuggled_in_through_the_subject(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    server = world.server()

    world.send("Recycled\nBcc: eve@example.com")

    assert server.commands == 0
    assert "writing the mail failed: ValueError" in told(log.records)[-1]


def test_cold_start_does_without_mail_when_none_is_sent() -> None:
    code = (
        "import sys; before = set(sys.modules);"
        "from ecs_ops.aws.recycle_reports import RecycleReports;"
        "RecycleReports(None, None).send('', '', {}, execution_arn='');"
        "print(sorted({'smtplib', 'email.policy'} & set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "layers/common")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout == "[]\n"
