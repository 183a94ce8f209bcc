"""Retry policies: what is retried, how often, and after which pause."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from microkit import BadRequest, ConfigurationError, Message, PayloadTooLarge, Reply, StatusCode, Tick
from microkit.errors import UnsupportedMediaType, ValidationError
from microkit.settlement import Decision, Verdict, failure_reason

from .attempt import Attempt

Interval = Callable[[Attempt], float]
"""Gives the seconds before the next attempt."""

_MALFORMED = (BadRequest, ValidationError, UnsupportedMediaType, PayloadTooLarge)


@dataclass(frozen=True)
class ConstantInterval:
    """The same pause every time.

    Args:
        seconds: its length.
    """

    seconds: float

    def __call__(self, attempt: Attempt) -> float:
        return self.seconds


@dataclass(frozen=True)
class LinearInterval:
    """A pause that grows by the same step.

    Args:
        start: seconds before the first retry.
        increment: seconds more before each further one.
        maximum: the longest pause; None: without limit.
    """

    start: float
    increment: float
    maximum: float | None = None

    def __call__(self, attempt: Attempt) -> float:
        pause = self.start + attempt.retry_count * self.increment
        return pause if self.maximum is None else min(pause, self.maximum)


@dataclass(frozen=True)
class ExponentialInterval:
    """A pause that is multiplied every time.

    Args:
        start: seconds before the first retry.
        factor: of each pause to the one before.
        maximum: the longest pause.
    """

    start: float = 1.0
    factor: float = 2.0
    maximum: float = 3600.0

    def __call__(self, attempt: Attempt) -> float:
        try:
            return min(self.start * self.factor**attempt.retry_count, self.maximum)
        except OverflowError:
            return self.maximum


def give_up(message: Message | Tick, reply: Reply) -> Decision:
    """The policy that retries nothing."""
    return Decision(Verdict.DEAD, reason=failure_reason(message, reply))


class Backoff:
    """A retry policy, for the option `retry=` of any binding of messages or timers.

    Input that cannot be read is not retried, unless `exceptions` names its class: it is the same the next time.

    Args:
        max_retries: retries after the first attempt; 0: without limit.
        interval: seconds, or what gives them for an attempt that failed.
        exceptions: classes that are retried, with their subclasses, or one such class; None: by `statuses`.
        statuses: outcomes that are retried; None: those of the table (`StatusCode.retryable`).
        max_age: seconds since the message was first seen, after which it is not retried any more; None: without limit.
        jitter: each pause is made longer or shorter by up to this part of it, at random (0.1 is 10 percent), so that
            what failed together does not come again together.
    """

    def __init__(
        self,
        max_retries: int = 5,
        interval: float | Interval = ExponentialInterval(),
        exceptions: type[BaseException] | Iterable[type[BaseException]] | None = None,
        *,
        statuses: Iterable[StatusCode] | None = None,
        max_age: float | None = None,
        jitter: float = 0.0,
    ) -> None:
        if not _is_number(max_retries) or max_retries < 0:
            raise ConfigurationError(f"max_retries is a number from 0, which is without limit; not {max_retries!r}.")
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise ConfigurationError(f"jitter is a part of the pause, from 0 to 1; not {jitter!r}.")
        if max_age is not None and (not _is_number(max_age) or max_age <= 0):
            raise ConfigurationError(f"max_age is a number of seconds over 0; not {max_age!r}.")
        self.max_retries = max_retries
        self.interval: Interval = interval if callable(interval) else ConstantInterval(_pause(interval))
        self.exceptions = None if exceptions is None else _classes(exceptions)
        self.statuses = None if statuses is None else frozenset(statuses)
        self.max_age = max_age
        self.jitter = jitter

    def __call__(self, message: Message | Tick, reply: Reply) -> Decision:
        """Decide about a failed attempt."""
        attempt = Attempt.of(message)
        reason = failure_reason(message, reply)
        if not self.retries(reply):
            return Decision(Verdict.DEAD, reason=reason)
        if self.max_retries and attempt.retry_count >= self.max_retries:
            return Decision(Verdict.DEAD, reason=f"retries exhausted: {reason}")
        delay = max(0.0, float(self.interval(attempt)))
        if self.jitter:
            delay *= 1 + random.uniform(-self.jitter, self.jitter)  # noqa: S311
        if self.max_age is not None and attempt.age + delay > self.max_age:
            return Decision(Verdict.DEAD, reason=f"older than {self.max_age:g} seconds: {reason}")
        return Decision(Verdict.RETRY, delay, reason)

    def retries(self, reply: Reply) -> bool:
        """Whether this kind of failure is retried at all."""
        error = reply.error
        if self.exceptions is not None and error is not None:
            return any(is_a(error, each) for each in self.exceptions)
        if self.statuses is not None:
            return reply.status in self.statuses
        return reply.status.retryable and (error is None or not any(is_a(error, each) for each in _MALFORMED))


def is_a(error: BaseException, cls: type[BaseException]) -> bool:
    """Whether an error counts as one of a class; of an error of another process the names of its classes are compared.
    Malformed input is no mere `Exception`."""
    if cls in (Exception, BaseException):
        return isinstance(error, cls) and not any(is_a(error, each) for each in _MALFORMED)
    names: Sequence[str] = getattr(error, "class_names", ())
    return isinstance(error, cls) or f"{cls.__module__}.{cls.__qualname__}" in names


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pause(interval: object) -> float:
    if not isinstance(interval, int | float) or not _is_number(interval) or interval < 0:
        raise ConfigurationError(
            f"The interval of retries is a number from 0, or a function that gives it for an attempt; not {interval!r}."
        )
    return interval


def _classes(exceptions: object) -> tuple[type[BaseException], ...]:
    found: tuple[Any, ...] = tuple(exceptions) if isinstance(exceptions, Iterable) else (exceptions,)
    for each in found:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise ConfigurationError(f"What is retried are classes of exceptions, and {each!r} is none.")
    return found


class AsyncBackOff(Backoff):
    """The seed's policy: any exception is retried, at the broker, while the worker is free for others.

    Args:
        max_retries: retries after the first attempt; 0: without limit.
        interval: milliseconds; one of the intervals of this module (in seconds); or a function of this policy and the
            attempt that gives milliseconds.
        exception_list: classes that are retried, with their subclasses; None: every exception.
    """

    def __init__(
        self,
        max_retries: int = 3,
        interval: float | Callable[..., Any] = 60_000,
        exception_list: Iterable[type[BaseException]] | None = None,
    ) -> None:
        if isinstance(interval, ConstantInterval | LinearInterval | ExponentialInterval):
            seconds: Interval = interval
        elif callable(interval):
            compute = interval
            seconds = lambda attempt: compute(self, attempt) / 1000  # noqa: E731
        else:
            seconds = ConstantInterval(_pause(interval) / 1000)
        super().__init__(max_retries, seconds, (Exception,) if exception_list is None else exception_list)
