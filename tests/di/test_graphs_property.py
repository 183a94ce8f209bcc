"""Random graphs of dependencies with failures and cancellation: each entered thing is left once, in reverse.

The oracle knows the rules alone: things are entered inputs first, in the order of the handler's parameters; what a
teardown sees is what failed before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microkit import App, Depends, NotFound, Provider, Request, inject
from tests.properties import STEADY

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G5"), pytest.mark.feature("F001-23")]

KINDS = ("sync", "async", "generator", "async generator", "thread generator", "service")
SUSPENDS = ("async", "async generator")
HANDLER = 99
Log = list[tuple[str, int, str]]


@dataclass(frozen=True)
class Item:
    """One dependency: its kind, the earlier ones that it takes, whether it lives as long as the app, where it fails."""

    kind: str
    inputs: tuple[int, ...]
    app: bool
    fails: str


@st.composite
def graphs(draw: st.DrawFn) -> list[Item]:
    items: list[Item] = []
    for index in range(draw(st.integers(1, 6))):
        inputs = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set[int]()
        app = all(items[each].app for each in inputs) and draw(st.integers(0, 3)) == 0
        fails = "" if app else draw(st.sampled_from(["", "", "", "set-up", "teardown"]))
        items.append(Item(draw(st.sampled_from(KINDS)), tuple(sorted(inputs)), app, fails))
    return items


class Broken(Exception):
    pass


class World:
    """An application of a graph, and what happens in it.

    Args:
        items: the graph.
        outcome: how the handler ends: `ok`, `raise`, or `cancel` at item `stop` (or in the handler).
    """

    def __init__(self, items: list[Item], outcome: str, stop: int) -> None:
        self.items, self.outcome, self.stop = items, outcome, stop
        self.log: Log = []
        self.reached = anyio.Event()
        self.app = App(plugins=[], discover=False)
        self.markers: list[Depends] = []
        for index in range(len(items)):
            self.markers.append(self._marker(index))

        @self.app.get("/")
        @inject(**{f"a{n}": marker for n, marker in enumerate(self.markers)})
        async def handler(**values: Any) -> int:
            for index, item in enumerate(items):
                shared = [values[f"a{index}"] is each[f"a{index}"] for each in self.given if f"a{index}" in each]
                assert all(shared), (index, item)
            if outcome == "raise":
                raise NotFound("raised")
            await self.pause(HANDLER)
            return 1

        self.given: list[dict[str, Any]] = []

    def enter(self, index: int, inputs: dict[str, Any]) -> None:
        if not self.items[index].app:
            self.given.append(inputs)
        if self.items[index].fails == "set-up":
            self.log.append(("failed", index, ""))
            raise Broken(f"set-up {index}")
        self.log.append(("in", index, ""))

    def leave(self, index: int, exc: BaseException | None) -> None:
        seen = str(exc.args[0]) if isinstance(exc, Broken) else "raised" if isinstance(exc, NotFound) else "cancelled"
        self.log.append(("out", index, seen if exc is not None else ""))
        if self.items[index].fails == "teardown":
            raise Broken(f"teardown {index}")

    async def pause(self, index: int) -> None:
        if self.outcome == "cancel" and index == self.stop:
            self.reached.set()
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()

    def _marker(self, index: int) -> Depends:
        item, world = self.items[index], self

        def sync(**inputs: Any) -> object:
            world.enter(index, inputs)
            return object()

        async def coroutine(**inputs: Any) -> object:
            await world.pause(index)
            return sync(**inputs)

        def generator(**inputs: Any) -> Any:
            exc = None
            value = sync(**inputs)
            try:
                yield value
            except BaseException as error:
                exc = error
                raise
            finally:
                world.leave(index, exc)

        async def async_generator(**inputs: Any) -> Any:
            exc = None
            value = await coroutine(**inputs)
            try:
                yield value
            except BaseException as error:
                exc = error
                raise
            finally:
                await anyio.lowlevel.checkpoint()
                world.leave(index, exc)

        class Service:
            def __init__(self, **inputs: Any) -> None:
                world.enter(index, inputs)

            async def __aenter__(self) -> None:
                await anyio.lowlevel.checkpoint()

            async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
                await anyio.lowlevel.checkpoint()
                world.leave(index, exc)

        made: Any = {
            "sync": sync,
            "async": coroutine,
            "generator": generator,
            "thread generator": generator,
            "async generator": async_generator,
            "service": Service,
        }[item.kind]
        made = inject(**{f"a{n}": self.markers[n] for n in item.inputs})(made)
        scope = "app" if item.app else "call"
        if item.kind == "service":
            self.app.registry.add(Provider(f"service {index}", made, scope=scope))
            return Depends(f"service {index}")
        return Depends(made, scope=scope, thread=item.kind == "thread generator")

    def expected(self) -> tuple[Log, str]:
        """What one call writes down, and how it ends."""
        log: Log = []
        entered: list[int] = []
        exc = {"ok": "", "raise": "raised", "cancel": "cancelled"}[self.outcome]
        for index, item in enumerate(self.items):
            if item.app:
                continue
            if self.outcome == "cancel" and index == self.stop:
                break
            if item.fails == "set-up":
                log.append(("failed", index, ""))
                exc = f"set-up {index}"
                break
            log.append(("in", index, ""))
            if item.kind not in ("sync", "async"):
                entered.append(index)
        for index in reversed(entered):
            log.append(("out", index, exc))
            if self.items[index].fails == "teardown":
                exc = exc or f"teardown {index}"
        return log, exc


@given(graphs(), st.sampled_from(["ok", "raise", "cancel"]), st.integers(0, 6))
@settings(
    STEADY,
    max_examples=60,
    suppress_health_check=[*STEADY.suppress_health_check, HealthCheck.function_scoped_fixture],
)
async def test_everything_entered_is_left_once_in_reverse(items: list[Item], outcome: str, choice: int) -> None:
    stops = [n for n, item in enumerate(items) if item.kind in SUSPENDS and not item.app]
    world = World(items, outcome, [*stops, HANDLER][choice % (len(stops) + 1)])
    app_items = [n for n, item in enumerate(items) if item.app]
    async with world.app.started():
        built = [index for _, index, _ in world.log]
        assert built == app_items
        for _ in range(1 if outcome == "cancel" else 2):
            world.log.clear()
            world.given.clear()
            expected, end = world.expected()
            if end == "cancelled":
                async with anyio.create_task_group() as group:
                    group.start_soon(world.app.handle, Request("GET", "/"))
                    await world.reached.wait()
                    group.cancel_scope.cancel()
            else:
                reply = await world.app.handle(Request("GET", "/"))
                assert world.log == expected
                spoilt = any(what == "out" and items[n].fails == "teardown" for what, n, _ in expected)
                assert reply.http_status == (500 if spoilt else {"": 200, "raised": 404}.get(end, 500))
    in_call = [each for each in world.log if each[1] not in app_items]
    assert in_call == expected
    left = [index for _, index, _ in world.log if index in app_items]
    assert left == [n for n in reversed(app_items) if items[n].kind not in ("sync", "async")]
