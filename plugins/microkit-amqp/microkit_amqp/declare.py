"""Declaring a topology, comparing it with a broker, and saying what is wrong where they differ."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

from microkit.errors import StartupError

from .topology import Exchange, Queue, Topology

_logger = logging.getLogger("microkit.amqp")
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']+)' in vhost '[^']*': "
    r"received (?P<ours>.+?) but current is (?P<theirs>.+)",
    re.DOTALL,
)
OpenChannel = Callable[[], Coroutine[Any, Any, Any]]


async def declare(open_channel: OpenChannel, topology: Topology) -> None:
    """Declare what a topology holds.

    Args:
        open_channel: gives a channel; a failed declaration costs it.
        topology: what to declare.

    Raises:
        StartupError: something of that name exists with other properties.
    """
    channel = await open_channel()
    try:
        for exchange in topology.exchanges:
            if not await declare_exchange(channel, exchange):
                channel = await open_channel()
        for queue in topology.queues:
            await declare_queue(channel, queue)
        for bind in topology.binds:
            if bind.to_exchange:
                await channel.exchange_bind(bind.destination, bind.source, bind.key)
            else:
                await channel.queue_bind(bind.destination, bind.source, bind.key)
    finally:
        if not channel.is_closed:
            await channel.close()


async def declare_exchange(channel: Any, exchange: Exchange) -> bool:
    """Declare an exchange.

    Returns:
        Whether the channel is still open. It is not after a shared exchange turned out to be auto-delete, as
        micro-framework declares it; that one is used as it is.

    Raises:
        StartupError: it exists with other properties.
    """
    from aiormq.exceptions import ChannelPreconditionFailed

    try:
        await channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments) or None,
        )
    except ChannelPreconditionFailed as exc:
        found = _INEQUIVALENT.search(str(exc))
        if exchange.shared and found is not None and found["arg"] == "auto_delete":
            _logger.warning(
                "the exchange %s is auto-delete because others have declared it so; it and its bindings go away with "
                "its last queue",
                exchange.name,
            )
            return False
        raise StartupError(mismatch(str(exc))) from exc
    return True


async def declare_queue(channel: Any, queue: Queue) -> None:
    """Declare a queue.

    Raises:
        StartupError: it exists with other properties.
    """
    from aiormq.exceptions import ChannelPreconditionFailed

    try:
        await channel.queue_declare(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.arguments) or None,
        )
    except ChannelPreconditionFailed as exc:
        raise StartupError(mismatch(str(exc))) from exc


def mismatch(text: str) -> str:
    """What the broker's refusal of a declaration means, and what to do.

    Args:
        text: of the broker, of a 406.
    """
    found = _INEQUIVALENT.search(text)
    if found is None:
        return f"RabbitMQ refuses a declaration: {text}"
    ours, theirs = _value(found["ours"]), _value(found["theirs"])
    if found["kind"] == "queue":
        remedy = (
            "Delete the queue when it is empty (`rabbitmqctl delete_queue`) so that it is made anew, declare it as it "
            "is, or, if it belongs to others such as nameko, say so with the option foreign=True"
        )
    else:
        remedy = "Delete the exchange so that it is made anew, or declare it as it is"
    return (
        f"The {found['kind']} {found['name']!r} exists with other properties: {found['arg']} is {theirs}, and "
        f"{ours} is asked for. {remedy}."
    )


def _value(text: str) -> str:
    text = text.strip().removeprefix("the value ")
    return "not set" if text.startswith("none") else re.sub(r" of type '[^']*'", "", text)


async def difference(open_channel: OpenChannel, topology: Topology) -> list[str]:
    """How a broker differs from a topology, one line each; nothing is created.

    Bindings cannot be asked for over AMQP and are left out.

    Args:
        open_channel: gives a channel.
        topology: what should be there.
    """
    from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity

    lines: list[str] = []
    for kind, each in (*(("exchange", e) for e in topology.exchanges), *(("queue", q) for q in topology.queues)):
        channel = await open_channel()
        try:
            if isinstance(each, Exchange):
                await channel.exchange_declare(each.name, passive=True)
                await declare_exchange(channel, each)
            else:
                await channel.queue_declare(each.name, passive=True)
                await declare_queue(channel, each)
        except ChannelNotFoundEntity:
            lines.append(f"missing: {kind} {each.name}")
        except ChannelLockedResource:
            lines.append(f"in use: the {kind} {each.name} is exclusive to another connection")
        except ChannelAccessRefused:
            lines.append(f"unknown: no permission to see the {kind} {each.name}")
        except StartupError as exc:
            lines.append(f"different: {exc}")
        finally:
            if not channel.is_closed:
                await channel.close()
    return lines
