"""Who is let in, and that nobody else is."""

import dataclasses
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecs_ops.launch_access import (
    WINDOW_SECONDS,
    Access,
    HmacAccess,
    IamAccess,
    TokenAccess,
    read_keys,
    sign,
)
from ecs_ops.launch_api import Request, Unauthorized
from ecs_ops.settings import MissingSettings

NOW = 1_790_000_000.0
ALICES, BOBS = "alices-token-of-32-characters-aa", "bobs-token-of-32-characters-bbbb"


class Secret:
    """A secret that is changed behind the function's back, and copied as the adapter does."""

    def __init__(self, **keys: str) -> None:
        self.keys = keys
        self.age = 0.0
        self.reads = 0
        self._copy = ""

    def read(self, *, at_most_seconds_old: float) -> str:
        if not self._copy or self.age > at_most_seconds_old:
            self._copy = json.dumps(self.keys)
            self.age = 0.0
            self.reads += 1
        return self._copy


class Signatures:
    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}

    def claim(self, signature: str, until: int) -> bool:
        if signature in self.claimed:
            return False
        self.claimed[signature] = until
        return True


def request(method: str = "POST", path: str = "/runs", body: str = "{}", **more: str) -> Request:
    query = more.pop("query", "")
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return Request(
        method=method,
        path=path,
        query=query,
        headers=headers,
        content=body,
        is_base64=False,
        iam_arn="",
        id="1",
    )


def is_refused(access: Access, sent: Request) -> bool:
    with pytest.raises(Unauthorized) as refused:
        access.caller(sent)
    # Not a word about what was wrong.
    return str(refused.value) == ""


class TestIam:
    def test_caller_is_who_aws_says(self) -> None:
        signed = dataclasses.replace(request(), iam_arn="arn:aws:iam::1:user/alice")

        assert IamAccess().caller(signed) == "arn:aws:iam::1:user/alice"

    def test_nobody_is_let_in_when_aws_names_nobody(self) -> None:
        assert is_refused(IamAccess(), request(authorization=f"Bearer {ALICES}"))


class TestToken:
    @pytest.mark.parametrize(("token", "name"), [(ALICES, "alice"), (BOBS, "bob")])
    def test_caller_is_who_holds_the_token(self, token: str, name: str) -> None:
        access = TokenAccess(Secret(alice=ALICES, bob=BOBS))

        assert access.caller(request(authorization=f"Bearer {token}")) == name
        assert access.caller(request(authorization=f"bearer  {token} ")) == name

    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Bearer",
            "Bearer ",
            ALICES,
            f"Basic {ALICES}",
            "Bearer x",
            f"Bearer {ALICES}x",
            "Bearer \ud800",
        ],
    )
    def test_nobody_is_let_in_when_the_token_is_wrong(self, authorization: str) -> None:
        access = TokenAccess(Secret(alice=ALICES))

        assert is_refused(access, request(authorization=authorization))
        assert is_refused(access, request())

    @given(st.text())
    def test_nobody_guesses(self, token: str) -> None:
        assert is_refused(
            TokenAccess(Secret(alice=ALICES)), request(authorization=f"Bearer {token}")
        )

    def test_new_token_is_let_in_when_the_copy_is_some_seconds_old(self) -> None:
        secret = Secret(alice=ALICES)
        access = TokenAccess(secret)
        access.caller(request(authorization=f"Bearer {ALICES}"))
        secret.keys, secret.age = {"alice": ALICES, "bob": BOBS}, 11

        assert access.caller(request(authorization=f"Bearer {BOBS}")) == "bob"

    def test_old_token_is_refused_when_the_copy_has_aged(self) -> None:
        secret = Secret(alice=ALICES)
        access = TokenAccess(secret)
        access.caller(request(authorization=f"Bearer {ALICES}"))
        secret.keys, secret.age = {"bob": BOBS}, 61

        assert is_refused(access, request(authorization=f"Bearer {ALICES}"))

    def test_secret_is_not_read_for_every_stranger(self) -> None:
        secret = Secret(alice=ALICES)
        access = TokenAccess(secret)

        for _ in range(100):
            is_refused(access, request(authorization="Bearer wrong"))

        assert secret.reads == 1

    def test_webhooks_are_not_let_in(self) -> None:
        with pytest.raises(Unauthorized):
            TokenAccess(Secret(alice=ALICES)).webhook(request(authorization=f"Bearer {ALICES}"))


class TestKeys:
    def test_token_is_nobodys_when_it_is_short_or_its_name_is_odd(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        text = json.dumps({"alice": ALICES, "bob": "too-short-12345", "a/b": BOBS, "x": 7})

        assert read_keys(text) == {"alice": ALICES}
        assert not any(token in caplog.text for token in (ALICES, "too-short", BOBS))

    @pytest.mark.parametrize("text", ["", "hunter2-hunter2-hunter2", "[]", '"hunter2"'])
    def test_operator_is_told_without_the_secret_when_it_is_no_object(self, text: str) -> None:
        with pytest.raises(MissingSettings) as raised:
            read_keys(text)

        assert "hunter2" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def signed(sent: Request, key: str = ALICES, at: float | str = NOW) -> Request:
    path = f"{sent.path}?{sent.query}" if sent.query else sent.path
    key_of_run = sent.headers.get("idempotency-key", "")
    text = f"{at}\n{sent.method}\n{path}\n{key_of_run}\n{sent.content}"
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    headers = {**sent.headers, "x-timestamp": str(at), "x-signature": f"sha256={signature}"}
    return dataclasses.replace(sent, headers=headers)


class TestHmac:
    def access(self, signatures: Signatures | None = None) -> HmacAccess:
        secret = Secret(alice=ALICES, bob=BOBS)
        return HmacAccess(secret, signatures or Signatures(), lambda: NOW)

    @pytest.mark.parametrize(("key", "name"), [(ALICES, "alice"), (BOBS, "bob")])
    def test_caller_is_whose_key_signed(self, key: str, name: str) -> None:
        assert self.access().caller(signed(request(), key)) == name

    def test_query_and_body_are_signed_too(self) -> None:
        sent = signed(request("GET", "/runs", "", query="limit=5&after=x"))

        assert self.access().caller(sent) == "alice"

    @pytest.mark.parametrize(
        "change",
        [
            {"method": "DELETE"},
            {"path": "/runs/1"},
            {"query": "limit=1"},
            {"content": '{"a": 1}'},
            {"headers": {}},
            {"headers": {"x-timestamp": str(NOW)}},
        ],
    )
    def test_nobody_is_let_in_when_anything_was_changed(self, change: dict[str, Any]) -> None:
        assert is_refused(self.access(), dataclasses.replace(signed(request()), **change))

    @pytest.mark.parametrize(("before", "after"), [("", "a"), ("a", ""), ("a", "b")])
    def test_nobody_is_let_in_when_the_idempotency_key_was_changed(
        self, before: str, after: str
    ) -> None:
        # With another one a request that was recorded would start another run.
        sent = signed(request(**{"idempotency-key": before} if before else {}))
        assert self.access().caller(sent) == "alice"
        headers = {**sent.headers, "idempotency-key": after}

        assert is_refused(self.access(), dataclasses.replace(sent, headers=headers))

    def test_nobody_is_let_in_when_the_timestamp_was_changed(self) -> None:
        sent = signed(request())
        headers = {**sent.headers, "x-timestamp": str(NOW + 1)}

        assert is_refused(self.access(), dataclasses.replace(sent, headers=headers))

    @pytest.mark.parametrize("off", [-WINDOW_SECONDS - 1, WINDOW_SECONDS + 1])
    def test_nobody_is_let_in_when_the_time_is_off(self, off: float) -> None:
        assert is_refused(self.access(), signed(request(), at=NOW + off))

    @pytest.mark.parametrize("off", [-WINDOW_SECONDS, WINDOW_SECONDS])
    def test_caller_is_let_in_when_the_time_is_within_the_window(self, off: float) -> None:
        assert self.access().caller(signed(request(), at=NOW + off)) == "alice"

    @pytest.mark.parametrize(
        "at", ["", "nan", "inf", "-1", "1e9", " 1790000000", "1" * 400, "\u0661"]
    )
    def test_nobody_is_let_in_when_the_timestamp_is_no_plain_number(self, at: str) -> None:
        assert is_refused(self.access(), signed(request(), at=at))

    def test_nobody_is_let_in_when_a_request_is_replayed(self) -> None:
        signatures = Signatures()
        access = self.access(signatures)
        sent = signed(request())
        access.caller(sent)

        assert is_refused(access, sent)
        upper = {**sent.headers, "x-signature": sent.headers["x-signature"].upper()}
        assert is_refused(access, dataclasses.replace(sent, headers=upper))
        # Kept for as long as its timestamp is good.
        assert set(signatures.claimed.values()) == {int(NOW) + 2 * WINDOW_SECONDS}

    def test_forged_signature_takes_no_room(self) -> None:
        signatures = Signatures()

        is_refused(self.access(signatures), signed(request(), "another-key-of-no-importance"))

        assert signatures.claimed == {}

    def test_caller_is_let_in_again_when_the_time_differs_by_a_fraction(self) -> None:
        access = self.access()

        assert {access.caller(signed(request(), at=NOW + part / 10)) for part in range(5)} == {
            "alice"
        }


class TestWebhook:
    def test_caller_is_whose_key_signed_as_github_signs(self) -> None:
        access = TestHmac().access()
        # From GitHub's page "Validating webhook deliveries", which gives this for a test.
        secret, body = "It's a Secret to Everybody", "Hello, World!"
        assert sign(secret, body.encode()) == (
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        )

        sent = request(body=body, x_hub_signature_256=sign(BOBS, body.encode()))

        assert access.webhook(sent) == "bob"

    @pytest.mark.parametrize("signature", ["", "sha256=", "sha256=00", "sha1=00", "sha256=é"])
    def test_nobody_is_let_in_when_the_signature_is_wrong(self, signature: str) -> None:
        with pytest.raises(Unauthorized):
            TestHmac().access().webhook(request(x_hub_signature_256=signature))
