"""Call a function URL of the local account, signed as `curl --aws-sigv4` signs or as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.account import Account


ROOT = Credentials("test", "test")


def call(
    account: Account,
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    sign: bool = True,
    credentials: Credentials = ROOT,
) -> urllib3.BaseHTTPResponse:
    """Send one request over verified TLS.

    Python leaves `*.localhost` to the system's resolver, which may not know it: the connection
    goes to 127.0.0.1, the name stays in the handshake and the Host header.

    Args:
        account: whose certificates to trust.
        method: of HTTP.
        url: may have a query, escaped.
        body: as it is to be sent.
        headers: besides Host.
        sign: with Signature Version 4; the only way in where the URL's AuthType is AWS_IAM.
        credentials: whose signature.
    """
    parts = urlsplit(url)
    request = AWSRequest(method, url, data=body, headers={"host": parts.netloc, **(headers or {})})
    if sign:
        SigV4Auth(credentials, "lambda", account.env["AWS_REGION"]).add_auth(request)
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1",
        parts.port,
        ca_certs=str(account.ca_bundle),
        server_hostname=parts.hostname,
        assert_hostname=parts.hostname,
    )
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return pool.urlopen(method, target, body=body, headers=dict(request.headers), retries=False)
