"""Leave out of the layer what no function reads: most of all, botocore's descriptions of AWS.

Usage: python3.13 trim.py FOLDER, where FOLDER holds the installed packages

A first client of botocore's looks through the folders of some 400 services, and reads the whole of
`endpoints.json` and of its service's model. What stays is what operations.json names: of a model
these operations and the shapes that they lead to, without documentation; of `endpoints.json` these
services in every Region of every partition, so that each request goes where it went before.
"""

from __future__ import annotations

import ast
import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("operations.json").read_text()
)
_KEPT_FILES = ("service-2", "endpoint-rule-set-1", "paginators-1")
# What a distribution is and how it is licensed stays: METADATA is what scanners for known
# vulnerabilities read.
_UNUSED = (
    "bin",
    "boto3/data",
    "boto3/docs",
    "boto3/examples",
    "boto3/resources",
    "botocore/cacert.pem",  # certifi's is the one that is used.
    "botocore/docs/bcdoc",
    "dateutil/zoneinfo/*.tar.gz",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.min.*",
    # These need packages that are not here.
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/parser",
    "*/tests",
    "*.dist-info/[!Ml]*",
    "**/__pycache__",
)
# Packages whose `__init__` does nothing but import from a dozen modules, most of them for triggers
# that no function here has. The one of event_handler brings asyncio.
_IMPORTED_ON_DEMAND = (
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/data_classes",
)
_ON_DEMAND = """\
from importlib import import_module
_MODULES = {modules!r}
def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")
    value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return value
"""


# What is imported for all, and no function uses: for S3, for HTTP/2, boto3's resources, metrics and
# traces, and what writes the documentation of a client's methods.
_LEFT_OUT = {
    "boto3/compat.py": (
        ("from s3transfer.manager import TransferConfig\n", ""),
        ("hasattr(TransferConfig, 'UNSET_DEFAULT')", "False"),
    ),
    "botocore/docs/__init__.py": (("from botocore.docs.service import ServiceDocumenter\n", ""),),
    "botocore/docs/docstring.py": (
        ("from botocore.docs.bcdoc.restdoc import DocumentStructure\n", ""),
        ("from botocore.docs.method import document_model_driven_method\n", ""),
        ("from botocore.docs.paginator import document_paginate_method\n", ""),
        ("from botocore.docs.waiter import document_wait_method\n", ""),
    ),
    "boto3/session.py": (
        ("from .resources.factory import ResourceFactory\n", ""),
        (
            "ResourceFactory(\n            self._session.get_component('event_emitter')\n        )",
            "None",
        ),
    ),
    "urllib3/http2/__init__.py": (
        ("from importlib.metadata import version\n", ""),
        ('    h2_version = version("h2")', '    h2_version = "none"'),
    ),
    "aws_lambda_powertools/__init__.py": (
        ("from aws_lambda_powertools.metrics import Metrics, single_metric\n", ""),
        ("from aws_lambda_powertools.tracing import Tracer\n", ""),
    ),
}


def trim(packages: Path) -> None:
    """Cut down what is installed in this folder, which must be of use to nobody else."""
    data = packages / "botocore" / "data"
    used = set(OPERATIONS)
    for service in [path for path in data.iterdir() if path.is_dir()]:
        if service.name in OPERATIONS:
            used.add(_trim_service(service, set(OPERATIONS[service.name])))
        else:
            shutil.rmtree(service)
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in used}
    _write(data / "endpoints.json", endpoints)
    for folder in _IMPORTED_ON_DEMAND:
        _import_on_demand(packages / folder / "__init__.py")
    for file, changes in _LEFT_OUT.items():
        _replace(packages / file, changes)
    for pattern in _UNUSED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _trim_service(folder: Path, operations: set[str]) -> str:
    """Trim the folder of one service, and return what `endpoints.json` calls it."""
    *old, newest = sorted(path for path in folder.iterdir() if path.is_dir())
    for path in old:
        shutil.rmtree(path)
    for path in newest.iterdir():
        if not path.name.startswith(_KEPT_FILES):
            path.unlink()
        elif path.suffix == ".gz":
            # A layer is one archive already; what is packed twice is unpacked at each cold start.
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    model = json.loads((newest / "service-2.json").read_bytes())
    if missing := operations - model["operations"].keys():
        raise SystemExit(f"{folder.name} has no operation {', '.join(sorted(missing))}")
    model["operations"] = {name: model["operations"][name] for name in sorted(operations)}
    shapes, found = model["shapes"], set[str]()
    todo = set(_shapes(model["operations"]))
    while todo:
        found |= todo
        todo = {one for name in todo for one in _shapes(shapes[name])} - found
    model["shapes"] = {name: shapes[name] for name in sorted(found)}
    _write(newest / "service-2.json", _undocumented(model))
    return str(model["metadata"]["endpointPrefix"])


def _shapes(value: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a model refers to."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if key == "shape" and isinstance(part, str):
            yield part
        elif isinstance(part, dict | list):
            yield from _shapes(part)


def _undocumented(value: Any) -> Any:
    """Return it without texts. A member called `documentation` is none, and stays."""
    if isinstance(value, list):
        return [_undocumented(part) for part in value]
    if isinstance(value, dict):
        return {
            key: _undocumented(part)
            for key, part in value.items()
            if not (key == "documentation" and isinstance(part, str))
        }
    return value


def _import_on_demand(init: Path) -> None:
    """Let a package import what it offers when it is asked for it (PEP 562), and not before."""
    now: list[str] = []
    modules: dict[str, str] = {}
    for statement in ast.parse(init.read_text()).body:
        match statement:
            case ast.ImportFrom(module=str(module), names=names, level=level):
                # What is called as its module is would be taken for it, once that is imported.
                if module.split(".")[-1] in {each.name for each in names}:
                    now.append(ast.unparse(statement))
                else:
                    modules |= {each.name: "." * level + module for each in names}
            case ast.Expr() | ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
            case _:
                raise SystemExit(f"{init}:{statement.lineno} does more than to import")
    init.write_text("\n".join([*now, _ON_DEMAND.format(modules=modules)]))


def _replace(file: Path, changes: tuple[tuple[str, str], ...]) -> None:
    text = file.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"{file} does not hold once: {old}")
        text = text.replace(old, new)
    file.write_text(text)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
