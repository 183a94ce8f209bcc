"""A child process: `python -m microkit_workers.process.child FD`, where FD is the socket to its parent."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from typing import Any

import anyio

from microkit import App, MicrokitError, Provider, Reply
from microkit.broker import Broker
from microkit.cli.loading import describe_failure
from microkit.cli.serving import configure_logging
from microkit.dispatch import run
from microkit.plan import Plan
from microkit_workers.process import place
from microkit_workers.process.calls import key_of, pack_outcome, unpack_call
from microkit_workers.process.channel import Channel
from microkit_workers.process.relay import RelayBroker
from microkit_workers.process.source import load


class Child:
    """Runs one call after the other, as the parent sends them."""

    def __init__(self, channel: Channel, app: App) -> None:
        self._channel = channel
        self._app = app
        self._asked: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._plans: dict[str, Plan] = {}

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the parent for something and wait for its answer."""
        number, answered = next(self._numbers), anyio.Event()
        self._asked[number] = answered
        await self._channel.send({"type": "ask", "number": number, "question": question})
        await answered.wait()
        return self._asked.pop(number)

    async def serve(self) -> None:
        """Start the application and run calls until the parent has no more."""
        app = self._app
        app.registry.add(Provider(Broker, value=RelayBroker(self.ask)))
        app.build()
        for plan in app.table.plans:
            plan.layers = []  # middleware and deadlines are the parent's
            plan.timeout = None
            self._plans[key_of(plan)] = plan
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, group)
            async with app.started():
                await self._channel.send({"type": "ready", "bindings": sorted(self._plans)})
                self._stopping = anyio.Event()
                await self._stopping.wait()
            group.cancel_scope.cancel()

    async def _listen(self, group: Any) -> None:
        while True:
            frame = await self._channel.receive()
            if frame is None:
                # The parent is gone, and with it whoever could take a result: its messages are delivered again.
                os._exit(0)
            head, body = frame
            if head["type"] == "answer":
                answered, self._asked[head["number"]] = self._asked[head["number"]], head["answer"]
                answered.set()
            elif head["type"] == "run":
                group.start_soon(self._run, head, body)
            else:
                self._stopping.set()

    async def _run(self, head: dict[str, Any], body: bytes) -> None:
        await self._channel.send({"type": "begun"})
        plan = self._plans[head["binding"]]
        call = unpack_call(plan.kind.name or "", head["call"], body)
        call.app, call.plan, call.id = self._app, plan, head["id"]

        async def deliver(reply: Reply) -> None:
            nonlocal outcome
            outcome = reply

        outcome = Reply()
        try:
            await run(call, deliver)
            facts, result = pack_outcome(call, outcome)
        except Exception as exc:
            facts, result = pack_outcome(call, Reply(error=exc))
        await self._channel.send({"type": "done", "id": head["id"], "outcome": facts}, result)


async def main(channel: Channel) -> None:
    """Run the child process: the first frame tells what to load."""
    frame = await channel.receive()
    if frame is None:
        return
    head, _ = frame
    configure_logging(head["log_level"])
    place.inside = True
    try:
        await Child(channel, load(head["source"])).serve()
    except Exception as exc:
        text = str(exc) if isinstance(exc, MicrokitError) else describe_failure(exc)
        await channel.send({"type": "failed", "reason": text})


def start() -> None:
    """Take the place of a child process."""
    # A terminal or a service manager signals all processes; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    anyio.run(main, channel, backend=sys.argv[2])


if __name__ == "__main__":
    start()
