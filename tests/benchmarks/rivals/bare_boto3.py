"""The least there is: boto3, the one client that a function makes first, and one call of it."""

import json
import os
from typing import Any

import boto3

make_client: Any = boto3.client
client = make_client(os.environ["SERVICE"])


def handler(_event: dict[str, Any], _context: object) -> None:
    getattr(client, os.environ["METHOD"])(**json.loads(os.environ["ARGUMENTS"]))
