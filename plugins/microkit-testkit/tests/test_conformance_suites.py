"""Every suite, held against implementations of the kernel and of the reference plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from microkit import (
    Call,
    CallNext,
    Event,
    Every,
    InMemorySessionBackend,
    Message,
    Reply,
    SessionBackend,
    Trigger,
)
from microkit.di import Scope
from microkit.executor import INLINE, THREAD
from microkit.settlement import Delivery
from microkit.triggers import TriggerSpec
from microkit.validation import KERNEL_VALIDATOR
from microkit_testkit import reference
from microkit_testkit.conformance.components import (
    DriverSuite,
    ExecutorSuite,
    ProviderSuite,
    TriggerSuite,
    ValidatorSuite,
)
from microkit_testkit.conformance.deliveries import DeliverySuite
from microkit_testkit.conformance.middleware import MiddlewareSuite
from microkit_testkit.conformance.plugins import PluginSuite
from microkit_testkit.conformance.sessions import SessionBackendSuite
from microkit_testkit.signals import Signal, SignalQueue, Stored

pytestmark = pytest.mark.feature("FX-29")
REFERENCE = "microkit_testkit.reference"


class TestMiddleware(MiddlewareSuite):
    def make(self) -> Any:
        async def passing(call: Call, call_next: CallNext) -> Reply:
            reply = await call_next(call)
            reply.headers["x-seen"] = "yes"
            return reply

        return passing


class TestProvider(ProviderSuite):
    plugins = (REFERENCE,)
    key = SignalQueue
    scope = Scope.APP


class TestThreadExecutor(ExecutorSuite):
    spec = THREAD


class TestInlineExecutor(ExecutorSuite):
    spec = INLINE
    concurrent = False


class TestReferenceExecutor(ExecutorSuite):
    plugins = (REFERENCE,)
    spec = reference.microkit_executors()


class TestTimers(TriggerSuite):
    spec = TriggerSpec(Every, ingress="timers")

    def make(self) -> Trigger:
        return Every(7)


class TestEvents(TriggerSuite):
    spec = TriggerSpec(Event, ingress="consumers")

    def make(self) -> Trigger:
        return Event("shop", "sold")


class TestSignals(TriggerSuite):
    plugins = (REFERENCE,)
    spec = reference.microkit_triggers()

    def make(self) -> Trigger:
        return Signal("ping")

    def handler(self) -> Any:
        async def handler(message: Message) -> None: ...

        return handler


@dataclass
class Point:
    x: int
    y: int = 0


class TestKernelValidator(ValidatorSuite):
    spec = KERNEL_VALIDATOR
    valid = ((int, 3, 3), (list[int], [1, 2], [1, 2]), (Point, {"x": 1}, Point(1)))
    invalid = ((int, "three"), (list[int], [1, "two"]), (Point, {"y": 1}))


class TestReferenceValidator(ValidatorSuite):
    spec = reference.microkit_validators()
    valid = ((reference.Celsius, 20, reference.Celsius(20.0)),)
    invalid = ((reference.Celsius, -300),)
    foreign = (object, int, Point)


class TestInMemorySessions(SessionBackendSuite):
    def setup_method(self) -> None:
        self.now = 0.0

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[SessionBackend]:  # type: ignore[override]
        yield InMemorySessionBackend(clock=lambda: self.now)

    async def wait(self, seconds: float) -> None:
        self.now += seconds


class TestDriver(DriverSuite):
    plugins = (REFERENCE,)
    spec = reference.microkit_test_drivers()


class _Bench:
    def __init__(self) -> None:
        self.queue = SignalQueue()

    async def put(self, body: bytes) -> None:
        self.queue.put(Stored("event", body))

    async def take(self) -> Any:
        delivery = self.queue.take()
        return None if delivery is None else _Taken(delivery.stored.body, delivery.stored.attempt, delivery)

    async def dead(self) -> list[bytes]:
        return [body for body, _ in self.queue.dead]

    async def reconnect(self) -> None:
        self.queue.reconnect()


@dataclass
class _Taken:
    body: bytes
    attempt: int
    delivery: Delivery


class TestSignalQueue(DeliverySuite):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[Any]:  # type: ignore[override]
        yield _Bench()


class TestReferencePlugin(PluginSuite):
    plugin = REFERENCE
    name = "reference"
