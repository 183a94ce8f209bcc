"""The plan: one binding, compiled. Everything that can be known before a call is decided here.

    invoke(call) -> Reply:   [outer scope] -> onion of layers -> core
    core(call) -> Reply:     open call scope -> bind parameters -> execute -> render -> close call scope

A plan declares what it needs. One that has no generator dependency allocates no list of exits, one without a deadline
enters no cancel scope, and a handler whose parameters all come straight from the call gets no frame.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import annotations
from .call import Kind, Reply
from .codegen import Shape, make_core, write_core
from .di import Scope
from .endpoint import Binding, Endpoint
from .errors import ConfigurationError, ValidationError
from .executor import ON_LOOP, ExecutorSpec
from .graph import CALL, Mode, Node, Steps, leave_scope
from .layers import Invoke, Layer, repeatable, wrapped
from .renderers import error_reply, internal_error
from .scopes import CallScope
from .sockets import close_code, socket_handler, socket_reply

if TYPE_CHECKING:
    from .app import App
    from .resolve import Resolver


class Plan:
    """The compilation of one binding.

    Attributes:
        binding, endpoint, kind, options: what it was compiled from.
        address: for logs and people.
        ingress: name of the ingress that serves the binding; empty for what the kernel adds itself.
        context: name of the group of workers that runs it, for metrics; the plugin that brings the group sets it.
        value_names: names of the path values.
        max_body_size, body_timeout: bounds of a request's body, in bytes and in seconds; None is none.
        layers: the middleware, outermost first.
        renderers: for the handler's results.
        handler: the handler as a callable of positional arguments.
        nodes: what fills these arguments.
        remote: what has the handler run elsewhere, if its executor does.
        invoke: runs a call through everything; never raises but for cancellation.
        answer: the same, but may give the bytes of a JSON document for a reply that holds nothing else.
        around: what `modify_plan` puts around `invoke` and `answer`, middleware and scopes included; the first is
            innermost.
        late: something may be left after the background tasks.
        shielded: something must be left that may suspend, so cancellation is kept away from that.
        grace: seconds for what must be left; None if none of it can suspend.
        plain: what it needs is over once its reply is delivered, and the method is not HEAD.
    """

    def __init__(
        self,
        app: App,
        binding: Binding,
        resolver: Resolver,
        layers: list[Layer],
        executor: ExecutorSpec | None,
        value_names: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self.binding = binding
        self.endpoint: Endpoint = binding.endpoint
        self.kind: Kind = binding.trigger.kind
        self.options = binding.options
        self.address = str(binding.trigger)
        self.ingress = self.context = ""
        self.value_names = value_names
        self.resolver = resolver
        self.layers = layers
        self.executor = executor
        self.timeout: float | None = binding.options.get("timeout", app.timeout)
        settings = app.settings
        self.max_body_size: int | None = binding.options.get("max_body_size", settings.max_body_size)
        self.body_timeout: float | None = binding.options.get("body_timeout", settings.body_timeout)
        self.grouped = bool(binding.options.get("task_group"))
        handler = self.endpoint.handler
        self.may_stream = annotations.is_async_generator(handler) or annotations.is_generator(handler)
        if self.may_stream and self.kind not in Kind.HTTP | Kind.RPC:
            raise ConfigurationError(
                f"{binding} is a generator, but nobody reads the results of {self.kind.names()} calls, so it would "
                f"never run. Make it a function that does not yield."
            )
        if binding.options.get("timeout") is not None and (self.may_stream or binding.options.get("inline")):
            what = "a generator" if self.may_stream else "inline code"
            raise ConfigurationError(
                f"{binding} has a timeout that could never end it: {what} is not awaited. "
                f"Leave the option out, or make the handler an async function that returns its result."
            )
        self.handler, self.nodes = resolver.handler(self.endpoint)
        self.remote = executor.remote(self) if executor is not None and executor.remote is not None else None
        if self.remote is not None:
            self.handler, self.nodes = self.remote, [CALL]
        self.outer = Steps()
        self.outer.add(node for layer in layers for node in ([layer.target] if layer.target else []) + layer.nodes)
        self.inner = Steps(self.outer)
        self.inner.add(self.nodes)
        self.app_nodes = [node for steps in (self.outer, self.inner) for node in steps.order if node.scope is Scope.APP]
        self.invoke: Invoke = self._not_frozen
        self.answer: Any = self._not_frozen
        self.plain = False
        # A container can make call-scoped services at any time, so it counts as a declared need for a scope.
        self.dynamic = self.outer.dynamic or self.inner.dynamic
        self.scoped = self.outer.needs_exits or self.inner.needs_exits
        self.around: list[Callable[[Invoke], Invoke]] = []
        self.renderers = app.renderers.extended(binding.trigger.renderers)
        self.shielded = any(node.may_suspend_at_exit for node in self._all_nodes() if node.scope is not Scope.APP)
        self.late = self.dynamic or any(
            node.scope is Scope.BACKGROUND and node.needs_exit for node in self._all_nodes()
        )
        self.grace = app.settings.teardown_timeout if self.shielded else None

    def _all_nodes(self) -> list[Node]:
        return [*self.outer.order, *self.inner.order]

    async def _not_frozen(self, call: Any) -> Reply:
        raise RuntimeError("this plan was not frozen: the application is not started")

    # -- freezing ------------------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Make `invoke`. App-scoped services exist now and become constants."""
        owner = self.app.owner
        self.outer.compile(owner)
        self.inner.compile(owner)
        self.answer = None
        call = self._core()
        if self.layers:
            call = repeatable(call)
        for layer in reversed(self.layers):
            call = wrapped(layer, call, self.outer, self.app.renderers)
        if not self.outer.idle:
            call = self._with_outer_scope(call)
        answer = self.answer
        for around in self.around:
            call, answer = around(call), answer and around(answer)
        self.invoke, self.answer = call, answer or call
        self.plain = not (self.late or self.grouped or self._may_be_head())

    def _may_be_head(self) -> bool:
        methods = getattr(self.binding.trigger, "methods", ())
        return methods is None or "HEAD" in methods

    def for_head(self) -> Plan:
        """The same plan for HEAD requests: the body is left out at delivery."""
        return _HeadPlan(self)

    def open(self, call: Any) -> list[Any]:
        """Give a call its frame, and what its scopes are recorded in."""
        call._exits = call._exits or []
        if self.late:
            call._late_exits = call._late_exits or []
        frame = call._frame = self.inner.template[:]
        frame[0] = call
        if self.dynamic:
            call.live_scope = CallScope(call)
        return frame

    def _with_outer_scope(self, onion: Invoke) -> Invoke:
        """What middlewares inject: entered before the onion, left after it. A failure here is the bare INTERNAL."""
        steps, dynamic = self.outer, self.dynamic
        grace, renderers = self.grace, self.app.renderers

        async def invoke(call: Any) -> Reply:
            frame = self.open(call)
            exits = call._exits
            try:
                if dynamic:
                    await steps.run_dynamic(frame, call.live_scope)
                else:
                    await steps.run(frame, exits, call._late_exits)
                call._outer = len(exits), len(call.live_scope.instances) if dynamic else 1
                if exits:  # they may hold cancel scopes
                    call._around = self.app.runtime.innermost_scope()
                reply = await onion(call)
            except Exception as exc:
                reply = error_reply(call, exc, renderers)
            if reply.streams or not exits:
                return reply  # the dispatcher owns the scopes of a stream
            failure = await leave_scope(exits, reply.error, grace, call._shield)
            return internal_error(call, failure) if failure is not None else reply

        return invoke

    # -- the core ------------------------------------------------------------------------------------------------------

    def _execute(self) -> tuple[Callable[..., Any], bool]:
        """The handler with executor and deadline around it, and whether its call is awaited."""
        run, awaited = self._executed()
        return (socket_handler(run, awaited), True) if self.kind is Kind.SOCKET else (run, awaited)

    def _executed(self) -> tuple[Callable[..., Any], bool]:
        handler, executor = self.endpoint.handler, self.executor
        if self.remote is not None:
            return self.remote, True
        if annotations.is_async(handler):
            executor = executor if executor is not None and executor.accepts_async else ON_LOOP
        elif annotations.is_async_generator(handler) or annotations.is_generator(handler):
            return self.handler, False  # the call only makes the generator
        elif executor is None:
            raise ConfigurationError(f"{self.endpoint} has no executor")
        elif executor.name == "inline":
            return self.handler, False
        return executor.wrapped(self.handler, self.timeout), True

    def _render(self) -> Callable[[Any, Any], Reply]:
        """How a result becomes a reply."""
        if self.kind is Kind.HTTP:
            http = self._http()
            return lambda call, result: http(result)
        if self.kind is Kind.SOCKET:
            return socket_reply
        return _rpc_reply if self.kind is Kind.RPC else _plain_reply

    def _http(self) -> Callable[[Any], Reply]:
        # Middleware may change a reply, so with some of it the reply must be nobody else's.
        return self.renderers.owned if self.layers else self.renderers.http

    def _core(self) -> Invoke:
        run, awaited = self._execute()
        if self.dynamic:
            return self._dynamic_core(run, self._slots(), awaited)
        source, names = write_core(self.inner, self._shape(awaited))
        http = self.kind is Kind.HTTP
        names |= {"run": run, "render": self._http() if http else self._render(), "failed": self._failed}
        names["grace"] = self.grace
        if http and not self.layers and self.outer.idle and (encode := self.renderers.encode()) is not None:
            self.answer = make_core(source, {**names, "render": encode})
        return make_core(source, names)

    def _slots(self) -> list[int]:
        slots = [self.inner.slots[node] for node in self.nodes]
        return [0, *slots] if self.kind is Kind.SOCKET else slots  # what surrounds a socket's handler takes the call

    def _shape(self, awaited: bool) -> Shape:
        takes_call = self.kind is not Kind.HTTP
        return Shape(self._slots(), awaited, takes_call, self.scoped, self.late, not self.outer.idle)

    def source(self) -> str:
        """How the core is written: what runs inside of all middleware; empty if a container keeps it from that."""
        self.outer.compile(self.app.owner)
        self.inner.compile(self.app.owner)
        return "" if self.dynamic else write_core(self.inner, self._shape(self._execute()[1]))[0]

    def _dynamic_core(self, run: Any, slots: list[int], awaited: bool) -> Invoke:
        """A container can have further dependencies made while the call runs, so each is looked up by its node."""
        render, failed, steps = self._render(), self._failed, self.inner
        has_outer, grace = not self.outer.idle, self.grace

        async def core(call: Any) -> Reply:
            frame = call._frame if has_outer else self.open(call)
            exits = call._exits
            depth, made = len(exits), len(call.live_scope.instances)
            error: Exception | None = None
            try:
                await steps.run_dynamic(frame, call.live_scope)
                result = run(*[frame[i] for i in slots])
                reply = render(call, await result if awaited else result)
            except Exception as exc:
                error = exc
                reply = await failed(call, exc)
            if error is None and reply.streams:
                return reply  # the dispatcher leaves the scope when the stream has ended
            failure = await leave_scope(exits, error, grace, call._shield, depth) if len(exits) > depth else None
            call.live_scope.cut(made)
            if failure is not None:
                call._error = failure
                reply = internal_error(call, failure)
            return reply

        return core

    async def _failed(self, call: Any, exc: Exception) -> Reply:
        call._error = exc
        if isinstance(exc, ValidationError):
            exc = await self._all_problems(call, exc)
        reply = error_reply(call, exc, self.app.renderers)
        if self.kind is Kind.SOCKET:
            reply.close_code = close_code(call, reply)
        return reply

    async def _all_problems(self, call: Any, first: ValidationError) -> ValidationError:
        """One error that names every parameter that does not fit, if `first` came from binding one."""
        problems: list[dict[str, Any]] = []
        for node in self.inner.order:
            if node.func is not None and node.args == (CALL,) and node.mode in (Mode.SYNC, Mode.ASYNC):
                try:
                    value = node.func(call)
                    if node.mode is Mode.ASYNC:
                        await value
                except ValidationError as exc:
                    problems += [each for each in exc.errors if each not in problems]
                except Exception:
                    return first
        if first.errors and all(each in problems for each in first.errors):
            return type(first)(problems, first.detail)
        return first


class _HeadPlan(Plan):
    """A plan seen through HEAD; everything but `plain` is the original's, which is frozen later."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.plain = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plan, name)


def _plain_reply(call: Any, result: Any) -> Reply:
    return result if isinstance(result, Reply) else Reply(result)


def _rpc_reply(call: Any, result: Any) -> Reply:
    if isinstance(result, Reply):
        return result
    if hasattr(result, "__aiter__"):
        return Reply(body=result)
    if inspect.isgenerator(result):
        from .http.response import items_of

        return Reply(body=items_of(result))
    # Encoding belongs inside the scope: a value may need its open session, and must fail before the commit.
    return Reply(result, body=call.encode(result) if call.encode is not None else None)
