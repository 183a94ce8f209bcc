"""Requests on their way through a server: taken once, run, answered. Runs on an asyncio loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from microkit.broker import TargetInfo
from microkit.call import Reply, RpcRequest
from microkit.errors import BadRequest, PublicError, StatusCode
from microkit_amqp.link import broken
from microkit_amqp.properties import PERSISTENT, new_id

from .errors import public_parts
from .formats import GET_TARGET, LIST_TARGETS, Format, ParsedRequest, describe

if TYPE_CHECKING:
    from microkit_amqp.consumer import Consumer
    from microkit_amqp.core import Core

_logger = logging.getLogger("microkit.amqp")
_DIRECT = "amq.rabbitmq.reply-to"
OnJob = Callable[["Job", RpcRequest], None]


class Job:
    """One request that somebody waits for.

    Args:
        raw: aiormq's delivery.
        generation: of the channel.
        parsed: what it asks for.
        idempotent: it is acked after its reply, so that it may run twice; otherwise before it runs.
    """

    __slots__ = ("generation", "idempotent", "parsed", "raw")

    def __init__(self, raw: Any, generation: int, parsed: ParsedRequest, *, idempotent: bool) -> None:
        self.raw = raw
        self.generation = generation
        self.parsed = parsed
        self.idempotent = idempotent


class Requests:
    """The requests to one service.

    A request runs at most once: it only starts when the broker has processed its ack. One round trip serves all that
    start at the same time.

    Args:
        core: the broker.
        format: the wire.
        service: its name.
        targets: what may be called.
        slots: requests that run at a time.
        on_job: takes a job and its request.
    """

    def __init__(
        self, core: Core, format: Format, service: str, targets: Mapping[str, TargetInfo], slots: int, on_job: OnJob
    ) -> None:
        self.consumer: Consumer
        self._core = core
        self._format = format
        self._service = service
        self._targets = targets
        self._free = slots
        self._on_job = on_job
        self._waiting: deque[Job] = deque()
        self._starter: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()

    def on_raw(self, raw: Any) -> None:
        """Take a delivery."""
        generation = self.consumer.generation
        try:
            parsed = self._format.parse(self._service, raw)
            reply = self._answer_at_once(parsed)
        except BadRequest as exc:
            reply = self._format.error("MalformedRequest", exc.detail, exc.status)
            parsed = ParsedRequest("")
        if reply is not None:
            self.consumer.ack(raw.delivery.delivery_tag, generation)
            task = asyncio.create_task(self._publish(raw, reply))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
            return
        idempotent = self._targets[parsed.target].idempotent
        self._waiting.append(Job(raw, generation, parsed, idempotent=idempotent))
        self._start()

    def _answer_at_once(self, parsed: ParsedRequest) -> bytes | None:
        if parsed.target in self._targets:
            return None
        if parsed.target == LIST_TARGETS:
            return self._format.result([describe(each) for each in self._targets.values()])
        name = str(next(iter(parsed.args), "")) if parsed.target == GET_TARGET else parsed.target
        if parsed.target == GET_TARGET and name in self._targets:
            return self._format.result(describe(self._targets[name]))
        return self._format.error("PublicError", name, StatusCode.NOT_FOUND)

    def _start(self) -> None:
        if self._waiting and self._free > 0 and (self._starter is None or self._starter.done()):
            self._starter = asyncio.create_task(self._start_waiting())

    async def _start_waiting(self) -> None:
        while self._waiting and self._free > 0:
            jobs: list[Job] = []
            while self._waiting and self._free > 0:
                job = self._waiting.popleft()
                if job.generation == self.consumer.generation:  # others come again
                    self._free -= 1
                    jobs.append(job)
            once = [job for job in jobs if not job.idempotent]
            for job in once:
                self.consumer.ack(job.raw.delivery.delivery_tag, job.generation)
            try:
                if once:
                    await self.consumer.barrier()
            except Exception as exc:
                if not broken(exc):
                    _logger.exception("requests to %s could not be taken", self._service)
                # Nobody knows whether the acks arrived: either they come again, or they are lost, but none runs twice.
                self._free += len(once)
                jobs = [job for job in jobs if job.idempotent]
            for job in jobs:
                parsed = job.parsed
                name = f"{self._service}.{parsed.target}"
                self._on_job(job, RpcRequest(name, parsed.args, parsed.kwargs, headers=parsed.headers))

    async def answer(self, job: Job, reply: Reply) -> None:
        """Send the reply to a job.

        Raises:
            PublicError: UNAVAILABLE, the broker did not take it.
        """
        tag = job.raw.delivery.delivery_tag
        try:
            await self._publish(job.raw, self._encode(reply, job.parsed.target))
        except BaseException:
            if job.idempotent:
                self.consumer.give_back(tag, job.generation)
            raise
        else:
            if job.idempotent:
                self.consumer.ack(tag, job.generation)
        finally:
            self._free += 1
            self._start()

    def _encode(self, reply: Reply, target: str) -> bytes:
        if reply.ok and not reply.streams:
            try:
                return self._format.result(reply.payload)
            except (TypeError, ValueError):
                _logger.exception("the result of %s.%s cannot be sent as JSON", self._service, target)
                return self._format.error(
                    "UnserializableValueError", "An internal error occurred.", StatusCode.INTERNAL
                )
        if reply.ok:
            text = "A stream cannot be sent over this wire."
            return self._format.error("PublicError", text, StatusCode.UNIMPLEMENTED)
        name, message = public_parts(reply.error, reply.status)
        details = reply.error.details if isinstance(reply.error, PublicError) else None
        try:
            return self._format.error(name, message, reply.status, details)
        except (TypeError, ValueError):  # details that have no JSON form
            return self._format.error(name, message, reply.status)

    async def _publish(self, raw: Any, body: bytes) -> None:
        from pamqp.commands import Basic

        asked = raw.header.properties
        if not asked.reply_to:
            return
        properties = Basic.Properties(
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=asked.correlation_id,
            delivery_mode=PERSISTENT,
            priority=0,
            message_id=new_id(),
        )
        exchange = "" if asked.reply_to.startswith(_DIRECT) else self._format.exchange
        # Not mandatory: a caller that has gone is no failure of the procedure.
        try:
            await self._core.publisher.publish(exchange, asked.reply_to, body, properties, mandatory=False)
        except PublicError as exc:
            _logger.warning("a reply of %s could not be sent: %s", self._service, exc.detail)
            raise

    async def cancel(self) -> None:
        """Take no more requests; those that have not started are given back."""
        await self.consumer.cancel()
        for job in self._waiting:
            self.consumer.give_back(job.raw.delivery.delivery_tag, job.generation)
        self._waiting.clear()
        await self.consumer.flush()
