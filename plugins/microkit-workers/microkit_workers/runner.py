"""The seed's entry point: contexts and a configuration make a service that runs until it is told to stop."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from microkit import App, ConfigurationError, Provider
from microkit.errors import nearest

from .context import RunnerContext
from .dependencies import Configuration
from .process.source import Recipe
from .routes import Route
from .settings import WorkersSettings

_METRICS = {"HOST": "host", "PORT": "port"}
_SETTINGS = {
    "AMQP_URI": "broker",
    "BROKER": "broker",
    "SERVICE_NAME": "service",
    "MAX_WORKERS": "max_workers",
    "WORKER_MODE": "worker_mode",
    "MAX_TASKS_PER_CHILD": "max_tasks_per_child",
}

_OWN_KEYS = (*_SETTINGS, "ENABLE_METRICS", "METRICS")
_MISSPELT = 0.85  # likeness from which a key of the user's own is taken for one of these


class Runner:
    """A service made of contexts. It is a face of an `App`, which it has as `app`.

    Args:
        contexts: groups of routes; a plain list of routes is one context.
        config: `AMQP_URI` (URL of the broker; `memory://` without it), `SERVICE_NAME`, `MAX_WORKERS`, `WORKER_MODE`,
            `MAX_TASKS_PER_CHILD`; `ENABLE_METRICS`, with `METRICS = {"HOST": "0.0.0.0", "PORT": 8000}`, for which
            microkit-metrics is needed; settings of this plugin by their own names; and what `Config` is to give beside
            them, in capital letters.
        options: further arguments of `App`.

    Raises:
        ConfigurationError: a key of the configuration is unknown, or has no such value.
    """

    def __init__(
        self,
        contexts: Sequence[RunnerContext | Route] | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given = dict(config or {})
        settings = {_SETTINGS[key]: value for key, value in given.items() if key in _SETTINGS}
        settings |= _own_settings(given)
        if settings.get("worker_mode") == "asyncio":  # the seed's undocumented name
            settings["worker_mode"] = "async"
        name = settings.get("service") or options.pop("name", "app")
        options["settings"] = {**_metrics(given), **options.get("settings", {}), "workers": settings}
        self.app = App(name=name, **options)
        self.config = Configuration(given)
        self.contexts: list[RunnerContext] = []
        self.app.registry.add(Provider(Configuration, value=self.config))
        self.app.registry.add(Provider(Recipe, value=Recipe(name, settings, self.config)))
        loose = [each for each in contexts or () if isinstance(each, Route)]
        self.add_contexts(*(each for each in contexts or () if isinstance(each, RunnerContext)))
        if loose:
            self.new_context(loose)

    def add_contexts(self, *contexts: RunnerContext) -> None:
        """Add contexts; before the start."""
        for each in contexts:
            self.app.include(each)
            self.contexts.append(each)

    def new_context(
        self,
        routes: Sequence[Route],
        worker_mode: str | None = None,
        max_workers: int | None = None,
        context_metric_label: str | None = None,
    ) -> RunnerContext:
        """Make a context of some routes, and add it."""
        context = RunnerContext(routes, worker_mode, max_workers, context_metric_label)
        self.add_contexts(context)
        return context

    def start(self, **options: Any) -> None:
        """Run until SIGINT or SIGTERM, drain, and return. Blocks.

        Args:
            options: of `App.run`, such as `backend`.

        Raises:
            SystemExit: it could not start; the reason was printed.
        """
        self.app.run(**options)


def _metrics(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the plugin that serves metrics. Without it, the start says that they belong to nobody."""
    enabled, wanted = given.get("ENABLE_METRICS", False), given.get("METRICS", {})
    if not isinstance(enabled, bool):
        raise ConfigurationError(f"ENABLE_METRICS must be True or False, not {enabled!r}.")
    if not isinstance(wanted, Mapping) or not set(wanted) <= set(_METRICS):
        raise ConfigurationError(f"METRICS must be a mapping with HOST and PORT, not {wanted!r}.")
    if not enabled:
        return {}
    where = {"HOST": "0.0.0.0", "PORT": 8000, **wanted}  # noqa: S104 -- the seed's defaults, documented as such
    return {"metrics": {_METRICS[key]: value for key, value in where.items()}}


def _own_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name for each in fields(WorkersSettings)}
    for key in given:
        if not key.isupper() and key not in known:
            hint = nearest(key, {*known, *_SETTINGS})
            raise ConfigurationError(f"The configuration of a Runner has the unknown key {key!r}.{hint}")
        meant = difflib.get_close_matches(key, _OWN_KEYS, 1, _MISSPELT)
        if meant and key not in _OWN_KEYS:
            raise ConfigurationError(
                f"The configuration of a Runner has the key {key!r}, which nobody reads, and which looks like "
                f"{meant[0]!r}. Correct it, or give what `Config` is to hand on another name."
            )
    return {key: value for key, value in given.items() if key in known}
