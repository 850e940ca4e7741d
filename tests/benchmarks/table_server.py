"""DynamoDB, SNS and ECS as far as log_events asks for them, in a process of its own.

It keeps items, counts calls and write units, and has bad days on demand. Write units follow
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html and,
for the indexes, `GSI.html` of the same guide: an entry is an item of its own, of what is projected.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import json
import multiprocessing
import random
import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

type Item = dict[str, dict[str, Any]]
"""As the API writes it: `{"name": {"S": "web"}}`."""
type Key = tuple[str, str]
"""Partition and sort key; all tables here have both, as texts."""

_UNIT: Final = 1024
_LARGEST_ITEM: Final = 400 * 1024
_LARGEST_BATCH: Final = 25
_THROTTLED: Final = frozenset({"BatchWriteItem", "PutItem"})


class Refused(Exception):
    """What the API answers with 400."""

    def __init__(self, code: str, message: str = "", **more: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.body = {"__type": f"com.amazonaws.dynamodb#{code}", "message": message, **more}


# ---------------------------------------------------------------- sizes and units


def size_of(item: Item) -> int:
    """Return the bytes that DynamoDB counts for this item."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def units_of(size: int) -> int:
    """Return the write units for so many bytes."""
    return -(-size // _UNIT)


def _value_size(value: dict[str, Any]) -> int:
    kind: str
    content: Any
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(str(content).encode())
        case "N":
            # Two digits are a byte, without the zeros at both ends; a byte more, and one for minus.
            digits = str(content).lstrip("-").replace(".", "").strip("0")
            return (len(digits) + 1) // 2 + 1 + int(content.startswith("-"))
        case "B":
            return len(content) // 4 * 3 - str(content).count("=", -2)
        case "M":
            return 3 + sum(
                1 + len(name.encode()) + _value_size(each) for name, each in content.items()
            )
        case "L":
            return 3 + sum(1 + _value_size(each) for each in content)
        case _:  # BOOL and NULL
            return 1


# ---------------------------------------------------------------- expressions

_TOKEN: Final = re.compile(r"\s*(<=|>=|<>|[=<>(),]|[#:]?\w+)")
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda one, other: bool(one == other),
    "<>": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}


def holds(expression: str, item: Item, names: Mapping[str, str], values: Item) -> bool:
    """Tell whether a condition of the API is true of an item; {} is an item that is not there.

    It knows comparisons, BETWEEN, attribute_exists, attribute_not_exists, begins_with, AND, OR,
    NOT and brackets. A comparison with an attribute that is not there is false.
    """
    return _Condition(_TOKEN.findall(expression), item, names, values).whole()


class _Condition:
    """Recursive descent. Both sides are always read, so that the tokens are used up."""

    def __init__(
        self, tokens: list[str], item: Item, names: Mapping[str, str], values: Item
    ) -> None:
        self._tokens, self._item, self._names, self._values = tokens, item, names, values

    def whole(self) -> bool:
        result = self._or()
        if self._tokens:
            raise Refused("ValidationException", f"not understood: {self._tokens}")
        return result

    def _or(self) -> bool:
        result = self._and()
        while self._has("OR"):
            other = self._and()
            result = result or other
        return result

    def _and(self) -> bool:
        result = self._not()
        while self._has("AND"):
            other = self._not()
            result = result and other
        return result

    def _not(self) -> bool:
        return not self._not() if self._has("NOT") else self._term()

    def _term(self) -> bool:
        if self._has("("):
            result = self._or()
            self._expect(")")
            return result
        if self._tokens[1:2] == ["("]:
            return self._function(self._tokens.pop(0))
        one, sign = self._operand(), self._tokens.pop(0).upper()
        if sign == "BETWEEN":
            low = self._operand()
            self._expect("AND")
            high = self._operand()
            return None not in (one, low, high) and low <= one <= high
        other = self._operand()
        return one is not None and other is not None and _COMPARE[sign](one, other)

    def _function(self, name: str) -> bool:
        self._expect("(")
        one = self._operand()
        result = (one is not None) == (name == "attribute_exists")
        if name == "begins_with":
            self._expect(",")
            result = str(one or "").startswith(str(self._operand()))
        self._expect(")")
        return result

    def _operand(self) -> Any:
        token = self._tokens.pop(0)
        source = self._values if token.startswith(":") else self._item
        value = source.get(self._names.get(token, token))
        if value is None:
            return None
        ((kind, content),) = value.items()
        return Decimal(content) if kind == "N" else content

    def _has(self, token: str) -> bool:
        if self._tokens and self._tokens[0].upper() == token:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._has(token):
            raise Refused("ValidationException", f"{token} expected before {self._tokens}")


_KEY_CONDITION: Final = re.compile(r"([#\w]+) = (:\w+)(?: AND ([#\w]+) BETWEEN (:\w+) AND (:\w+))?")


# ---------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class _Index:
    hash: str
    range: str
    kept: frozenset[str] | None
    """Attributes of an entry; None: all."""
    entries: defaultdict[str, list[tuple[str, Key]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By partition, in the order of the sort key: the sort key and the table's key."""

    def entry(self, item: Item) -> Item:
        """Return what the index keeps of this item; nothing, when it lacks the index's key."""
        if self.hash not in item or self.range not in item:
            return {}
        return {name: value for name, value in item.items() if not self.kept or name in self.kept}

    def place(self, item: Item) -> tuple[str, str]:
        return item[self.hash]["S"], item[self.range]["S"]


class Table:
    """A table as CreateTable makes it.

    Items are kept as JSON: a hundred thousand of them would fill the memory as dicts.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self.keys = _schema(properties)
        self.items: dict[Key, str] = {}
        self.indexes = {
            index["IndexName"]: _index(self.keys, index)
            for index in properties.get("GlobalSecondaryIndexes", ())
        }

    def key_of(self, item: Item) -> Key:
        """Return the item's key; Refused when it has none, or an index's key is of a wrong type."""
        needed = set(self.keys)
        for index in self.indexes.values():
            needed |= {index.hash, index.range} & item.keys()
        for name in needed:
            if not item.get(name, {}).get("S"):
                raise Refused("ValidationException", f"no valid key: {name}")
        if size_of(item) > _LARGEST_ITEM:
            raise Refused("ValidationException", "Item size has exceeded the maximum allowed size")
        first, second = (item[name]["S"] for name in self.keys)
        return first, second

    def get(self, key: Key) -> Item:
        """Return the item, or {}."""
        item: Item = json.loads(self.items.get(key, "{}"))
        return item

    def put(self, key: Key, item: Item) -> None:
        """Put an item in the place of what was there."""
        self.delete(key)
        self.items[key] = json.dumps(item, sort_keys=True, separators=(",", ":"))
        for index in self.indexes.values():
            if index.entry(item):
                partition, sort_key = index.place(item)
                bisect.insort(index.entries[partition], (sort_key, key))

    def delete(self, key: Key) -> None:
        """Take an item away, if it is there."""
        old = self.get(key)
        for index in self.indexes.values():
            if index.entry(old):
                partition, sort_key = index.place(old)
                index.entries[partition].remove((sort_key, key))
        self.items.pop(key, None)

    def query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer Query on an index, all in one page; of conditions it knows `=` and BETWEEN."""
        names, values = _variables(request)
        found = _KEY_CONDITION.fullmatch(request["KeyConditionExpression"])
        index = self.indexes.get(request.get("IndexName", ""))
        if not found or not index or names.get(found[1], found[1]) != index.hash:
            raise Refused("ValidationException", "no Query that is known here")
        places = index.entries[values[found[2]]["S"]]
        if found[3]:
            low, high = (values[name]["S"] for name in (found[4], found[5]))
            places = places[
                bisect.bisect_left(places, low, key=_sort_key) : bisect.bisect_right(
                    places, high, key=_sort_key
                )
            ]
        condition = request.get("FilterExpression")
        entries = [index.entry(self.get(key)) for _, key in places]
        items = [one for one in entries if not condition or holds(condition, one, names, values)]
        return {"Count": len(items), "ScannedCount": len(entries), "Items": items}


def _sort_key(place: tuple[str, Key]) -> str:
    return place[0]


def _schema(properties: Mapping[str, Any]) -> tuple[str, str]:
    names = {part["KeyType"]: part["AttributeName"] for part in properties["KeySchema"]}
    return names["HASH"], names["RANGE"]


def _index(keys: tuple[str, str], properties: Mapping[str, Any]) -> _Index:
    own = _schema(properties)
    projection = properties["Projection"]
    more = projection.get("NonKeyAttributes", ())
    is_all = projection["ProjectionType"] == "ALL"
    return _Index(*own, kept=None if is_all else frozenset({*keys, *own, *more}))


def _key_of(table: Table, write: Mapping[str, Any]) -> Key:
    if "PutRequest" in write:
        return table.key_of(write["PutRequest"]["Item"])
    first, second = (write["DeleteRequest"]["Key"][name]["S"] for name in table.keys)
    return first, second


def _variables(request: Mapping[str, Any]) -> tuple[Mapping[str, str], Item]:
    return (
        request.get("ExpressionAttributeNames") or {},
        request.get("ExpressionAttributeValues") or {},
    )


# ---------------------------------------------------------------- the service


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad a day it is."""

    latency: float = 0.0
    """Seconds until an answer is sent."""
    throttled: float = 0.0
    """Share of the write calls that are refused for now."""
    unprocessed: float = 0.0
    """Share of the items that BatchWriteItem does not write."""
    silent: frozenset[tuple[str, int]] = frozenset()
    """Operation and number, from 1, of calls that have their effect and are never answered."""
    seed: int = 4


@dataclass(slots=True)
class Seen:
    """What was asked since it was last looked at."""

    calls: Counter[str] = field(default_factory=Counter)
    """By operation, refused ones included."""
    throttled: int = 0
    unprocessed: int = 0
    published: list[dict[str, str]] = field(default_factory=list)
    """Parameters of each Publish, as the query protocol names them."""


class Service:
    """The three services' answers, without their transport."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.tables = {name: Table(properties) for name, properties in tables.items()}
        self.seen = Seen()
        self.unanswered: set[str] = set()
        """Application ids of callers that wait for an answer which does not come."""
        self._number: Counter[str] = Counter()
        self.behave(Faults())

    def behave(self, faults: Faults) -> None:
        self.faults = faults
        self._number.clear()
        self._rng = random.Random(faults.seed)

    def answer(
        self, operation: str, request: Mapping[str, Any], caller: str = ""
    ) -> dict[str, Any] | None:
        """Return the answer, None for silence; raise Refused."""
        self.seen.calls[operation] += 1
        if operation in _THROTTLED and self._rng.random() < self.faults.throttled:
            self.seen.throttled += 1
            raise Refused("ProvisionedThroughputExceededException", "slow down")
        self._number[operation] += 1
        answers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "BatchWriteItem": self._batch_write_item,
            "DescribeTaskDefinition": self._describe_task_definition,
            "PutItem": self._put_item,
            "Publish": self._publish,
            "Query": lambda query: self._table(query["TableName"]).query(query),
        }
        if operation not in answers:
            raise Refused("UnknownOperationException", operation)
        answer = answers[operation](request)
        if (operation, self._number[operation]) in self.faults.silent:
            self.unanswered.add(caller)
            return None
        return answer

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise Refused("ResourceNotFoundException", name)
        return self.tables[name]

    def _batch_write_item(self, request: Mapping[str, Any]) -> dict[str, Any]:
        writes = [
            (self._table(name), name, write)
            for name, requests in request["RequestItems"].items()
            for write in requests
        ]
        keys = [_key_of(table, write) for table, _, write in writes]
        if len(writes) > _LARGEST_BATCH:
            raise Refused("ValidationException", "Too many items requested")
        if len(set(keys)) < len(keys):
            raise Refused("ValidationException", "Provided list of item keys contains duplicates")
        left: dict[str, list[Any]] = {}
        for key, (table, name, write) in zip(keys, writes, strict=True):
            if self._rng.random() < self.faults.unprocessed:
                self.seen.unprocessed += 1
                left.setdefault(name, []).append(write)
            elif "PutRequest" in write:
                table.put(key, write["PutRequest"]["Item"])
            else:
                table.delete(key)
        return {"UnprocessedItems": left}

    def _put_item(self, request: Mapping[str, Any]) -> dict[str, Any]:
        table, item = self._table(request["TableName"]), request["Item"]
        key = table.key_of(item)
        condition = request.get("ConditionExpression")
        if condition and not holds(condition, old := table.get(key), *_variables(request)):
            shown = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old
            raise Refused(
                "ConditionalCheckFailedException",
                "The conditional request failed",
                **({"Item": old} if shown else {}),
            )
        table.put(key, item)
        return {}

    def _publish(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.seen.published.append(dict(request))
        return {}

    def _describe_task_definition(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer that the app is essential and its log router is not."""
        containers = [{"name": name, "essential": name == "app"} for name in ("app", "log-router")]
        return {
            "taskDefinition": {
                "taskDefinitionArn": request["taskDefinition"],
                "containerDefinitions": containers,
            }
        }


# ---------------------------------------------------------------- HTTP

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET: Final = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
# AWS_SDK_UA_APP_ID in the caller's environment.
_CALLER: Final = re.compile(rb"\r\nuser-agent:[^\r]* app/([\w-]+)", re.IGNORECASE)
_PUBLISHED: Final = (
    b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
)


class _Requests(asyncio.Protocol):
    """Requests of one connection, one after the other, kept alive."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = bytearray()
        self._end = 0
        """Length of the request at the buffer's beginning; 0 while it is not known."""
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._end and (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._head = bytes(self._buffer[:head])
            length = _LENGTH.search(self._head)
            self._end = head + 4 + (int(length[1]) if length else 0)
        if self._end and len(self._buffer) >= self._end:
            body = bytes(self._buffer[len(self._head) + 4 : self._end])
            del self._buffer[: self._end]
            self._end = 0
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        status, content = b"200 OK", b""
        found = _CALLER.search(self._head)
        caller = found[1].decode() if found else ""
        try:
            if target := _TARGET.search(self._head):
                answer = self._service.answer(target[1].decode(), json.loads(body), caller)
                content = json.dumps(answer).encode()
            else:
                form = dict(parse_qsl(body.decode()))
                answer = self._service.answer(form["Action"], form, caller)
                content = _PUBLISHED
        except Refused as refused:
            answer, status = refused.body, b"400 Bad Request"
            content = json.dumps(refused.body).encode()
        if answer is None:
            return
        head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\nx-amz-crc32: %d\r\n\r\n"
        response = head % (status, len(content), zlib.crc32(content)) + content
        if self._service.faults.latency:
            asyncio.get_running_loop().call_later(
                self._service.faults.latency, self._transport.write, response
            )
        else:
            self._transport.write(response)


async def _serve(control: Connection, tables: Mapping[str, Mapping[str, Any]]) -> None:
    service = Service(tables)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: _Requests(service), "127.0.0.1", 0)

    def obey() -> None:
        try:
            name, argument = control.recv()
        except EOFError:
            ended.set()
            return
        match name:
            case "behave":
                service.behave(argument)
                control.send(None)
            case "seen":
                control.send(service.seen)
                service.seen = Seen()
            case "unanswered":
                control.send(service.unanswered)
                service.unanswered = set()
            case "items":
                control.send(service.tables[argument].items)

    loop.add_reader(control.fileno(), obey)
    control.send(server.sockets[0].getsockname()[1])
    await ended.wait()


def _run(control: Connection, tables: Mapping[str, Mapping[str, Any]]) -> None:
    asyncio.run(_serve(control, tables))


class TableServer:
    """The process, from outside."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self.endpoint = f"http://127.0.0.1:{control.recv()}"

    @classmethod
    @contextlib.contextmanager
    def started(cls, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[Self]:
        """Run it with these tables, given as CreateTable wants them, while the block lasts."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, tables))
        process.start()
        theirs.close()
        try:
            yield cls(ours)
        finally:
            # It ends when nobody holds the other side of its pipe.
            ours.close()
            process.join()

    def behave(self, faults: Faults) -> None:
        self._ask("behave", faults)

    def seen(self) -> Seen:
        """Return what was asked since the last time."""
        seen: Seen = self._ask("seen", None)
        return seen

    def unanswered(self) -> set[str]:
        """Return who got no answer since the last time, by AWS_SDK_UA_APP_ID."""
        callers: set[str] = self._ask("unanswered", None)
        return callers

    def items(self, table: str) -> dict[Key, str]:
        """Return all items as JSON with sorted keys, by their key."""
        items: dict[Key, str] = self._ask("items", table)
        return items

    def _ask(self, name: str, argument: object) -> Any:
        self._control.send((name, argument))
        return self._control.recv()
