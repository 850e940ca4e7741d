"""`python -m tests.sandbox up|down`: the account behind `make sandbox` and `make sandbox-down`."""

from __future__ import annotations

import os
import shutil
import sys

from tests.sandbox import stack
from tests.sandbox.account import REPOSITORY, Account, SandboxError


def main(arguments: list[str]) -> None:
    """Bring the account up with the stack in it, or take it down."""
    account = Account(REPOSITORY / ".sandbox", int(os.environ.get("ECS_OPS_SANDBOX_PORT", "4566")))
    match arguments:
        case ["up"]:
            was_running = account.is_running()
            account.start()
            _say(f"{'Found' if was_running else 'Started'} the local account at {account.url}")
            stack.create_demo_cluster(account)
            stack.build()
            outputs = stack.deploy(account)
            token = stack.launcher_token(account, outputs)
            env = account.write_env({"ECS_OPS_LAUNCHER_TOKEN": token})
            _say(f"Deployed the stack {account.env['ECS_OPS_STACK']}:")
            for name, value in sorted(outputs.items()):
                _say(f"  {name:<26} {value}")
            _say(f"\nTo use it:  . {os.path.relpath(env)}\nTo end it:  make sandbox-down")
        case ["down"]:
            account.stop()
            shutil.rmtree(account.folder, ignore_errors=True)
            _say("The local account is gone.")
        case _:
            sys.exit("usage: python -m tests.sandbox up|down")


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SandboxError as error:
        sys.exit(f"error: {error}")
