"""What is deployed works by itself, fits every architecture, and starts as fast as it was built to.

A handler that cannot be imported would answer nobody; one whose bytecode is not used would answer
late, and nothing else would tell.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
from botocore import xform_name

from tests.sandbox.account import REPOSITORY
from tests.sandbox.stack import BUILT_TEMPLATE

FUNCTIONS = [
    "RunTaskFunction",
    "LogEventsFunction",
    "RecycleServiceFunction",
    "LaunchTaskFunction",
]
OPERATIONS: dict[str, list[str]] = json.loads(
    (REPOSITORY / "layers" / "common" / "operations.json").read_text()
)
LAYER = BUILT_TEMPLATE.parent / "CommonLayer" / "python"
# What of the source may call AWS: ours, and the one library that makes a client of its own.
_CALLERS = [
    *(REPOSITORY / "layers" / "common" / "ecs_ops").rglob("*.py"),
    *(REPOSITORY / "functions").rglob("*.py"),
    *Path(str(importlib.util.find_spec("aws_durable_execution_sdk_python").origin)).parent.rglob(  # type: ignore[union-attr]
        "*.py"
    ),
]
_MOST_BYTES = 4_000_000
_UNCHECKED_HASH = 0b01  # PEP 552
_IMPORT = """
import sys
sys.path[:0] = sys.argv[1:]
import boto3, ecs_ops, handler
# What is imported only when it is used has to be there, too.
import crhelper, opensearchpy, smtplib
from ecs_ops.aws import container_logs, launched_log, recycle_reports, search_index
assert callable(handler.handler)
assert all(path.startswith(sys.argv[2]) for path in (boto3.__file__, ecs_ops.__file__))
"""
_MAKE_CLIENTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from botocore import xform_name
from botocore.session import get_session

def walk(shape, seen):
    if shape is None or shape.name in seen:
        return
    seen.add(shape.name)
    for part in getattr(shape, "members", {}).values():
        walk(part, seen)
    for part in ("member", "key", "value"):
        walk(getattr(shape, part, None), seen)

session = get_session()
for service, operations in json.loads(sys.argv[2]).items():
    client = session.create_client(service, region_name="eu-west-1")
    for operation in operations:
        assert callable(getattr(client, xform_name(operation))), operation
        if client.can_paginate(xform_name(operation)):
            client.get_paginator(xform_name(operation))
        model = client.meta.service_model.operation_model(operation)
        for shape in (model.input_shape, model.output_shape, *model.error_shapes):
            walk(shape, set())
"""
_ENDPOINTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from botocore.session import get_session
session, found = get_session(), {}
for service in json.loads(sys.argv[2]):
    for region in json.loads(sys.argv[3]):
        client = session.create_client(service, region_name=region)
        signer = client._request_signer
        found[f"{service} in {region}"] = [
            client.meta.endpoint_url,
            client.meta.partition,
            signer._region_name,
            signer._signing_name,
        ]
print(json.dumps(found))
"""

_OFFERED = """
import sys
from importlib import import_module
sys.path.insert(0, sys.argv[1])
package, names = import_module(sys.argv[2]), sys.argv[3:]
assert "asyncio" not in sys.modules
assert not [name for name in names if type(getattr(package, name)) is type(sys)]
"""

_IMPORTED = """
import sys
sys.path[:0] = sys.argv[1:]
import handler
print(*sys.modules)
"""
# What nobody needs before it is used, or at all: a search, a mail, S3, X-Ray.
_NEVER = {"aws_xray_sdk", "opensearchpy", "pydantic", "requests", "s3transfer", "smtplib"}
_NEEDED_BY = {
    # The durable SDK imports it; run_task answers through crhelper.
    "boto3": {"RunTaskFunction", "RecycleServiceFunction"},
    "crhelper": {"RunTaskFunction"},
}


def _alone(code: str, *arguments: str, options: tuple[str, ...] = ()) -> tuple[str, str]:
    """Run it with no environment and no site-packages; return what it printed, to both streams."""
    command = [sys.executable, "-I", "-S", *options, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_is_imported_from_what_was_built_and_nothing_else(name: str) -> None:
    _alone(_IMPORT, str(BUILT_TEMPLATE.parent / name), str(LAYER))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_imported_before_it_is_needed(name: str) -> None:
    imported, _ = _alone(_IMPORTED, str(BUILT_TEMPLATE.parent / name), str(LAYER))

    needless = {module for module, functions in _NEEDED_BY.items() if name not in functions}
    assert not (_NEVER | needless) & set(imported.split())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_of_the_layer_is_compiled_when_a_function_starts(name: str) -> None:
    _, said = _alone(_IMPORT, str(BUILT_TEMPLATE.parent / name), str(LAYER), options=("-v",))

    read = re.findall(
        rf"^# code object from '?({re.escape(str(LAYER))}[^'\n]*)", said, re.MULTILINE
    )
    assert len(read) > 100
    assert [path for path in read if not path.endswith(".pyc")] == []


def test_bytecode_is_never_held_against_its_source() -> None:
    compiled = list(LAYER.rglob("*.pyc"))
    sources = list(LAYER.rglob("*.py"))

    assert {Path(importlib.util.cache_from_source(path)) for path in sources} <= set(compiled)
    for path in compiled:
        head = path.read_bytes()[:8]
        assert head[:4] == importlib.util.MAGIC_NUMBER, path
        assert int.from_bytes(head[4:], "little") == _UNCHECKED_HASH, path


def test_layer_fits_both_architectures_and_is_small() -> None:
    files = [path for path in LAYER.rglob("*") if path.is_file()]
    packed = io.BytesIO()
    # As the SAM CLI packs it.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(LAYER.parent))

    assert [path for path in files if path.suffix in {".so", ".pyd", ".dylib"}] == []
    assert len(packed.getvalue()) <= _MOST_BYTES


def test_every_client_is_made_for_every_operation_from_the_layer_alone() -> None:
    _alone(_MAKE_CLIENTS, str(LAYER), json.dumps(OPERATIONS))


@pytest.mark.parametrize(
    "package",
    ["aws_lambda_powertools.event_handler", "aws_lambda_powertools.utilities.data_classes"],
)
def test_package_offers_what_it_offered_when_it_imports_on_demand(package: str) -> None:
    _alone(_OFFERED, str(LAYER), package, *importlib.import_module(package).__all__)


def test_layer_knows_every_operation_that_the_code_calls() -> None:
    """By their names: an attribute or a string of the source that botocore knows as an operation.

    So a method of ours that is called as an operation of these services counts as one; better so.
    """
    trees = [ast.parse(path.read_text()) for path in _CALLERS]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)} | texts
    session: Any = botocore.session.get_session()
    called = {
        service: [
            operation
            for operation in session.get_service_model(service).operation_names
            if xform_name(operation) in names
        ]
        for service in session.get_available_services()
        if service in texts
    }

    assert {service: found for service, found in called.items() if found} == OPERATIONS
    # The files that waiters need are left out.
    assert "get_waiter" not in names


def test_requests_go_where_they_went_when_endpoints_are_cut_to_these_services() -> None:
    whole = Path(botocore.__file__).parents[1]
    partitions = json.loads((whole / "botocore/data/endpoints.json").read_text())["partitions"]
    # The last ones are not yet known to anybody.
    regions = [region for each in partitions for region in each["regions"]]
    arguments = json.dumps([*OPERATIONS]), json.dumps([*regions, "eu-north-9", "cn-south-9"])

    cut, _ = _alone(_ENDPOINTS, str(LAYER), *arguments)
    uncut, _ = _alone(_ENDPOINTS, str(whole), *arguments)

    assert len(json.loads(cut)) > 300
    assert json.loads(cut) == json.loads(uncut)
