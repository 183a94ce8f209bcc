"""What a plugin says about itself, and what became of it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from microkit.errors import PluginError
from microkit.hookspecs import HOOK_API, VERSION

State: TypeAlias = Literal["active", "blocked", "failed", "incompatible"]


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What a plugin says about itself, as its attribute `microkit_plugin_info`; all of it is optional.

    Attributes:
        name: name of the plugin; the same as that of its entry point, if it has one.
        requires: names of plugins that must be active, and are loaded before.
        after: names of plugins that are loaded before, if they are there.
        kernel: range of kernel versions, such as ">=0.4,<0.5".
        hook_api: the version of the hooks for which it is written (`microkit.hookspecs.HOOK_API`).
        backends: anyio backends on which it works.
        automatic: names of components that change an application merely because the plugin is installed.
    """

    name: str = ""
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    kernel: str = ""
    hook_api: int | None = None
    backends: tuple[str, ...] = ("asyncio", "trio")
    automatic: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("requires", "after", "backends", "automatic"):
            if isinstance(getattr(self, key), str):
                raise PluginError(f"PluginInfo.{key} is a tuple of names, not one string. Write {key}=('name',).")


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What became of one plugin.

    Attributes:
        name: name of the plugin.
        state: "active"; "blocked" by a switch and not imported; "failed"; "incompatible" with this kernel.
        origin: object reference of its entry point, "explicit" or "kernel".
        distribution: distribution that declares the entry point, or empty.
        version: version of the distribution or, for an explicit plugin, its `__version__`; may be empty.
        error: why it is not active, as text; empty if it is.
        cause: the exception behind `error`, if there was one.
        info: what the plugin says about itself.
        hooks: names of the hooks that it implements.
        contributed: what it gave, by contribution hook: the name, media type or type of each value.
    """

    name: str
    state: State
    origin: str
    distribution: str = ""
    version: str = ""
    error: str = ""
    cause: BaseException | None = field(default=None, repr=False, compare=False)
    info: PluginInfo = PluginInfo()
    hooks: tuple[str, ...] = ()
    contributed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), hash=False)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


def incompatibility(info: PluginInfo) -> str:
    """Why a plugin does not fit this kernel.

    Args:
        info: what the plugin says about itself.

    Returns:
        The reason, or an empty string if it fits.

    Raises:
        PluginError: the range of kernel versions is malformed.
    """
    if info.hook_api is not None and info.hook_api != HOOK_API:
        return f"it is written for version {info.hook_api} of the hooks, and this kernel has {HOOK_API}"
    for clause in filter(None, (part.strip() for part in info.kernel.split(","))):
        match = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)", clause)
        if match is None:
            raise PluginError(f'PluginInfo.kernel has {clause!r}; write clauses such as ">=0.4,<0.5"')
        have, wanted = _release(VERSION), _release(match[2])
        # Padded to one length, since 0.4 and 0.4.0 are the same release.
        width = max(len(have), len(wanted))
        have, wanted = (release + (0,) * (width - len(release)) for release in (have, wanted))
        if not _COMPARISONS[match[1]](have, wanted):
            return f"it needs microkit {info.kernel}, and this is {VERSION}"
    return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
