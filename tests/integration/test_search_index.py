"""What a domain gets to index, and what goes back to the queue when it does not take it."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.util import connection

from ecs_ops.aws.search_index import SearchIndex
from ecs_ops.event_record import read_event
from tests.search_server import (
    NAME,
    REGION,
    SECRETS,
    SearchServer,
    digest,
    item_error,
    search_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ecs_ops.event_record import EcsEvent

REPOSITORY = Path(__file__).parents[2]
CONTENT = "made-up-content-of-an-event"


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchServer]:
    with search_server(tmp_path) as (server, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        yield server


@pytest.fixture(scope="module")
def shared_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    """One for all examples of a property."""
    with search_server(tmp_path_factory.mktemp("domain")) as (server, trusted):
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(trusted)
        yield server
        os.environ.pop("SSL_CERT_FILE")
        if before:
            os.environ["SSL_CERT_FILE"] = before


def event(number: int, *, at: str = "2026-11-21T09:00:00Z", filler: int = 0) -> EcsEvent:
    envelope = {
        "id": f"event-{number}",
        "time": at,
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "detail": {"taskArn": "arn:aws:ecs:eu-west-1:1:task/c/1", "note": CONTENT + "x" * filler},
    }
    return read_event(json.dumps(envelope))


def events(count: int, **more: Any) -> dict[str, EcsEvent]:
    return {f"message-{number}": event(number, **more) for number in range(count)}


def search_index(server: SearchServer, key: str = "AKIDFIRST", **more: Any) -> SearchIndex:
    more = {"sleep": lambda _: None, "credentials": Credentials(key, SECRETS[key]), **more}
    return SearchIndex(server.endpoint, REGION, **more)


def a_minute() -> float:
    return 60.0


def index(server: SearchServer, batch: dict[str, EcsEvent], **more: Any) -> dict[str, str]:
    return search_index(server, **more).index(batch, time_left=a_minute)


def test_whole_event_is_in_the_index_of_its_day_when_it_is_sent(domain: SearchServer) -> None:
    batch = {
        "one": event(1, at="2026-11-21T23:59:59Z"),
        # Already the next day in UTC.
        "two": event(2, at="2026-11-21T23:30:00-01:00"),
    }

    assert index(domain, batch) == {}
    assert domain.documents == {
        ("ecs-events-2026.11.21", "event-1"): batch["one"].envelope,
        ("ecs-events-2026.11.22", "event-2"): batch["two"].envelope,
    }


def test_environment_is_masked_when_the_event_has_one(domain: SearchServer) -> None:
    sample = json.loads((REPOSITORY / "events/log_events/task_stopped_failed.json").read_text())

    index(domain, {"one": read_event(sample["Records"][0]["body"])})

    (document,) = domain.documents.values()
    (override,) = document["detail"]["overrides"]["containerOverrides"]
    assert {"name": "DATABASE_PASSWORD", "value": "***"} in override["environment"]


def test_one_document_is_left_when_an_event_comes_again(domain: SearchServer) -> None:
    assert index(domain, {"first": event(1), "second": event(1)}) == {}
    assert index(domain, {"third": event(1)}) == {}
    assert len(domain.documents) == 1


def test_nothing_is_sent_when_there_is_no_event(domain: SearchServer) -> None:
    assert index(domain, {}) == {}
    assert domain.callers == []


class TestSignature:
    """The server makes it again, from what it received and the caller's secret."""

    def test_caller_is_known_when_the_secret_is_right(self, domain: SearchServer) -> None:
        assert index(domain, events(3)) == {}
        assert domain.callers == ["AKIDFIRST"]
        (headers,) = domain.headers
        assert headers["content-encoding"] == "gzip"
        assert headers["content-type"] == "application/json"

    def test_nothing_is_indexed_when_the_secret_is_wrong(self, domain: SearchServer) -> None:
        wrong = Credentials("AKIDFIRST", SECRETS["AKIDSECOND"])

        assert index(domain, events(2), credentials=wrong) == {
            "message-0": "HTTP 403",
            "message-1": "HTTP 403",
        }
        # No retry mends it.
        assert domain.callers == [None]
        assert domain.documents == {}

    def test_session_token_is_signed_when_credentials_are_temporary(
        self, domain: SearchServer
    ) -> None:
        temporary = Credentials("AKIDFIRST", SECRETS["AKIDFIRST"], "a-token")

        assert index(domain, events(1), credentials=temporary) == {}
        (headers,) = domain.headers
        assert headers["x-amz-security-token"] == "a-token"
        assert "x-amz-security-token" in headers["authorization"]

    def test_body_is_covered_when_it_is_compressed(
        self, domain: SearchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bodies: list[bytes] = []
        known = SearchServer.caller

        def tampered(server: SearchServer, request: Any, body: bytes) -> str | None:
            bodies.append(body)
            return known(server, request, body + b"?")

        monkeypatch.setattr(SearchServer, "caller", tampered)

        assert index(domain, events(1)) == {"message-0": "HTTP 403"}
        assert domain.headers[0]["x-amz-content-sha256"] == digest(bodies[0])

    def test_new_credentials_sign_when_the_old_ones_expired(self, domain: SearchServer) -> None:
        start = datetime(2026, 11, 21, tzinfo=UTC)
        now = [start]
        refreshing = RefreshableCredentials(
            *("AKIDFIRST", SECRETS["AKIDFIRST"], "token"),
            start + timedelta(hours=6),
            refresh_using=lambda: {
                "access_key": "AKIDSECOND",
                "secret_key": SECRETS["AKIDSECOND"],
                "token": "another-token",
                "expiry_time": (start + timedelta(days=1)).isoformat(),
            },
            method="test",
            time_fetcher=lambda: now[0],
        )
        warm = search_index(domain, credentials=refreshing)
        warm.index(events(1), time_left=a_minute)
        now[0] = start + timedelta(hours=7)
        warm.index(events(1), time_left=a_minute)

        assert domain.callers == ["AKIDFIRST", "AKIDSECOND"]

    def test_credentials_of_the_function_sign_when_none_are_given(
        self, domain: SearchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSECOND")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AKIDSECOND"])
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)

        assert index(domain, events(1), credentials=None) == {}
        assert domain.callers == ["AKIDSECOND"]

    def test_nothing_is_sent_when_the_server_is_not_trusted(
        self, domain: SearchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")

        assert index(domain, events(1)) == {"message-0": "SSLError"}
        assert domain.callers == []

    @pytest.mark.parametrize("endpoint", [NAME, f"https://{NAME}", f"https://{NAME}/"])
    def test_name_is_signed_without_a_port_when_the_endpoint_is_a_real_one(
        self, domain: SearchServer, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        connect = connection.create_connection
        addresses = []

        def connect_here(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
            addresses.append(address)
            return connect(("127.0.0.1", domain.server_address[1]), *args, **more)

        monkeypatch.setattr(connection, "create_connection", connect_here)
        real = SearchIndex(
            endpoint, REGION, credentials=Credentials("AKIDFIRST", SECRETS["AKIDFIRST"])
        )

        assert real.index(events(1), time_left=a_minute) == {}
        assert addresses == [(NAME, 443)]
        assert domain.headers[0]["host"] == NAME


class TestFailures:
    """Only what the domain did not take comes back, and says why."""

    def test_one_message_comes_back_when_its_document_is_refused(
        self, domain: SearchServer
    ) -> None:
        domain.item_errors = {
            "event-1": item_error("mapper_parsing_exception", reason=CONTENT),
            "event-3": item_error("es_rejected_execution_exception", status=429),
        }

        assert index(domain, events(5)) == {
            "message-1": "mapper_parsing_exception",
            "message-3": "es_rejected_execution_exception",
        }
        assert {key for _, key in domain.documents} == {"event-0", "event-2", "event-4"}
        assert len(domain.batches) == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_it_is_sent_once_more_when_the_domain_is_busy(
        self, domain: SearchServer, status: int
    ) -> None:
        domain.replies = [(status, b"<html>busy</html>")]
        pauses: list[float] = []

        assert index(domain, events(2), sleep=pauses.append) == {}
        assert len(domain.batches) == 2
        (pause,) = pauses
        assert 0 <= pause <= 1

    @pytest.mark.parametrize("status", [429, 503])
    def test_all_come_back_after_two_attempts_when_it_stays_busy(
        self, domain: SearchServer, status: int
    ) -> None:
        domain.replies = [(status, b'{"error": {"type": "circuit_breaking_exception"}}')] * 9

        # Three requests' worth: after the first, the others are not tried.
        failures = index(domain, events(6, filler=500), chunk_bytes=1600)

        assert failures == {f"message-{number}": f"HTTP {status}" for number in range(6)}
        assert len(domain.batches) == 2

    @pytest.mark.parametrize("status", [301, 401, 403, 404])
    def test_it_is_sent_once_when_no_retry_mends_it(
        self, domain: SearchServer, status: int
    ) -> None:
        domain.replies = [(status, b'{"message": "no"}')] * 9

        assert index(domain, events(2)) == {
            "message-0": f"HTTP {status}",
            "message-1": f"HTTP {status}",
        }
        assert len(domain.batches) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"<html>It works</html>",
            b"[]",
            b"null",
            b'{"items": []}',
            b'{"items": {}}',
            b'{"items": [{"index": {"status": 201}}]}',
            b"[" * 100_000,
        ],
        ids=lambda reply: reply[:12].decode(),
    )
    @pytest.mark.parametrize("status", [200, 400])
    def test_all_come_back_when_the_answer_is_not_one(
        self, domain: SearchServer, status: int, reply: bytes
    ) -> None:
        domain.replies = [(status, reply)] * 9

        assert set(index(domain, events(2))) == {"message-0", "message-1"}
        assert len(domain.batches) <= 3

    def test_one_document_is_refused_alone_when_it_makes_the_request_invalid(
        self, domain: SearchServer
    ) -> None:
        # All eight; its half; its quarter; itself. Halves without it are taken.
        invalid = (400, b'{"error": {"type": "action_request_validation_exception"}}')
        domain.replies = [invalid] * 4

        assert index(domain, events(8)) == {"message-0": "HTTP 400"}
        assert {key for _, key in domain.documents} == {f"event-{n}" for n in range(1, 8)}

    def test_request_is_halved_when_it_is_too_large(self, domain: SearchServer) -> None:
        domain.too_many = 3

        assert index(domain, events(7)) == {}
        assert len(domain.documents) == 7

    def test_requests_stay_small_when_events_are_large(self, domain: SearchServer) -> None:
        assert index(domain, events(5, filler=1000), chunk_bytes=3000) == {}
        assert [len(batch) for batch in domain.batches] == [2, 2, 1]

    def test_event_goes_alone_when_it_is_larger_than_a_request_should_be(
        self, domain: SearchServer
    ) -> None:
        batch = {"small": event(1), "large": event(2, filler=5000), "other": event(3)}

        assert index(domain, batch, chunk_bytes=1000) == {}
        assert domain.batches == [["event-1"], ["event-2"], ["event-3"]]

    def test_requests_hold_500_events_when_there_are_more(self, domain: SearchServer) -> None:
        assert index(domain, events(501)) == {}
        assert [len(batch) for batch in domain.batches] == [500, 1]


class TestNoAnswer:
    """A domain that is not there costs little of the function's time."""

    def test_all_come_back_when_the_domain_hangs(self, domain: SearchServer) -> None:
        domain.hangs.set()
        begun = time.monotonic()
        pauses: list[float] = []
        impatient = search_index(domain, read_seconds=0.05, chunk_bytes=1600, sleep=pauses.append)

        failures = impatient.index(events(4, filler=500), time_left=a_minute)

        assert failures == {f"message-{number}": "ReadTimeoutError" for number in range(4)}
        # It has the request already: a second one would only add to its load.
        assert pauses == []
        assert time.monotonic() - begun < 5

    def test_it_waits_no_longer_than_there_is_time_when_the_domain_hangs(
        self, domain: SearchServer
    ) -> None:
        domain.hangs.set()
        begun = time.monotonic()

        failures = search_index(domain).index(events(1), time_left=lambda: 0.05)

        assert failures == {"message-0": "ReadTimeoutError"}
        assert time.monotonic() - begun < 5

    def test_all_come_back_when_nobody_accepts_the_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"https://localhost:{silent.getsockname()[1]}"
            hung = SearchIndex(
                endpoint, REGION, credentials=Credentials("a", "b"), connect_seconds=0.05
            )

            assert set(hung.index(events(2), time_left=a_minute)) == {"message-0", "message-1"}

    def test_all_come_back_after_two_attempts_when_the_connection_is_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        pauses: list[float] = []
        gone = SearchIndex(
            f"https://127.0.0.1:{port}",
            REGION,
            credentials=Credentials("a", "b"),
            sleep=pauses.append,
        )

        assert gone.index(events(2), time_left=a_minute) == {
            "message-0": "NewConnectionError",
            "message-1": "NewConnectionError",
        }
        assert len(pauses) == 1

    def test_nothing_is_sent_when_no_time_is_left(self, domain: SearchServer) -> None:
        failures = search_index(domain).index(events(2), time_left=lambda: 0.0)

        assert failures == {"message-0": "no time left", "message-1": "no time left"}
        assert domain.callers == []

    def test_the_rest_comes_back_when_time_runs_out(self, domain: SearchServer) -> None:
        left = iter([60.0, 0.0])
        small = search_index(domain, chunk_bytes=1)

        assert small.index(events(3), time_left=lambda: next(left)) == {
            "message-1": "no time left",
            "message-2": "no time left",
        }
        assert domain.batches == [["event-0"]]

    def test_it_is_not_sent_again_when_there_is_no_time_to_pause(
        self, domain: SearchServer
    ) -> None:
        domain.replies = [(503, b"")]
        left = iter([60.0, 0.0])

        failures = search_index(domain).index(events(1), time_left=lambda: next(left))

        assert failures == {"message-0": "HTTP 503"}
        assert len(domain.batches) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
STATUS = st.sampled_from([100, 199, 200, 201, 299, 300, 400, 409, 429, 500, 503]) | JSON
ITEM = JSON | st.fixed_dictionaries(
    {
        "index": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "status": STATUS,
                "error": JSON | st.fixed_dictionaries({"type": JSON, "reason": JSON}),
            },
        )
    }
)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 8),
    items=st.dictionaries(st.integers(0, 7), ITEM),
    replies=st.lists(
        st.tuples(
            st.sampled_from([200, 204, 301, 400, 403, 413, 429, 500, 503]),
            JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=5),
        ),
        max_size=4,
    ),
    chunk_bytes=st.sampled_from([1, 700, 5_000_000]),
)
def test_each_event_is_acknowledged_or_comes_back_whatever_the_domain_answers(
    shared_domain: SearchServer,
    count: int,
    items: dict[int, Any],
    replies: list[tuple[int, bytes]],
    chunk_bytes: int,
) -> None:
    shared_domain.documents = {}
    shared_domain.item_errors = {f"event-{number}": item for number, item in items.items() if item}
    shared_domain.replies = list(replies)

    failures = index(shared_domain, events(count), chunk_bytes=chunk_bytes)

    said_yes = {
        number
        for number, item in items.items()
        if isinstance(item, dict)
        and isinstance(result := item.get("index"), dict)
        and isinstance(result.get("status"), int)
        and 200 <= result["status"] <= 299
        and not result.get("error")
    }
    taken = {int(key.removeprefix("event-")) for _, key in shared_domain.documents} | said_yes
    for number in range(count):
        assert (f"message-{number}" in failures) or number in taken
    assert failures.keys() <= events(count).keys()
    assert all(failures.values())


@pytest.mark.parametrize(
    "fail",
    [
        lambda server: server.hangs.clear(),
        lambda server: server.replies.extend([(503, CONTENT.encode())] * 2),
        lambda server: server.replies.append((400, json.dumps({"error": CONTENT}).encode())),
        lambda server: server.item_errors.update(
            {"event-0": item_error("mapper_parsing_exception", reason=CONTENT)}
        ),
        lambda server: server.item_errors.update({"event-0": item_error(CONTENT)}),
        lambda server: server.hangs.set(),
    ],
    ids=["taken", "busy", "refused", "item refused", "odd type", "hanging"],
)
def test_neither_content_nor_secret_is_told_when_everything_is_logged(
    domain: SearchServer, caplog: pytest.LogCaptureFixture, fail: Callable[[SearchServer], None]
) -> None:
    fail(domain)
    with caplog.at_level(logging.DEBUG):
        failures = index(domain, events(1), read_seconds=0.05)

    told = caplog.text + str(failures)
    assert CONTENT not in told
    assert SECRETS["AKIDFIRST"] not in told


def test_cold_start_does_without_opensearch_when_nothing_is_indexed() -> None:
    code = (
        "import sys; from ecs_ops.aws.search_index import SearchIndex;"
        "SearchIndex('search.example.com', 'eu-west-1').index({}, time_left=lambda: 1.0);"
        "print(sorted({'opensearchpy', 'requests'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "layers/common")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout == "[]\n"


def test_index_template_of_the_documentation_is_for_our_indexes(domain: SearchServer) -> None:
    text = (REPOSITORY / "docs/examples/opensearch-index-template.json").read_text()
    index(domain, events(1))

    template = json.loads(text)
    ((written, _),) = domain.documents
    (pattern,) = template["index_patterns"]
    assert fnmatchcase(written, pattern)
    assert set(template) == {"index_patterns", "template"}
    assert set(template["template"]) == {"settings", "mappings"}
