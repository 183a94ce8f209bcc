"""Both embedded brokers do the same: random sequences of actions, played on one and on the other, side by side."""

from __future__ import annotations

import tempfile
from collections import deque
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from microkit import Message
from microkit.broker import Broker, OutgoingMessage, QueueSpec, QueueState
from microkit.settlement import Delivery
from microkit_workers import MemoryBroker, SqliteBroker
from microkit_workers.brokers.hub import Hub
from microkit_workers.brokers.options import MemoryOptions, SqliteOptions
from microkit_workers.conformance import eventually

pytestmark = [pytest.mark.feature("FX-08"), pytest.mark.guarantee("G8")]

_QUEUES = [QueueSpec("one", "shop", "order"), QueueSpec("two", "shop", "order")]
_ACTIONS = st.one_of(
    st.tuples(
        st.sampled_from(["send", "ack", "give back", "retry", "bury", "redrive", "resubscribe"]), st.integers(0, 1)
    ),
    st.tuples(st.sampled_from(["publish", "expired", "delayed", "reconnect"]), st.just(0)),
)


class Player:
    """A broker with a consumer on each of two queues; every message that came is written down."""

    def __init__(self, broker: Broker, prefetch: int) -> None:
        self.broker = broker
        self.prefetch = prefetch
        self.seen: list[list[tuple[bytes, int, Any]]] = [[], []]
        self.held: list[deque[tuple[Message, Delivery]]] = [deque(), deque()]
        self.subscriptions: list[Any] = [None, None]

    def taker(self, index: int) -> Any:
        def take(message: Message, delivery: Delivery) -> None:
            self.seen[index].append((message.body, message.attempt, message.headers.get("x-microkit-redelivered")))
            self.held[index].append((message, delivery))

        return take

    async def subscribe(self, index: int) -> None:
        self.subscriptions[index] = await self.broker.subscribe(_QUEUES[index], self.prefetch, self.taker(index))

    async def open(self) -> None:
        await self.broker.connect()
        for index in range(2):
            await self.subscribe(index)

    async def play(self, action: str, index: int, number: int) -> None:
        broker, body = self.broker, b"%d" % number
        match action:
            case "send":
                await broker.send(_QUEUES[index].name, OutgoingMessage(body))
            case "publish":
                await broker.publish("shop", "order", OutgoingMessage(body))
            case "expired":
                await broker.publish("shop", "order", OutgoingMessage(body, expires=-1.0))
            case "delayed":
                await broker.publish("shop", "order", OutgoingMessage(body, delay=3600))
            case "redrive":
                await broker.redrive(_QUEUES[index].name)
            case "resubscribe":
                await self.subscriptions[index].cancel()
                while self.held[index]:
                    await self.held[index].pop()[1].give_back()
                await self.subscribe(index)
            case "reconnect":
                self.held = [deque(), deque()]
                await broker.close()
                await self.open()
            case _ if self.held[index]:
                message, delivery = self.held[index].popleft()
                if action == "retry":
                    await delivery.store_retry(0.0, message.attempt + 1, "again")
                elif action == "bury":
                    await delivery.store_dead("hopeless")
                await (delivery.give_back() if action == "give back" else delivery.ack())
            case _:
                pass

    async def states(self) -> list[QueueState]:
        return [await self.broker.state(queue.name) for queue in _QUEUES]


async def _compare(actions: list[tuple[str, int]], prefetch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Player(MemoryBroker(Hub("", MemoryOptions(delivery_limit=100))), prefetch)
        # With a limit that is far off nothing is suspected of killing its consumers, which only the file knows of.
        sqlite = Player(
            SqliteBroker(f"{folder}/x.db", SqliteOptions(synchronous="normal", delivery_limit=100)), prefetch
        )
        await memory.open()
        await sqlite.open()
        for number, (action, index) in enumerate(actions):
            for player in (memory, sqlite):
                await player.play(action, index, number)

            async def same() -> bool:
                return memory.seen == sqlite.seen and await memory.states() == await sqlite.states()

            try:
                await eventually(same, 20)
            except TimeoutError:
                note(f"after {action} {index}: {memory.seen} {sqlite.seen}")
                assert memory.seen == sqlite.seen
                assert await memory.states() == await sqlite.states()
        letters = [
            [(each.queue, each.message.body, each.attempts) async for each in p.broker.dead_letters("one")]
            for p in (memory, sqlite)
        ]
        assert letters[0] == letters[1]
        await memory.broker.close()
        await sqlite.broker.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(_ACTIONS, max_size=25), prefetch=st.sampled_from([1, 3]))
def test_both_brokers_do_the_same(backend: str, actions: list[tuple[str, int]], prefetch: int) -> None:
    anyio.run(_compare, actions, prefetch, backend=backend)
