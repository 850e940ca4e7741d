"""The unit tier is pure: a test here that opens a socket fails."""

import pytest_socket


def pytest_runtest_setup() -> None:
    pytest_socket.disable_socket()


def pytest_runtest_teardown() -> None:
    # The other tiers may run in the same process.
    pytest_socket.enable_socket()
