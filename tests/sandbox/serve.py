# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "aws-sam-translator==1.115.0",
#     "docker==7.1.0",
#     "ministack==1.5.33",
# ]
# ///
"""Serve the local account: ministack with the extensions of this folder, on one port of 127.0.0.1.

An environment of its own, because ministack pins an older botocore than the functions need. Started
by `tests.sandbox.account`, which sets the environment that ministack reads at import.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> None:
    """Bind the port, install the extensions, serve until SIGTERM or SIGINT."""
    port = int(os.environ["GATEWAY_PORT"])
    # Bound here and handed over: hypercorn would share a port that another server already has.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        sys.exit(f"port {port} is in use")

    import hypercorn.asyncio  # noqa: PLC0415 - the port comes before the second these take
    import hypercorn.config  # noqa: PLC0415
    from ministack.app import app  # noqa: PLC0415

    from tests.sandbox.extensions import install_all  # noqa: PLC0415

    print("extensions:", *install_all(), flush=True)  # noqa: T201 - the server's log

    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile = os.environ["MINISTACK_SSL_CERT"]
    config.keyfile = os.environ["MINISTACK_SSL_KEY"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 1

    async def serve() -> None:
        # Nothing is kept, so there is nothing to finish: requests that hang must not delay the end.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=asyncio.Event().wait)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
