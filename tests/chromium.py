"""The Chromium that is installed, as a browser of the local account's pages."""

from __future__ import annotations

import base64
import hashlib
import shutil
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

    from tests.sandbox.account import Account

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
WANTED = f"needs a browser on the path: {' or '.join(_NAMES)}"


def start(playwright: Playwright, account: Account) -> Browser:
    """Start a browser that trusts the account's certificate, and talks to nobody else."""
    assert CHROMIUM, WANTED
    certificate = load_pem_x509_certificate((account.folder / "tls" / "server.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    trusted = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-gpu",
            "--disable-quic",
            "--disable-sync",
            # The system's resolver may not know these names.
            "--host-resolver-rules=MAP *.localhost 127.0.0.1",
            f"--ignore-certificate-errors-spki-list={trusted}",
            "--no-first-run",
            "--no-sandbox",
        ],
    )
