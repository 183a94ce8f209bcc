"""The request as handlers see it by `self.request`."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

from microkit import ConfigurationError, WebSocket
from microkit import Request as KernelRequest
from microkit.call import MISSING
from microkit.http import FormFile, Headers, HTTPConnection

from .body import Body, load_body, loaded_body


class Request:
    """A view of an HTTP request, with all that `microkit.Request` has and the names of the auto router.

    Views of one request are equal, and what is set on one of them, or on the request itself, all have.

    Args:
        call: the request, as middleware gets it; or a view of it.
    """

    __slots__ = ("call",)

    call: HTTPConnection

    def __init__(self, call: HTTPConnection | Request) -> None:
        _set_call(self, call.call if isinstance(call, Request) else call)

    def __getattr__(self, name: str) -> Any:
        if name == "call":  # not set yet, which only a copy in the making sees
            raise AttributeError(name)
        return getattr(self.call, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.call, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and other.call is self.call

    def __hash__(self) -> int:
        return hash(self.call)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.call.path}>"

    @property
    def scope(self) -> dict[str, Any]:
        """The ASGI scope."""
        return self.call.scope

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self.call.method

    @property
    def headers(self) -> Headers:
        """The header fields; a mapping whose keys are in lower case, and are found in any case."""
        return self.call.headers

    @property
    def path_params(self) -> list[str]:
        """The path segments that bind to parameters; of an explicit route: its values."""
        named = len(self.call.plan.value_names)
        return list(self.call.values[named:] if self.call.plan.binding.trigger.router == "auto" else self.call.values)

    @property
    def query_params(self) -> dict[str, list[str]]:
        """The query: name to all values, blank ones included."""
        return self.call.query.to_lists()

    @property
    def body_params(self) -> dict[str, list[str]]:
        """The text fields of the form: name to all values, blank ones included."""
        return self._body.fields.to_lists()

    @property
    def files(self) -> Mapping[str, Sequence[FormFile]]:
        """The uploaded files by field."""
        return self._body.files

    @property
    def get_json(self) -> Any:
        """The JSON value of the body; None if there is none."""
        return self.json()

    @property
    def session(self) -> MutableMapping[str, Any]:
        """The session.

        Raises:
            ConfigurationError: no middleware manages sessions.
        """
        return self.call.session

    def query(self, name: str, default: Any = None) -> Any:
        """The first value of a name in the query."""
        return self.call.query.get(name, default)

    def form(self, name: str, default: Any = None) -> Any:
        """The first value of a text field of the form."""
        return self._body.fields.get(name, default)

    def json(self, name: str | None = None, default: Any = None) -> Any:
        """The JSON value of the body, or a member of it.

        Args:
            name: of the member; None for the whole value.
            default: what is returned where there is no JSON, or no such member.
        """
        body = self._body
        if name is None:
            return default if body.document is MISSING else body.document
        return body.members.get(name, default)

    def regenerate_session(self) -> Any:
        """Give the session a new id and keep its data: after a login, against fixation of the old id.

        Raises:
            ConfigurationError: what manages the session cannot do that.
        """
        regenerate = getattr(self.session, "regenerate", None)
        if regenerate is None:
            raise ConfigurationError("The session has no `regenerate`; microkit-sessions brings one that has.")
        return regenerate()

    async def parse(self) -> Request:
        """Read the form or JSON in the body; handlers find that done, middleware does it before it asks for fields."""
        if loaded_body(self.call) is None:
            await load_body(cast("KernelRequest", self.call))
        return self

    @property
    def _body(self) -> Body:
        body = loaded_body(self.call)
        if body is None:
            raise RuntimeError("the body was not read yet: `await request.parse()` before you ask for what it holds")
        return body


class WebSocketRequest(Request):
    """A view of a WebSocket's handshake; it has no body."""

    __slots__ = ()


_set_call: Any = Request.__dict__["call"].__set__  # the slot itself, which `__setattr__` stands before


def view_of(call: HTTPConnection) -> Request:
    """The view of a call, by its kind."""
    return WebSocketRequest(call) if isinstance(call, WebSocket) else Request(call)
