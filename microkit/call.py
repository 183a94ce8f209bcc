"""The unit of work: `Call` goes in, `Reply` comes out, whatever the kind."""

from __future__ import annotations

import enum
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .errors import StatusCode, status_from_http

if TYPE_CHECKING:
    from .app import App
    from .background import BackgroundTasks
    from .connection import Connection
    from .endpoint import Endpoint
    from .plan import Plan


class Kind(enum.Flag):
    """What starts a call."""

    HTTP = enum.auto()
    SOCKET = enum.auto()
    RPC = enum.auto()
    MESSAGE = enum.auto()
    BATCH = enum.auto()
    TICK = enum.auto()

    @classmethod
    def all(cls) -> Kind:
        """Every kind at once."""
        return ~cls(0)

    def names(self) -> str:
        """The kinds in this flag, as `HTTP, RPC`."""
        return ", ".join(kind.name or "" for kind in self)


class Missing(enum.Enum):
    """The type of `MISSING`, which stands for "no value" where None is one."""

    MISSING = enum.auto()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing.MISSING


class Call:
    """One unit of work. `Request`, `WebSocket`, `RpcRequest`, `Message`, `Batch` and `Tick` are its kinds.

    Attributes:
        app: the application that runs it.
        plan: the compiled binding that was matched.
        values: path values in the order of the route's pattern.
        connection: the connection it came by, if calls share one.
    """

    kind: Kind
    # Class-level defaults instead of assignments in __init__: a small call sets only what it has.
    app: App
    plan: Plan
    values: tuple[Any, ...] = ()
    connection: Connection | None = None
    headers: Any
    _id: str | None = None
    _state: SimpleNamespace | None = None
    _attributes: dict[str, Any] | None = None
    _background: BackgroundTasks | None = None
    # Scope bookkeeping of plans that declared a need; see microkit.plan.
    _frame: list[Any]
    live_scope: Any = None  # of plans in which a container may have things made
    _error: BaseException | None = None  # what the handler, its stream or a teardown raised
    _delivered = False
    _shield: Any = None
    _around: object = None  # the innermost cancel scope outside of the middleware
    _outer = 0, 1  # exits and instances of the outer scope, which are there before the core
    _open = False  # the core has left a stream, and with it its scope, open
    _exits: Any = None
    _late_exits: Any = None

    @property
    def id(self) -> str:
        """Hex id of this call, made on first use; in logs and error replies."""
        if self._id is None:
            self._id = os.urandom(8).hex()
        return self._id

    @id.setter
    def id(self, value: str) -> None:
        self._id = value

    @property
    def endpoint(self) -> Endpoint:
        """What runs."""
        return self.plan.endpoint

    @property
    def address(self) -> str:
        """How the call was addressed, for logs: `GET /users`, `orders.create`, `shop/order_placed`."""
        return self.plan.address

    @property
    def state(self) -> SimpleNamespace:
        """A namespace that lives as long as this call."""
        if self._state is None:
            self._state = SimpleNamespace()
        return self._state

    @property
    def path_params(self) -> dict[str, Any]:
        """Path values by the names of the matched route."""
        plan: Plan | None = self.__dict__.get("plan")
        return dict(zip(plan.value_names, self.values, strict=False)) if plan is not None else {}

    @property
    def attributes(self) -> dict[str, Any]:
        """A mutable mapping of the call; starts with the path values."""
        if self._attributes is None:
            self._attributes = self.path_params
        return self._attributes

    @property
    def background(self) -> BackgroundTasks:
        """The tasks to run after delivery."""
        if self._background is None:
            from .background import BackgroundTasks

            self._background = BackgroundTasks()
        return self._background


class Reply:
    """What goes back for a call.

    Args:
        payload: the result as a Python value (RPC, messages, ticks).
        status: outcome; follows `http_status` when only that is given.
        body: encoded bytes, or an async iterator of bytes for a stream; None when the transport encodes `payload`.
        headers: pairs of header name and value (RPC: metadata).
        http_status: HTTP status where it is finer than `status`.
        error: the exception that this reply stands for.
    """

    payload: Any = None
    body: bytes | AsyncIterator[Any] | None = None
    error: BaseException | None = None
    close_code: int | None = None
    _status: StatusCode | None = None
    _http: int | None = None
    raw_headers: list[tuple[bytes, bytes]]

    def __init__(
        self,
        payload: Any = None,
        *,
        status: StatusCode | None = None,
        body: bytes | AsyncIterator[Any] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        http_status: int | None = None,
        error: BaseException | None = None,
        close_code: int | None = None,
    ) -> None:
        self.payload = payload
        self.body = body
        self.raw_headers = []
        if headers:
            from .http.headers import encode_headers

            self.raw_headers = encode_headers(headers)
        self._status = status
        self._http = http_status
        self.error = error
        self.close_code = close_code

    @property
    def status(self) -> StatusCode:
        """The outcome as a gRPC code."""
        if self._status is None:
            return StatusCode.OK if self._http is None else status_from_http(self._http)
        return self._status

    @status.setter
    def status(self, value: StatusCode) -> None:
        self._status = value
        self._http = None

    @property
    def http_status(self) -> int:
        """The outcome as an HTTP status."""
        return self.status.http if self._http is None else self._http

    @http_status.setter
    def http_status(self, value: int) -> None:
        self._http = value
        self._status = None

    status_code = http_status  # the web's name for it

    @property
    def headers(self) -> Any:
        """Case-insensitive, multi-valued, mutable view of the headers (a `MutableHeaders`)."""
        from .http.headers import MutableHeaders

        return MutableHeaders(self.raw_headers)

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.error is None and self.status is StatusCode.OK

    @property
    def streams(self) -> bool:
        """Whether the body is still to be produced."""
        return not isinstance(self.body, bytes) and hasattr(self.body, "__aiter__")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status.name} {self.http_status}>"


class RpcRequest(Call):
    """A call by name.

    Args:
        name: `service.method`.
        args, kwargs: arguments as sent.
        raw: the encoded payload, when it came over a wire; decoded against the handler's type at once.
        content_type: media type of `raw`.
        headers: metadata, case-insensitive when it came over a wire.
    """

    kind = Kind.RPC

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        headers: MutableMapping[str, str] | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> None:
        self.name = name
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.raw = raw
        self.content_type = content_type
        self.headers = headers if headers is not None else {}
        self.encode = encode

    @property
    def service(self) -> str:
        """The part of the name before its last dot."""
        return self.name.rpartition(".")[0]

    @property
    def method(self) -> str:
        """The part of the name after its last dot."""
        return self.name.rpartition(".")[2]

    @property
    def metadata(self) -> MutableMapping[str, str]:
        """What the caller sent beside the payload."""
        return self.headers

    @property
    def payload(self) -> Any:
        """The single argument, or the keyword arguments as a mapping."""
        if self.args:
            return self.args[0] if len(self.args) == 1 and not self.kwargs else list(self.args)
        return self.kwargs


class Tick(Call):
    """One firing of a schedule.

    Args:
        name: the schedule's name.
        scheduled_at: when it was due (aware, UTC).
        fired_at: when it really ran.
        missed: how many firings were left out before this one.
        attempt: 1 for the first run of a firing; higher when its retry policy has it run again.
        headers: facts about the attempts before, as a broker writes them into the copies of a message.
    """

    kind = Kind.TICK

    def __init__(
        self,
        name: str,
        scheduled_at: datetime,
        fired_at: datetime | None = None,
        missed: int = 0,
        *,
        attempt: int = 1,
        headers: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.scheduled_at = scheduled_at
        self.fired_at = fired_at or scheduled_at
        self.missed = missed
        self.attempt = attempt
        self.headers = headers if headers is not None else {}
