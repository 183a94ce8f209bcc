"""Executors that run handlers elsewhere, groups that name one, and options that plugins add to triggers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    ConfigurationError,
    Depends,
    Event,
    Every,
    Procedure,
    PublicError,
    Router,
    StatusCode,
    hookimpl,
)
from microkit.executor import ExecutorSpec, in_thread
from microkit.inprocess import Publisher
from microkit.plan import Plan
from microkit.settlement import State
from microkit.triggers import TriggerSpec


class Elsewhere:
    """A plugin with an executor that hands calls over to a list."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    @hookimpl
    def microkit_executors(self) -> Iterable[ExecutorSpec]:
        def remote(plan: Plan) -> Any:
            if plan.options.get("name") == "here":
                return None
            if plan.options.get("name") == "impossible":
                raise ConfigurationError("This cannot run elsewhere.")

            async def run(call: Any) -> Any:
                self.calls.append(call.address)
                if plan.options.get("name") == "fails":
                    raise ConnectionError
                return "from elsewhere"

            return run

        return [ExecutorSpec("elsewhere", in_thread, remote=remote)]

    @hookimpl
    def microkit_triggers(self) -> Iterable[TriggerSpec]:
        return [TriggerSpec(Event, frozenset({"colour"}))]


@pytest.mark.anyio
async def test_a_handler_that_runs_elsewhere_opens_nothing_here() -> None:
    plugin, opened, here = Elsewhere(), list[str](), list[str]()
    app = App(plugins=[plugin], discover=False)

    async def session() -> Any:
        opened.append("opened")
        yield

    async def note(call: Any, call_next: Any) -> Any:
        here.append(call.address)
        return await call_next(call)

    app.add_middleware(note)

    @app.on(Procedure("a.b"), executor="elsewhere")
    async def handler(x: int, held: Any = Depends(session)) -> str:
        raise AssertionError

    @app.on(Event("a", "b"), executor="elsewhere", name="fails")
    def failing(payload: int) -> None:
        raise AssertionError

    @app.on(Procedure("a.here"), executor="elsewhere", name="here")
    def local(x: int) -> int:
        return x

    async with app.started():
        assert await app.call("a.b", 1) == "from elsewhere"
        assert await app.call("a.here", 1) == 1
        (outcome,) = await Publisher(app).publish("a", "b", 1)
        assert outcome.settlement.state is State.RETRIED
    assert opened == []
    assert plugin.calls == ["a.b", "a/b"]
    assert here == ["a.b", "a.here", "a/b"]


def test_an_executor_refuses_at_start_up_and_the_handler_is_checked_all_the_same() -> None:
    app = App(plugins=[Elsewhere()], discover=False)
    app.on(Procedure("a.b"), executor="elsewhere", name="impossible")(lambda: None)
    with pytest.raises(ConfigurationError, match="cannot run elsewhere"):
        app.build()
    app = App(plugins=[Elsewhere()], discover=False)

    @app.on(Event("a", "b"), executor="elsewhere")
    def handler(payload: int, nobody_knows: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="nobody_knows"):
        app.build()


@pytest.mark.anyio
async def test_a_group_names_the_executor_of_its_handlers_and_of_the_groups_in_it() -> None:
    plugin = Elsewhere()
    app, outer, inner = App(plugins=[plugin], discover=False), Router(), Router()
    outer.executor = "elsewhere"

    @inner.on(Procedure("a.inner"))
    async def handler() -> str:
        return "from here"

    @inner.on(Procedure("a.own"), inline=True)
    def own() -> str:
        return "from here"

    outer.include(inner)
    app.include(outer)
    app.on(Procedure("a.outside"))(handler)
    async with app.started():
        assert await app.call("a.inner") == "from elsewhere"
        assert await app.call("a.own") == "from here"
        assert await app.call("a.outside") == "from here"


def test_a_plugin_adds_options_to_a_trigger_of_the_kernel() -> None:
    app = App(plugins=[Elsewhere()], discover=False)
    app.on(Event("a", "b"), colour="red")(lambda payload: None)
    assert app.build().plans[0].ingress == "consumers"
    plain = App(discover=False)
    plain.on(Event("a", "b"), colour="red")(lambda payload: None)
    with pytest.raises(ConfigurationError, match="unknown option 'colour'"):
        plain.build()


@pytest.mark.parametrize("retry", [5, "often", BaseException])
def test_what_is_no_retry_policy_is_refused(retry: Any) -> None:
    app = App(discover=False)
    app.on(Every(1), retry=retry)(lambda: None)
    with pytest.raises(ConfigurationError, match="which is no retry policy"):
        app.build()


@pytest.mark.anyio
async def test_a_deadline_of_what_runs_elsewhere_is_its_executors() -> None:
    class Slow:
        @hookimpl
        def microkit_executors(self) -> Iterable[ExecutorSpec]:
            def remote(plan: Plan) -> Any:
                async def run(call: Any) -> Any:
                    await anyio.sleep(0.05)  # getting there
                    with anyio.move_on_after(plan.timeout):
                        return await anyio.sleep_forever()
                    raise PublicError("too long", status=StatusCode.DEADLINE_EXCEEDED)

                return run

            return [ExecutorSpec("slow", in_thread, remote=remote)]

    app = App(plugins=[Slow()], discover=False)
    app.on(Procedure("a.b"), executor="slow", timeout=0.01)(lambda: None)
    async with app.started():
        with pytest.raises(PublicError, match="too long"):
            await app.call("a.b")
