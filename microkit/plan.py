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

import anyio

from . import annotations
from .call import Kind, Reply
from .di import Scope
from .endpoint import Binding, Endpoint
from .errors import ConfigurationError, PublicError, StatusCode, ValidationError
from .executor import ExecutorSpec
from .graph import CALL, Exit, Mode, Node, Steps, leave_scope
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
        value_names: names of the path values.
        layers: the middleware, outermost first.
        handler: the handler as a callable of positional arguments.
        nodes: what fills these arguments.
        remote: what has the handler run elsewhere, if its executor does.
        invoke: runs a call through everything; never raises but for cancellation.
        answer: the same, but may give the bytes of a JSON document for a reply that holds nothing else.
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
        self.ingress = ""
        self.value_names = value_names
        self.resolver = resolver
        self.layers = layers
        self.executor = executor
        self.timeout: float | None = binding.options.get("timeout", app.timeout)
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
        self.invoke = call
        self.answer = self.answer or call
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
        if self.kind is Kind.SOCKET:
            run, awaited = socket_handler(run, awaited), True
        if self.timeout is not None and awaited and self.remote is None:
            run = _timed(run, self.timeout)
        return run, awaited

    def _executed(self) -> tuple[Callable[..., Any], bool]:
        handler = self.endpoint.handler
        if self.remote is not None:
            return self.remote, True
        if annotations.is_async(handler):
            if self.executor is not None and self.executor.accepts_async:
                return self.executor.wrap(self.handler), True
            return self.handler, True
        if annotations.is_async_generator(handler) or annotations.is_generator(handler):
            return self.handler, False  # the call only makes the generator
        if self.executor is None:
            raise ConfigurationError(f"{self.endpoint} has no executor")
        if self.executor.name == "inline":
            return self.handler, False
        return self.executor.wrap(self.handler), True

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
        return self.app.renderers.owned if self.layers else self.app.renderers.http

    def _core(self) -> Invoke:
        if self.scoped:
            return self._scoped_core()
        if (
            self.kind is not Kind.SOCKET
            and self.outer.idle
            and all(node.is_source or node.mode is Mode.CONSTANT or node is CALL for node in self.nodes)
        ):
            return self._direct_core()
        return self._framed_core()

    def _argument_slots(self) -> list[int]:
        slots = [self.inner.slots[node] for node in self.nodes]
        return [0, *slots] if self.kind is Kind.SOCKET else slots  # what surrounds a socket's handler takes the call

    def _direct_core(self) -> Invoke:
        """Every argument is read straight from the call: no frame."""
        run, awaited = self._execute()
        http = self._http() if self.kind is Kind.HTTP else None
        render, failed = self._render(), self._failed
        getters: list[Any] = []
        for node in self.nodes:
            slot = self.inner.slots[node]
            value = self.inner.template[slot]
            constant = (lambda call: call) if node is CALL else (lambda call, value=value: value)
            getters.append(node.func if node.is_source else constant)
        if http is not None and awaited and len(getters) <= 2:
            if not self.layers and (encode := self.app.renderers.encode()) is not None:
                self.answer = _small_core(run, getters, encode, failed)
            return _small_core(run, getters, http, failed)

        async def core(call: Any) -> Reply:
            try:
                result = run(*[get(call) for get in getters])
                return render(call, await result if awaited else result)
            except Exception as exc:
                return await failed(call, exc)

        return core

    def _framed_core(self) -> Invoke:
        """Dependencies, none of which has anything to leave."""
        run, awaited = self._execute()
        render, failed, steps = self._render(), self._failed, self.inner
        template, slots = steps.template, self._argument_slots()
        has_outer, sync = not self.outer.idle, steps.purely_sync
        none: list[Exit] = []

        async def core(call: Any) -> Reply:
            try:
                if has_outer:
                    frame = call._frame
                else:
                    frame = template[:]
                    frame[0] = call
                if sync:
                    steps.run_sync(frame)
                else:
                    await steps.run(frame, none, none)
                result = run(*[frame[i] for i in slots])
                return render(call, await result if awaited else result)
            except Exception as exc:
                return await failed(call, exc)

        return core

    def _scoped_core(self) -> Invoke:
        """Dependencies with teardown: left before the reply is delivered; by the dispatcher after a cancellation."""
        run, awaited = self._execute()
        render, failed, steps = self._render(), self._failed, self.inner
        slots = self._argument_slots()
        has_outer, dynamic, grace = not self.outer.idle, self.dynamic, self.grace

        async def core(call: Any) -> Reply:
            frame = call._frame if has_outer else self.open(call)
            exits = call._exits
            depth, made = len(exits), len(call.live_scope.instances) if dynamic else 0
            error: Exception | None = None
            try:
                if dynamic:
                    await steps.run_dynamic(frame, call.live_scope)
                else:
                    await steps.run(frame, exits, call._late_exits)
                result = run(*[frame[i] for i in slots])
                reply = render(call, await result if awaited else result)
            except Exception as exc:
                error = exc
                reply = await failed(call, exc)
            if error is None and reply.streams:
                return reply  # the dispatcher leaves the scope when the stream has ended
            failure = await leave_scope(exits, error, grace, call._shield, depth) if len(exits) > depth else None
            if dynamic:
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
            return ValidationError(problems, first.detail)
        return first


class _HeadPlan(Plan):
    """A plan seen through HEAD; everything but `plain` is the original's, which is frozen later."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.plain = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plan, name)


def _small_core(run: Any, getters: list[Any], http: Any, failed: Any) -> Invoke:
    """`_direct_core` for an async HTTP handler of at most two arguments: the shapes that small services are made of.

    Args:
        http: what makes of a result what this gives.
    """
    if not getters:

        async def core0(call: Any) -> Reply:
            try:
                return http(await run())
            except Exception as exc:
                return await failed(call, exc)

        return core0
    if len(getters) == 1:
        get = getters[0]

        async def core1(call: Any) -> Reply:
            try:
                return http(await run(get(call)))
            except Exception as exc:
                return await failed(call, exc)

        return core1
    first, second = getters

    async def core2(call: Any) -> Reply:
        try:
            return http(await run(first(call), second(call)))
        except Exception as exc:
            return await failed(call, exc)

    return core2


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


def _timed(run: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """`run` with a deadline: around the handler alone, since its dependencies outlive it."""

    async def timed(*args: Any) -> Any:
        with anyio.move_on_after(seconds):
            return await run(*args)
        raise PublicError(f"The call took longer than {seconds:g} seconds.", status=StatusCode.DEADLINE_EXCEEDED)

    return timed
