"""Start, find and stop the local account, and deploy the stack into it.

Used by `make sandbox`, by the demo and by the e2e tests: they all see the same account.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import certifi
import trustme
import urllib3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / ".tools" / "bin"
REGION = "us-east-1"
STACK = "ecs-ops"
_SERVER = REPOSITORY / "tests" / "sandbox" / "serve.py"
_READY_SECONDS = 60
_STOP_SECONDS = 5


class SandboxError(Exception):
    """The account could not be started, or something in it went wrong; fit for a person."""


@dataclass(frozen=True)
class Account:
    """A local account: its folder and its port."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_bundle(self) -> Path:
        return self.folder / "tls" / "ca-bundle.pem"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def env(self) -> dict[str, str]:
        """What the `aws` command line, boto3, SAM and the functions need to find the account."""
        bundle = str(self.ca_bundle)
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "REQUESTS_CA_BUNDLE": bundle,
            "CURL_CA_BUNDLE": bundle,
            "ECS_OPS_STACK": STACK,
        }

    @property
    def shell_env(self) -> dict[str, str]:
        """What a shell needs so that the command lines of the docs reach the account."""
        path = (str(self._commands()), str(TOOLS), os.environ["PATH"])
        return {**os.environ, **self.env, "PATH": os.pathsep.join(path), "LC_ALL": "C.UTF-8"}

    def client(self, service: str) -> Any:
        """Return a boto3 client of this account, as its root user."""
        session = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION
        )
        return session.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            verify=str(self.ca_bundle),
        )

    def is_running(self) -> bool:
        """Whether the server that this folder belongs to answers."""
        pid = self._pid()
        if pid is None or not _alive(pid) or not self.ca_bundle.exists():
            return False
        pool = urllib3.PoolManager(ca_certs=str(self.ca_bundle))
        try:
            answer = pool.request("GET", f"{self.url}/_ministack/health", timeout=2, retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def start(self) -> None:
        """Start the server, or find it running.

        Raises:
            SandboxError: the port belongs to somebody else, or the server did not come up.
        """
        if self.is_running():
            return
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise SandboxError(
                    f"port {self.port} is already in use by another program. "
                    "Stop it, or set ECS_OPS_SANDBOX_PORT to a free port."
                )
        self.stop()
        self._make_certificates()
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True)
        with self.log.open("wb") as log:
            server = subprocess.Popen(
                [_server_python(), str(_SERVER)],
                cwd=self.folder,
                env=self._server_env(scratch),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _STARTED[server.pid] = server
        (self.folder / "pid").write_text(str(server.pid))
        deadline = time.monotonic() + _READY_SECONDS
        while not self.is_running():
            if server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SandboxError(f"the local account did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and everything it started, and forget the account."""
        pid = self._pid()
        if pid is not None and _alive(pid):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while _alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            # The functions' workers are in the server's group; so is a server that would not go.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            while _alive(pid):
                time.sleep(0.02)
        for name in ("pid", "env"):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("bin", "tls", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def write_env(self, extra: Mapping[str, str] | None = None) -> Path:
        """Write the shell exports that make `aws` and boto3 work against this account."""
        lines = [
            f"export {name}={json.dumps(value)}"
            for name, value in {**self.env, **(extra or {})}.items()
        ]
        lines.append(f'export PATH="{self._commands()}:{TOOLS}:$PATH"')
        path = self.folder / "env"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _commands(self) -> Path:
        """Return the folder of an `aws` that goes to this account whatever the service.

        The command line's version 1 has addresses of its own for SQS, RDS and a few others, which
        only an option takes precedence over (its `customizations/overridesslcommonname.py`).
        """
        folder = self.folder / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        aws = folder / "aws"
        line = f'exec "{TOOLS / "aws"}" --endpoint-url "{self.url}" "$@"'
        aws.write_text(f"#!/bin/sh\n{line}\n")
        aws.chmod(0o755)
        return folder

    def _pid(self) -> int | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / "pid").read_text())
        return None

    def _server_env(self, scratch: Path) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AWS_") and name not in {"PYTHONPATH", "VIRTUAL_ENV"}
        }
        return {
            **inherited,
            **self.env,
            "AUTH": "true",
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "1",
            "LOG_LEVEL": inherited.get("LOG_LEVEL", "INFO"),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_REGION": REGION,
            "MINISTACK_SSL_CERT": str(self.folder / "tls" / "server.pem"),
            "MINISTACK_SSL_KEY": str(self.folder / "tls" / "server.key"),
            "PYTHONUNBUFFERED": "1",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(scratch),
            "USE_SSL": "1",
        }

    def _make_certificates(self) -> None:
        """A CA of this account's own; clients trust it besides the usual roots."""
        folder = self.folder / "tls"
        folder.mkdir(parents=True)
        authority = trustme.CA(organization_name="ecs-ops local account")
        names = ["localhost", "127.0.0.1", f"*.lambda-url.{REGION}.localhost"]
        server = authority.issue_cert(*names)
        server.private_key_pem.write_to_path(str(folder / "server.key"))
        for blob in server.cert_chain_pems:
            blob.write_to_path(str(folder / "server.pem"), append=True)
        roots = ssl.get_default_verify_paths().cafile or certifi.where()
        self.ca_bundle.write_bytes(Path(roots).read_bytes() + authority.cert_pem.bytes())


@contextlib.contextmanager
def temporary_account(folder: Path) -> Iterator[Account]:
    """Run an account of one's own on a free port, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    account = Account(folder, port)
    account.start()
    try:
        yield account
    finally:
        account.stop()


def _server_python() -> str:
    """Return the interpreter of the server's own environment, made from its lock."""
    uv = os.environ.get("UV") or shutil.which("uv") or str(TOOLS / "uv")
    script = str(_SERVER)
    run([uv, "sync", "--quiet", "--locked", "--script", script])
    return run([uv, "python", "find", "--script", script]).strip()


def run(command: list[str], env: Mapping[str, str] | None = None) -> str:
    """Run a command in the repository and return what it printed.

    Raises:
        SandboxError: it failed; carries everything it printed.
    """
    done = subprocess.run(
        command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


# Servers this process started itself: it must reap them to see that they ended.
_STARTED: dict[int, subprocess.Popen[bytes]] = {}


def _alive(pid: int) -> bool:
    if pid in _STARTED:
        return _STARTED[pid].poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
