"""Groups: a prefix, middleware of its own, and what is registered in it. `App` is the outermost group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from microkit.call import Kind
from microkit.endpoint import Binding, Endpoint, caller_locals
from microkit.errors import ConfigurationError, RoutingError
from microkit.middleware import MiddlewareSpec, as_spec
from microkit.triggers import Every, Route, SocketRoute, Trigger

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Included:
    """Something that was given to `include`, to be collected at build."""

    obj: Any
    prefix: str = ""


@dataclass(frozen=True)
class Mounted:
    """An ASGI application below a path."""

    path: str
    app: Any
    name: str = ""
    location: str = field(default="", compare=False)


class Router:
    """A group of bindings with a common path prefix and middleware.

    Args:
        prefix: begins every path of the group; empty or `/text`, may have parameters.
        middleware: for the calls of this group alone, its 404 and 405 included; first is outermost.

    Attributes:
        executor: for handlers of this group, and of groups in it, that name none; empty: that of the group around it.
    """

    executor = ""

    def __init__(self, prefix: str = "", *, middleware: Sequence[Any] = ()) -> None:
        self.prefix = _checked(prefix)
        self.layers: list[MiddlewareSpec] = []
        self.items: list[Binding | Included | Mounted] = []
        self._closed = ""
        for each in middleware:
            self.add_middleware(each)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise ConfigurationError(f"{what} cannot be added any more: {self._closed}. Add it before the first call.")

    # -- bindings ------------------------------------------------------------------------------------------------------

    def on(self, trigger: Trigger, **options: Any) -> Callable[[F], F]:
        """Bind a function to a trigger. Returns a decorator that returns the function unchanged; several stack.

        Args:
            trigger: what starts it.
            options: `name`, `timeout` (seconds), `executor`, `inline` (run a sync function on the event loop), and
                those of the trigger.
        """
        return self._on(trigger, options, caller_locals())

    def _on(self, trigger: Trigger, options: dict[str, Any], localns: dict[str, Any] | None) -> Callable[[F], F]:
        if not isinstance(trigger, Trigger):
            raise ConfigurationError(
                f"app.on takes a trigger such as Event(...), Every(...), Procedure(...) or Route(...), not {trigger!r}."
            )
        self._check_open(f"The binding {trigger}")

        def bind(func: F) -> F:
            if not callable(func):
                raise ConfigurationError(f"{trigger} must be bound to something callable, not to {func!r}.")
            self.items.append(Binding(Endpoint(func, localns=localns), trigger, dict(options)))
            return func

        return bind

    def route(self, path: str, methods: str | Iterable[str] | None = None, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, methods))`; without methods every method is answered."""
        return self._on(Route(path, methods), options, caller_locals())

    def get(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "GET"))`; HEAD is answered too."""
        return self._on(Route(path, "GET"), options, caller_locals())

    def post(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "POST"))`."""
        return self._on(Route(path, "POST"), options, caller_locals())

    def put(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "PUT"))`."""
        return self._on(Route(path, "PUT"), options, caller_locals())

    def patch(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "PATCH"))`."""
        return self._on(Route(path, "PATCH"), options, caller_locals())

    def delete(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "DELETE"))`."""
        return self._on(Route(path, "DELETE"), options, caller_locals())

    def head(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "HEAD"))`."""
        return self._on(Route(path, "HEAD"), options, caller_locals())

    def options(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(Route(path, "OPTIONS"))`."""
        return self._on(Route(path, "OPTIONS"), options, caller_locals())

    def websocket(self, path: str, **options: Any) -> Callable[[F], F]:
        """`on(SocketRoute(path))`."""
        return self._on(SocketRoute(path), options, caller_locals())

    def every(
        self, seconds: float, *, name: str | None = None, timeout: float | None = None, **timing: Any
    ) -> Callable[[F], F]:
        """`on(Every(seconds, **timing))`."""
        options = {key: value for key, value in (("name", name), ("timeout", timeout)) if value is not None}
        return self._on(Every(seconds, **timing), options, caller_locals())

    # -- more than one binding -----------------------------------------------------------------------------------------

    def include(self, obj: Any, *, prefix: str = "") -> Any:
        """Include what holds bindings: a `Router`, a controller class or instance, or what a plugin collects.

        Args:
            obj: what to include; returned, so that this works as a class decorator.
            prefix: put before its paths.
        """
        self._check_open(f"{obj!r}")
        if obj is self:
            raise ConfigurationError("A group cannot include itself.")
        self.items.append(Included(obj, _checked(prefix)))
        return obj

    include_router = include  # the name that web frameworks have for it

    def mount(self, path: str, app: Any, name: str = "") -> None:
        """Pass all HTTP requests and WebSockets below a path to another ASGI application, and its lifespan too.

        Args:
            path: whole segments, such as `/static`.
            app: ASGI 3 application.
            name: for `url_for` and listings.
        """
        self._check_open(f"The mount at {path!r}")
        if not path.startswith("/") or (path.endswith("/") and path != "/"):
            raise ConfigurationError(f"The mount path {path!r} must begin with a slash and must not end with one.")
        if app is self:
            raise ConfigurationError("An application cannot be mounted in itself.")
        self.items.append(Mounted(path, app, name))

    def add_middleware(self, middleware: Any, *, kinds: Kind | None = None, guard: bool = False, **options: Any) -> Any:
        """Wrap all calls of this group. The first added is outermost.

        Args:
            middleware: see `MiddlewareSpec.middleware`; `HttpMiddleware` and `WebSocketMiddleware` objects too.
            kinds: kinds of call; None: by the annotation of the first parameter.
            guard: start-up fails if a plan of this group would run without it.
            options: constructor arguments, for a class.

        Returns:
            `middleware`, so that this works as a decorator.
        """
        self._check_open("Middleware")
        self.layers.append(as_spec(middleware, kinds=kinds, guard=guard, **options))
        return middleware


def _checked(prefix: str) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ConfigurationError(f"The prefix {prefix!r} must begin with a slash and must not end with one.")
    return prefix


def join(*prefixes: str) -> str:
    """Paths joined; `/` as a whole path after a prefix stands for the prefix itself.

    Raises:
        RoutingError: one of them has no slash at its beginning, and so would grow together with the one before.
    """
    for each in prefixes:
        if each and not each.startswith("/"):
            raise RoutingError(f"The path {each!r} must begin with a slash: {'/' + each!r}.")
    return "".join(each for each in prefixes if each != "/") or "/"
