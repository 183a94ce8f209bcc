"""Routes: an entrypoint, a target, and what lies between them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from microkit import ConfigurationError, Kind
from microkit.annotations import describe
from microkit.endpoint import Binding, Endpoint, caller_locals
from microkit.settlement import RetryPolicy

from .backoff import give_up
from .entrypoints import Entrypoint
from .imports import target_of
from .translators import MessageTranslator


class Route:
    """Calls a target for each delivery of an entrypoint. It is a face of `context.on(trigger, **options)`.

    Args:
        target: a function, a class of which one is made for each call, or the import path of either.
        entrypoint: what starts it.
        translators: change the payload one after the other.
        worker_class: a subclass of `Worker` that acts before and after the target.
        backoff: what is retried, and when; None: nothing is.
        method_name: for a class: what is called; by default it is the instance itself.
        metric_label: its name in queues, logs and metrics, instead of the target's own.
    """

    def __init__(
        self,
        target: Any,
        entrypoint: Entrypoint,
        translators: Sequence[MessageTranslator] | None = None,
        worker_class: type[Any] | None = None,
        backoff: RetryPolicy | None = None,
        method_name: str | None = None,
        metric_label: str | None = None,
    ) -> None:
        self.target = target
        self.entrypoint = entrypoint
        self.translators = list(translators or ())
        self.worker_class = worker_class
        self.backoff = backoff
        self.method_name = method_name
        self.metric_label = metric_label
        self.on_failure: Any = None
        self._localns = caller_locals()

    def binding(self, service: str) -> Binding:
        """What the route amounts to.

        Args:
            service: name of the service.

        Raises:
            ConfigurationError: the target cannot be imported or called.
        """
        target = target_of(self.target)
        endpoint = self._endpoint(target)
        name = self.metric_label or _name(target, self.method_name)
        trigger, options = self.entrypoint.trigger(service, name)
        given = {
            "name": name,
            "translators": self.translators or None,
            "worker_class": self.worker_class,
            "retry": self.backoff,
            "on_failure": self.on_failure,
        }
        if trigger.kind in Kind.MESSAGE | Kind.BATCH:
            given["retry"] = self.backoff or give_up  # as in the seed: no backoff, no retry
        if trigger.kind is Kind.RPC and self.backoff is not None:
            raise ConfigurationError(
                f"The route to {describe(target)} has a backoff, but a procedure runs at most once: its caller hears "
                f"of the failure and may call again. Leave the backoff out."
            )
        return Binding(endpoint, trigger, {**options, **{key: each for key, each in given.items() if each is not None}})

    def _endpoint(self, target: Any) -> Endpoint:
        if not inspect.isclass(target):
            if self.method_name is not None:
                raise ConfigurationError(
                    f"The target {describe(target)} is no class, so it has no method {self.method_name!r}."
                )
            if not callable(target):
                raise ConfigurationError(f"The target {target!r} cannot be called.")
            return Endpoint(target, localns=self._localns)
        method = self.method_name or "__call__"
        if not any(method in vars(base) for base in target.__mro__):
            raise ConfigurationError(
                f"The target class {describe(target)} has no method {method!r}. Give the route the method_name of one "
                f"that it has."
            )
        name = f"{describe(target)}.{method}"
        return Endpoint(getattr(target, method), name=name, owner=target, localns=self._localns)


def _name(target: Any, method: str | None) -> str:
    name = getattr(target, "__name__", type(target).__name__)
    return f"{name}.{method}" if method else name


class CallbackRoute(Route):
    """A route that tells somebody when a failure is final: after the last retry, or at once if nothing is retried.

    Args:
        callback_target: a function, or its import path. It gets the payload, those dependencies of the target that it
            names, and the exception where it has a parameter for it (annotated with an exception class, or called
            `exception`, `error` or `exc`).
        others: as for `Route`.
    """

    def __init__(self, *others: Any, callback_target: Any, **named: Any) -> None:
        super().__init__(*others, **named)
        self._localns = caller_locals()
        self.on_failure = callback_target
