"""A function's environment in a process of its own: one warm handler, invoked again and again."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_TIMEOUT: Final = 60  # Seconds: log_events' own.


@dataclass(frozen=True, slots=True)
class Done:
    """What some invocations gave and took."""

    answers: Sequence[Any]
    cpu: float
    """Seconds of the whole process, user and system."""
    wall: float


@dataclass(frozen=True, slots=True)
class Worker:
    """The process, from outside."""

    process: BaseProcess
    pipe: Connection

    @classmethod
    def start(
        cls, handler: str, environment: Mapping[str, str], *, skips_pauses: bool = False
    ) -> Self:
        """Start a process that will import this module and invoke its `handler`.

        Args:
            handler: name of the module.
            environment: its variables, besides the process's own.
            skips_pauses: `time.sleep` returns at once, and the function's clock jumps instead.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, handler, dict(environment)), kwargs={"skips": skips_pauses}
        )
        process.start()
        theirs.close()
        return cls(process, ours)

    @classmethod
    @contextlib.contextmanager
    def started(cls, handler: str, environment: Mapping[str, str]) -> Iterator[Self]:
        worker = cls.start(handler, environment)
        try:
            yield worker
        finally:
            worker.stop()

    def begin(self, payloads: Sequence[str], now: float | None = None) -> None:
        """Let it begin: one invocation for each payload, as JSON, `now` by its clock."""
        self.pipe.send((payloads, now))

    def end(self) -> Done:
        """Wait for what was begun; EOFError when the process died of it."""
        done: Done = self.pipe.recv()
        return done

    def run(self, payloads: Sequence[str]) -> Done:
        self.begin(payloads)
        return self.end()

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Clock:
    """The function's time. Pauses that are skipped count as if they had been made."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._real = time.time

    def time(self) -> float:
        return self._real() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += seconds

    def set(self, now: float) -> None:
        self._ahead = now - self._real()


class _Context:
    """What handlers use of Lambda's context."""

    def __init__(self) -> None:
        self._ends = time.time() + _TIMEOUT

    aws_request_id = "one"

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - time.time()) * 1000)


def _work(pipe: Connection, name: str, environment: Mapping[str, str], *, skips: bool) -> None:
    os.environ.update(environment)
    # A log costs what it costs to write, but nobody is to read it here. Lambda has a root handler.
    logging.getLogger().addHandler(logging.NullHandler())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    clock = _Clock()
    if skips:
        time.sleep = clock.sleep  # type: ignore[assignment]
        time.time = clock.time
    handler = importlib.import_module(name).handler
    while True:
        try:
            payloads, now = pipe.recv()
        except EOFError:
            return
        if now is not None:
            clock.set(now)
        began, cpu = time.perf_counter(), time.process_time()
        # Lambda's runtime reads and writes JSON around a handler; the rest of it is not here.
        answers = [json.dumps(handler(json.loads(payload), _Context())) for payload in payloads]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        pipe.send(Done([json.loads(answer) for answer in answers], cpu, wall))
