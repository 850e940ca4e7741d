"""A layer is unpacked once, for every process of a function that uses it.

ministack unpacks it anew for each, which costs a cold start more than the function's own work does:
on AWS a layer is mounted, not copied.
"""

from __future__ import annotations

import hashlib
import os
import threading
import types
import zipfile
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime

_unpacking = threading.Lock()


class _Archive(zipfile.ZipFile):
    def extractall(self, path: Any = None, *args: Any, **more: Any) -> None:
        target = Path(path)
        if not target.name.startswith("layer_"):
            super().extractall(path, *args, **more)
            return
        digest = hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        unpacked = Path(os.environ["TMPDIR"]) / "layers" / digest
        with _unpacking:
            if not unpacked.exists():
                super().extractall(unpacked, *args, **more)
        for entry in unpacked.iterdir():
            (target / entry.name).symlink_to(entry)


def install() -> None:
    """Give ministack's workers an unpacker that remembers."""
    remembering = types.SimpleNamespace(**{**vars(zipfile), "ZipFile": _Archive})
    lambda_runtime.zipfile = remembering
