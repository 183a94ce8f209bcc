"""One connection that comes back: opened with clear errors, opened again for ever after it was lost.

aio-pika opens it; channels are its underlying ones, because a delivery costs less than half of its own there. What its
robust connection would restore is restored by who owns a channel here, which knows more: generations, topology, acks.
All of this runs on an asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import ContextVar
from typing import Any

from microkit.broker import Unroutable
from microkit.errors import PublicError, StartupError, StatusCode

from .address import Address
from .settings import AmqpSettings

_logger = logging.getLogger("microkit.amqp")
_LONGEST_PAUSE = 10.0


def broken(exc: BaseException) -> bool:
    """Whether an exception tells that a connection or channel is gone, so that a new one may help."""
    import aiormq.exceptions as errors

    lost = (errors.AMQPError, errors.ChannelInvalidStateError, ConnectionError, TimeoutError, EOFError)
    # aiormq itself: channels of a connection that has just been closed raise RuntimeError.
    if isinstance(exc, RuntimeError) and "closed" in str(exc):
        return True
    if isinstance(exc, PublicError):
        return exc.status is StatusCode.UNAVAILABLE and not isinstance(exc, Unroutable)
    return isinstance(exc, lost)


def unavailable(text: str) -> PublicError:
    """The error of everything that needs the broker and cannot have it."""
    return PublicError(text, status=StatusCode.UNAVAILABLE)


async def pause(attempt: int) -> None:
    """Wait before the next attempt: doubling from 0.1 seconds to 10, with jitter so that not all come at once."""
    await asyncio.sleep(min(0.1 * 2 ** min(attempt, 10), _LONGEST_PAUSE) * random.uniform(0.7, 1.3))  # noqa: S311


class Link:
    """A connection.

    Args:
        address: where to.
        settings: attempts and time-outs.
    """

    def __init__(self, address: Address, settings: AmqpSettings) -> None:
        self.address = address
        self._settings = settings
        self._connection: Any = None
        self._up = asyncio.Event()
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def is_up(self) -> bool:
        """Whether there is a connection right now."""
        return self._up.is_set()

    async def open(self) -> None:
        """Connect, as often as the settings say.

        Raises:
            StartupError: it fails; with host, port, vhost, reason and remedy.
        """
        attempts = self._settings.connect_attempts
        attempt = 0
        while True:
            try:
                return await self._connect()
            except Exception as exc:
                reason, final = explain(exc, self.address)
                attempt += 1
                if final or (attempt >= attempts and not self._settings.wait_for_broker):
                    times = "" if final else f" after {attempt} attempts"
                    raise StartupError(
                        f"RabbitMQ at {self.address} cannot be reached{times}: {reason}", final=final
                    ) from exc
                _logger.warning("RabbitMQ at %s cannot be reached yet: %s", self.address, reason)
            await pause(attempt)

    def begin(self) -> None:
        """Connect in the background, unless that was begun: for a connection that is not always needed."""
        if self._connection is None and self._reconnecting is None and not self._closed:
            self._reconnecting = asyncio.create_task(self._reconnect())

    async def _connect(self) -> None:
        connection = await open_connection(self.address, self._settings.connect_timeout)
        if self._closed:
            await connection.close()
            return
        self._connection = connection
        connection.close_callbacks.add(self._on_close)
        self._up.set()

    def _on_close(self, connection: Any, exc: BaseException | None) -> None:
        if connection is not self._connection:
            return
        self._up.clear()
        if not self._closed:
            _logger.warning("the connection to RabbitMQ at %s is lost; connecting again", self.address)
            self._reconnecting = asyncio.create_task(self._reconnect(connection))

    async def _reconnect(self, lost: Any = None) -> None:
        try:
            if lost is not None:
                await lost.close()
        except Exception:
            _logger.debug("a lost connection did not close in order", exc_info=True)
        attempt = 0
        while not self._closed:
            try:
                await self._connect()
            except Exception as exc:
                attempt += 1
                if attempt % 10 == 1:
                    _logger.warning("RabbitMQ at %s: %s", self.address, explain(exc, self.address)[0])
                await pause(attempt)
            else:
                if lost is not None:
                    _logger.info("connected to RabbitMQ at %s again", self.address)
                return

    async def channel(self, *, confirms: bool = True) -> Any:
        """A new channel, as soon as there is a connection.

        Raises:
            PublicError: UNAVAILABLE, this link is closed, or its connection does not come back within
                `publish_timeout`.
        """
        while True:
            try:
                async with asyncio.timeout(self._settings.publish_timeout):
                    await self._up.wait()
            except TimeoutError:
                raise unavailable("The connection to the message broker is lost and has not come back yet.") from None
            if self._closed or self._connection is None:
                raise unavailable("The connection to the message broker is closed.")
            try:
                channel = self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                await channel.initialize()
                raw = await channel.get_underlay_channel()
            except Exception as exc:
                if self._closed or not broken(exc):
                    raise
                await asyncio.sleep(0.05)  # lost in between; the next connection has been asked for
            else:
                raw.microkit_owner = channel  # aio-pika's object closes its channel when it is collected
                return raw

    async def close(self) -> None:
        """Close it for good."""
        self._closed = True
        self._up.set()  # who waits for a connection is told that there will be none
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._connection is not None:
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._connection.close()
            except Exception as exc:
                if not broken(exc):
                    raise


async def open_connection(address: Address, timeout: float) -> Any:
    """One attempt to connect.

    Args:
        address: where to.
        timeout: seconds that it may take.

    Returns:
        aio-pika's connection. It must be closed even after it was lost: it would try to close itself when it is
        collected, in whatever thread that happens.
    """
    from aio_pika.connection import Connection, make_url

    connection = Connection(make_url(address.url))
    _quiet_about_transports()
    ours = _OURS.set(True)
    try:
        await connection.connect(timeout)
    except BaseException:
        await connection.close()
        raise
    finally:
        _OURS.reset(ours)
    return connection


_OURS = ContextVar("microkit_amqp_connecting", default=False)


def _told_by_us(record: logging.LogRecord) -> bool:
    return not _OURS.get() or "creating transport" not in str(record.msg)


def _quiet_about_transports() -> None:
    """Of a failed attempt that is ours it is we who tell, with what to do; aiormq's error would only come beside it."""
    logging.getLogger("aiormq.connection").addFilter(_told_by_us)  # adding it again changes nothing


async def probe_delayed_exchange(address: Address, timeout: float) -> None:
    """See that the broker has rabbitmq_delayed_message_exchange.

    An exchange of an unknown type costs the whole connection, so this opens one of its own.

    Raises:
        StartupError: it has not.
    """
    from .declare import declare_exchange
    from .topology import delayed_topology

    connection = await open_connection(address, timeout)
    try:
        channel = await (await connection.channel()).get_underlay_channel()
        await declare_exchange(channel, delayed_topology("").exchanges[0])
    except StartupError:
        raise
    except Exception as exc:
        raise StartupError(
            f"The setting delayed_exchange is on, but RabbitMQ at {address} has no plugin "
            "rabbitmq_delayed_message_exchange. Enable it on every node (`rabbitmq-plugins enable "
            "rabbitmq_delayed_message_exchange`), or turn the setting off: delays need no plugin."
        ) from exc
    finally:
        try:
            await connection.close()
        except Exception:
            _logger.debug("a connection that was only a probe did not close in order", exc_info=True)


def explain(exc: BaseException, address: Address) -> tuple[str, bool]:
    """Why a connection failed and what to do, and whether another attempt is in vain.

    Args:
        exc: from the attempt.
        address: where to.
    """
    import socket
    import ssl

    import aiormq.exceptions as errors

    text = str(exc)
    if isinstance(exc, errors.ProbableAuthenticationError | errors.AuthenticationError) or "ACCESS_REFUSED" in text:
        return f"it refuses the user {address.user!r} or the password. Correct them in the URL.", True
    # aiormq does not pass on why the vhost is refused, only that the connection was closed instead of opened.
    if "NOT_ALLOWED" in text or ("OpenOk" in text and "Connection.Close" in text):
        return (
            f"the vhost {address.vhost!r} does not exist, or {address.user!r} may not use it. Correct the path of the "
            f"URL, or create it (`rabbitmqctl add_vhost`, `rabbitmqctl set_permissions`)."
        ), True
    cause = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
    if isinstance(cause, socket.gaierror):
        return f"{address.host!r} is no known host name. Correct the URL.", False
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or cause}). Correct the certificates in the URL, or its port.", True
    if isinstance(cause, ConnectionRefusedError) or "Connect call failed" in text:
        return "nothing listens there. Start RabbitMQ, or correct host and port in the URL.", False
    if isinstance(exc, TimeoutError):
        return "it did not answer in time. Look after the network and the server, or raise connect_timeout.", False
    if isinstance(exc, errors.IncompatibleProtocolError):
        return "what answers there does not speak AMQP 0-9-1. Correct host and port in the URL.", True
    return f"{type(cause).__name__}. Look into the server's log.", False
