"""Where a child process gets its application from: the module that made it, or the recipe of a `Runner`."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microkit import App, ConfigurationError, Provider
from microkit.cli.loading import load_app
from microkit.codecs import json_dumps
from microkit.endpoint import Binding, Endpoint
from microkit.plan import Plan
from microkit_workers.context import pools_of
from microkit_workers.dependencies import Configuration
from microkit_workers.imports import path_of, target_of

_MAIN = "__mp_main__"  # under this name the standard library's own child processes import the main module, too


@dataclass(frozen=True)
class Recipe:
    """What an application is made of that no module holds: registered as a service by a `Runner`.

    Attributes:
        name: of the application.
        settings: of microkit-workers.
        configuration: what `Config` gives.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any])


def find_source(app: App) -> dict[str, Any]:
    """How another process makes the same application, as JSON.

    Raises:
        ConfigurationError: it cannot; the message says why.
    """
    found = _recipe(app) or _reference(app)
    found["path"] = [each for each in sys.path if isinstance(each, str)]
    found["flags"] = list(app.plugin_flags)
    return found


def _reference(app: App) -> dict[str, Any]:
    spec = pools_of(app).settings.application or app.origin
    if spec:
        return {"app": spec}
    # The main module last: it would be run again.
    for name, module in sorted(sys.modules.items(), key=lambda item: item[0] == "__main__"):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                if name == "__main__":
                    return {"main": _main_file(), "attribute": attribute}
                return {"app": f"{name}:{attribute}"}
    raise ConfigurationError(
        f"Handlers of the application {app.name!r} are to run in child processes, but these cannot import it: it is no "
        f"global name of a module. Make it one (app = App() in app.py), or set application = 'module:function' "
        f"([tool.microkit.workers]) to a function that makes it."
    )


def _main_file() -> str:
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        raise ConfigurationError(
            "Child processes cannot import what was typed into an interpreter. Put the application into a file."
        )
    return path


def _recipe(app: App) -> dict[str, Any] | None:
    provider = app.registry.get(Recipe)
    if provider is None:
        return None
    recipe: Recipe = provider.value
    plans = [plan for plan in app.table.plans if plan.remote is not None]
    bindings = [_binding(plan) for plan in plans]
    main = _main_file() if any(each["target"].startswith("__main__:") for each in bindings) else None
    try:
        found = {"recipe": dataclasses.asdict(recipe), "bindings": bindings, "main": main}
        json_dumps(found)
    except TypeError as exc:
        raise ConfigurationError(
            f"The configuration of {app.name!r} must consist of JSON values to reach child processes: {exc}."
        ) from exc
    return found


def _binding(plan: Plan) -> dict[str, Any]:
    endpoint, trigger = plan.endpoint, plan.binding.trigger
    target = path_of(endpoint.owner or endpoint.handler)
    if target is None or (not target.startswith("__main__:") and not _leads_to(target, endpoint)):
        raise ConfigurationError(
            f"{plan.binding} is to run in child processes, but these cannot import its target. Let it be a function or "
            f"a class at the top level of a module."
        )
    return {
        "target": target,
        "method": getattr(endpoint.handler, "__name__", "") if endpoint.owner is not None else "",
        "trigger": path_of(type(trigger)),
        "fields": {each.name: getattr(trigger, each.name) for each in dataclasses.fields(trigger)},  # type: ignore[arg-type]
        "name": plan.binding.name,
    }


def _leads_to(path: str, endpoint: Endpoint) -> bool:
    try:
        return target_of(path) is (endpoint.owner or endpoint.handler)
    except ConfigurationError:
        return False


# -- in the child ------------------------------------------------------------------------------------------------------


def load(source: Mapping[str, Any]) -> App:
    """Make the application that `find_source` described."""
    sys.path[:] = source["path"]
    if source.get("main"):
        _import_main(source["main"])
    if "app" in source:
        return load_app(source["app"], source["flags"])
    if "attribute" in source:
        return load_app(f"{_MAIN}:{source['attribute']}", source["flags"])
    return _from_recipe(source)


def _import_main(path: str) -> None:
    spec = importlib.util.spec_from_file_location(_MAIN, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"The main module {path} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MAIN] = sys.modules["__main__"] = module
    spec.loader.exec_module(module)


def _from_recipe(source: Mapping[str, Any]) -> App:
    recipe = Recipe(**source["recipe"])
    app = App(name=recipe.name, settings={"workers": recipe.settings})
    app.plugin_flags = tuple(source["flags"])
    app.registry.add(Provider(Configuration, value=Configuration(recipe.configuration)))
    for each in source["bindings"]:
        target = target_of(each["target"])
        trigger = target_of(each["trigger"])(**each["fields"])
        owner = target if each["method"] else None
        endpoint = Endpoint(getattr(target, each["method"]) if owner is not None else target, owner=owner)
        app.items.append(Binding(endpoint, trigger, {"name": each["name"], "executor": "process"}))
    return app
