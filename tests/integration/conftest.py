"""What integration tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answer_server import AnswerServer, answer_server


@pytest.fixture
def cloudformation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnswerServer]:
    """Where custom resources put their answers; crhelper trusts it and knows its Region."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with answer_server(tmp_path) as (server, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        yield server
