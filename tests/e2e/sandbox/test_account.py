"""The account keeps to its one port and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.sandbox.account import Account, SandboxError, temporary_account
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


def _start_task(account: Account) -> list[psutil.Process]:
    """Run a task that would not end, and return every process the account now consists of."""
    ecs = account.client("ecs")
    ecs.create_cluster(clusterName="c")
    ecs.register_task_definition(
        family="sleeper",
        containerDefinitions=[
            {"name": "app", "image": "busybox", "command": ["sh", "-c", "sleep 600; :"]}
        ],
    )
    ecs.run_task(cluster="c", taskDefinition="sleeper")
    server = psutil.Process(int((account.folder / "pid").read_text()))

    def with_container() -> list[psutil.Process] | None:
        family = [server, *server.children(recursive=True)]
        return family if "sleep" in {process.name() for process in family} else None

    return eventually(with_container, "the container's process")


def test_one_port_of_loopback_is_open_when_it_runs(account: Account) -> None:
    server = psutil.Process(int((account.folder / "pid").read_text()))

    listening = []
    for process in (server, *server.children(recursive=True)):
        # Another test's task may end in this moment.
        with contextlib.suppress(psutil.NoSuchProcess):
            listening += [
                connection.laddr
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]

    assert listening == [("127.0.0.1", account.port)]


def test_no_process_is_left_when_it_is_stopped(tmp_path: Path) -> None:
    with temporary_account(tmp_path) as account:
        processes = _start_task(account)

    eventually(lambda: not any(map(_runs, processes)), "every process gone", within=5)
    assert {path.name for path in tmp_path.iterdir()} == {"server.log"}


def test_no_container_is_left_when_the_server_is_killed(tmp_path: Path) -> None:
    with temporary_account(tmp_path) as account:
        processes = _start_task(account)
        os.kill(processes[0].pid, signal.SIGKILL)

        eventually(lambda: not any(map(_runs, processes)), "every process gone", within=5)


def test_error_names_the_port_when_another_program_has_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(SandboxError, match=f"port {port} is already in use"):
            Account(tmp_path, port).start()


def test_running_account_is_found_when_it_is_started_again(account: Account) -> None:
    pid = (account.folder / "pid").read_text()

    Account(account.folder, account.port).start()

    assert (account.folder / "pid").read_text() == pid


def _runs(process: psutil.Process) -> bool:
    # A zombie has ended; only its parent, if any is left, has not asked yet.
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
