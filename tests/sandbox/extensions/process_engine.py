"""A task's containers run: each is a local process, whatever image it names.

The command of the task definition or its override, with the container's environment, really runs;
its output goes where `awslogs` says, its exit code is the container's. A signal ends a container as
in Docker: code 128 + signal. With `ENGINE=docker` this steps aside for the real engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ministack.services import ecs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UNPULLABLE_TAG = ":unpullable"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Outlives the server by a moment: ends the containers of a server that did not end them itself.
_GUARDIAN = """
import os, sys
alive = set()
for line in sys.stdin:
    (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
for group in alive:
    try:
        os.killpg(group, 9)
    except OSError:
        pass
"""


class Guardian:
    """Knows the process groups that must not outlive this server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _GUARDIAN], stdin=subprocess.PIPE, start_new_session=True
        )

    def tell(self, sign: str, group: int) -> None:
        """`+` for a group that began, `-` for one that ended."""
        assert self._process.stdin
        self._process.stdin.write(f"{sign}{group}\n".encode())
        self._process.stdin.flush()


class StartError(Exception):
    """The container could not be created or started."""


class Container:
    """A process, in the shape of docker-py's `Container`."""

    attrs: Mapping[str, Any] = {"NetworkSettings": {"Networks": {}}}

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.id = uuid.uuid4().hex
        self._scratch = tempfile.TemporaryDirectory(prefix="container-")
        self._environment = {"PATH": _PATH, "HOME": self._scratch.name, **environment}
        try:
            self._process = subprocess.Popen(
                command,
                cwd=self._scratch.name,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._scratch.cleanup()
            raise StartError(f"CannotStartContainerError: {error}") from error
        GUARDIANS[0].tell("+", self._process.pid)
        self._lines: list[bytes] = []
        self._more = threading.Condition()
        self._drained = False
        threading.Thread(target=self._read, daemon=True, name=f"output-{self.id[:8]}").start()

    @property
    def status(self) -> str:
        return "running" if self._process.poll() is None else "exited"

    def reload(self) -> None:
        """Nothing is cached."""

    def wait(self, timeout: float | None = None) -> dict[str, int]:
        code = self._process.wait(timeout)
        return {"StatusCode": code if code >= 0 else 128 - code}

    def logs(self, *, stream: bool = False, follow: bool = False, **_: object) -> Any:
        """Every line from the first; with `follow`, also those still to come."""
        lines = self._follow() if follow else iter(list(self._lines))
        return lines if stream else b"".join(lines)

    def run_inside(self, command: Sequence[str], timeout: float) -> int | None:
        """Run a command where the container runs; None when it did not end in time, or begin."""
        try:
            process = subprocess.Popen(
                command,
                cwd=self._scratch.name,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        GUARDIANS[0].tell("+", process.pid)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        finally:
            GUARDIANS[0].tell("-", process.pid)

    def stop(self, timeout: float = 10) -> None:
        """SIGTERM, and SIGKILL for what is left after `timeout` seconds."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def remove(self, **_: object) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._scratch.cleanup()
        CONTAINERS.pop(self.id, None)

    def _signal(self, number: int) -> None:
        # To the whole session: a shell's children are part of its container.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._drained = True
            self._more.notify_all()
        self._process.wait()
        GUARDIANS[0].tell("-", self._process.pid)

    def _follow(self) -> Iterator[bytes]:
        seen = 0
        while True:
            with self._more:
                self._more.wait_for(lambda: self._drained or len(self._lines) > seen)  # noqa: B023
                fresh = self._lines[seen:]
            if not fresh:
                return
            seen += len(fresh)
            yield from fresh


CONTAINERS: dict[str, Container] = {}
GUARDIANS: list[Guardian] = []


class _Containers:
    def run(self, image: str, **options: Any) -> Container:
        if image.endswith(UNPULLABLE_TAG):
            raise ecs._ImagePullError(f"failed to resolve reference {image!r}: not found")
        command = [*(options.get("entrypoint") or []), *(options.get("command") or [])]
        if not command:
            raise StartError("CannotCreateContainerError: no command specified")
        container = Container(command, options.get("environment") or {})
        CONTAINERS[container.id] = container
        return container

    def get(self, container_id: str) -> Container:
        return CONTAINERS[container_id]

    def list(self, **_: object) -> list[Container]:
        return list(CONTAINERS.values())


class _Manifest:
    def __init__(self, image: str) -> None:
        self.id = "sha256:" + hashlib.sha256(image.encode()).hexdigest()


class _Images:
    def get_registry_data(self, image: str, **_: object) -> _Manifest:
        if image.endswith(UNPULLABLE_TAG):
            raise LookupError(image)
        return _Manifest(image)

    get = get_registry_data


class Engine:
    """The part of docker-py's client that ministack uses."""

    containers = _Containers()
    images = _Images()


def install() -> None:
    """Give ministack this engine, or none when Docker's own is wanted."""
    if os.environ.get("ENGINE") == "docker":
        return
    os.environ["DOCKER_HOST"] = f"unix://{Path(os.environ['TMPDIR'])}/no-docker.sock"
    GUARDIANS.append(Guardian())
    ecs._docker = Engine()

    build_run_kwargs = ecs._build_run_kwargs

    def with_entry_point(definition: dict[str, Any], *args: Any) -> dict[str, Any]:
        options: dict[str, Any] = build_run_kwargs(definition, *args)
        # The platform is the image's business; there is none.
        options.pop("platform", None)
        return {**options, "entrypoint": definition.get("entryPoint")}

    ecs._build_run_kwargs = with_entry_point

    # What ministack does here besides is about pulling and caching images.
    def run(engine: Engine, definition: dict[str, Any], options: dict[str, Any], **_: Any) -> Any:
        return engine.containers.run(definition["image"], **options)

    ecs._run_docker_container = run
