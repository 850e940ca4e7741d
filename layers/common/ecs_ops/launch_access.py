"""Who calls launch_task: by AWS's signature, by a token, or by a signature of our own.

    AWS_IAM   AWS has checked the signature; the function URL lets nobody else in
    TOKEN     `Authorization: Bearer <token>`
    HMAC      `X-Timestamp` and `X-Signature`; for a webhook, GitHub's `X-Hub-Signature-256`

Tokens and keys are a JSON object, name: token, in one secret. The name is the caller's.
Whoever is not let in is not told why.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from typing import TYPE_CHECKING, Final, Protocol

from ecs_ops.launch_api import Unauthorized
from ecs_ops.settings import MissingSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecs_ops.launch_api import Request

WINDOW_SECONDS: Final = 300
"""How far a timestamp may be off, either way."""
SHORTEST_TOKEN: Final = 16
"""Characters. A shorter one is never let in."""

_COPY_SECONDS = 60.0
# A token that is not known may be new: look again, but no stranger makes us look all the time.
_FRESH_SECONDS = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_SCHEME = "sha256="

_logger = logging.getLogger(__name__)


class Secret(Protocol):
    """What `ecs_ops.aws.launch_access.Secret` does, and a fake can do."""

    def read(self, *, at_most_seconds_old: float) -> str: ...


class Signatures(Protocol):
    """What `ecs_ops.aws.launch_access.SeenSignatures` does, and a fake can do."""

    def claim(self, signature: str, until: int) -> bool: ...


class Access(Protocol):
    """One of the ways in. Both methods return the caller's name."""

    def caller(self, request: Request, /) -> str:
        """Raise Unauthorized when the request is nobody's."""
        ...

    def webhook(self, request: Request, /) -> str:
        """Raise Unauthorized when it is not signed as GitHub signs, or webhooks are not let in."""
        ...


class IamAccess:
    """Believes AWS."""

    def caller(self, request: Request) -> str:
        if not request.iam_arn:
            raise Unauthorized
        return request.iam_arn

    def webhook(self, _request: Request) -> str:
        raise Unauthorized


class TokenAccess:
    """Looks the bearer's token up."""

    def __init__(self, secret: Secret) -> None:
        self._keys = _Keys(secret)

    def caller(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized
        sent = _digest(token.strip())
        return self._keys.find(lambda key: hmac.compare_digest(_digest(key), sent))

    def webhook(self, _request: Request) -> str:
        raise Unauthorized


class HmacAccess:
    """Checks signatures, each of them good for one request."""

    def __init__(self, secret: Secret, seen: Signatures, clock: Callable[[], float]) -> None:
        self._keys = _Keys(secret)
        self._seen = seen
        self._clock = clock

    def caller(self, request: Request) -> str:
        timestamp = request.headers.get("x-timestamp", "")
        signature = request.headers.get("x-signature", "").lower()
        if not _TIMESTAMP.fullmatch(timestamp):
            raise Unauthorized
        if abs(self._clock() - float(timestamp)) > WINDOW_SECONDS:
            raise Unauthorized
        name = self._signer(signed_text(request, timestamp), signature)
        until = int(float(timestamp)) + 2 * WINDOW_SECONDS
        if not self._seen.claim(signature, until):
            raise Unauthorized
        return name

    def webhook(self, request: Request) -> str:
        return self._signer(request.body(), request.headers.get("x-hub-signature-256", "").lower())

    def _signer(self, text: bytes, signature: str) -> str:
        if not signature.startswith(_SCHEME):
            raise Unauthorized
        sent = signature.encode(errors="replace")
        return self._keys.find(lambda key: hmac.compare_digest(sign(key, text).encode(), sent))


def signed_text(request: Request, timestamp: str) -> bytes:
    """Return what X-Signature signs, one to a line.

    These are timestamp, method, path with query, Idempotency-Key ('' when there is none), and body.
    """
    path = f"{request.path}?{request.query}" if request.query else request.path
    key = request.headers.get("idempotency-key", "")
    return f"{timestamp}\n{request.method}\n{path}\n{key}\n".encode() + request.body()


def sign(key: str, text: bytes) -> str:
    """Return the value of X-Signature."""
    return _SCHEME + hmac.new(key.encode(), text, hashlib.sha256).hexdigest()


def read_keys(text: str) -> dict[str, str]:
    """Return the tokens of a secret by the names of those who hold them.

    Those that are no good - too short, or of a name that cannot be written on a task - let nobody
    in, and are logged by their names.

    Raises:
        MissingSettings: the secret is not a JSON object.
    """
    try:
        document = json.loads(text)
    except ValueError:
        # Not its text, not even the place of the mistake: this is a secret.
        document = None
    if not isinstance(document, dict):
        raise MissingSettings("the launcher's secret must be a JSON object, name: token")
    keys: dict[str, str] = {}
    for name, token in document.items():
        good = isinstance(token, str) and len(token) >= SHORTEST_TOKEN
        if good and _NAME.fullmatch(name):
            keys[name] = token
        else:
            _logger.warning("Token %.64r of the launcher's secret lets nobody in", name)
    return keys


class _Keys:
    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._read: tuple[str, dict[str, str]] = ("", {})

    def find(self, fits: Callable[[str], bool]) -> str:
        """Return the name of the key that fits; raise Unauthorized when none does."""
        for age in (_COPY_SECONDS, _FRESH_SECONDS):
            keys = self._keys(self._secret.read(at_most_seconds_old=age))
            # All of them, whichever fits: the time it takes says nothing.
            found = [name for name, key in keys.items() if fits(key)]
            if found:
                return found[0]
        raise Unauthorized

    def _keys(self, text: str) -> dict[str, str]:
        # Once for each secret: what is wrong with it is logged, and strangers come often.
        if text != self._read[0]:
            self._read = text, read_keys(text)
        return self._read[1]


def _digest(token: str) -> bytes:
    # Of one length, whatever is sent.
    return hashlib.sha256(token.encode(errors="replace")).digest()
