"""Settings: one frozen dataclass per plugin, filled from code, environment and configuration file.

Code beats `MICROKIT_<PLUGIN>__<KEY>`, which beats `[tool.microkit.<plugin>]`, which beats the defaults. The kernel's
own settings have the name `app`. Values of fields that look like secrets never appear in a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from microkit.conversion import convert
from microkit.errors import SettingsError, nearest
from microkit.hookrules import slug
from microkit.validation import Invalid, Source

if TYPE_CHECKING:
    from pathlib import Path

_SECRET = ("secret", "password", "token", "key")
_LOADER_KEYS = ("plugins", "disable", "required")
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SettingsSpec:
    """The settings of one plugin.

    Attributes:
        plugin: name of the plugin.
        type: frozen dataclass; the names of its fields are the keys, in lower case.
    """

    plugin: str
    type: type[Any]

    def __post_init__(self) -> None:
        if not is_dataclass(self.type) or not self.type.__dataclass_params__.frozen:
            raise SettingsError(
                f"The settings of plugin {self.plugin!r} are no frozen dataclass. Put `@dataclass(frozen=True)` above "
                f"{getattr(self.type, '__name__', self.type)!r}."
            )


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Settings of the kernel: `MICROKIT_APP__<KEY>` and `[tool.microkit.app]`.

    Attributes:
        log_level: level of the `microkit` logger.
        trailing_slash: what `/a/` means where only `/a` is bound, and the reverse: another path, a redirect, the same.
        max_body_size: bytes of one request body; None for no limit.
        body_timeout: seconds in total to read one request.
        max_headers: header fields of one request.
        max_header_size: bytes of all header fields of one request together.
        max_query_fields: fields of one query string.
        max_websocket_message: bytes of one WebSocket message.
        shutdown_timeout: seconds to drain what runs before it is cancelled.
        shutdown_delay: seconds from `app.ready` turning false to the ingresses closing, for load balancers to notice.
        teardown_timeout: seconds of grace for the teardown of a cancelled call.
        inspect_path: path of the endpoint page; None for no page.
        allowed_origins: foreign origins whose pages may open a WebSocket, `*` for all; None: all, unless they send
            cookies.
    """

    log_level: str = "INFO"
    trailing_slash: Literal["strict", "redirect", "ignore"] = "strict"
    max_body_size: int | None = 16 * _MIB
    body_timeout: float = 30.0
    max_headers: int = 200
    max_header_size: int = 65536
    max_query_fields: int = 1000
    max_websocket_message: int = _MIB
    shutdown_timeout: float = 30.0
    shutdown_delay: float = 0.0
    teardown_timeout: float = 10.0
    inspect_path: str | None = None
    allowed_origins: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if value is None:
                continue
            if field.name.startswith("max_") and value < 1:
                raise ValueError(f"{field.name} must be at least 1")
            # The comparison is false for NaN too.
            if field.name.endswith(("_timeout", "_delay")) and not value >= 0:
                raise ValueError(f"{field.name} must be 0 or more seconds")


def find_project_table(start: Path) -> Mapping[str, Any]:
    """Read the configuration file of a project.

    The nearest directory, from `start` upwards, with a `microkit.toml` or a `pyproject.toml` with a `[tool.microkit]`
    decides; `microkit.toml` comes first and has the same keys without the prefix `tool.microkit`.

    Args:
        start: directory from which to search upwards.

    Returns:
        The table, empty if there is none.

    Raises:
        SettingsError: a file cannot be read or is no TOML.
    """
    for directory in (start, *start.absolute().parents):
        own, project = directory / "microkit.toml", directory / "pyproject.toml"
        if own.is_file():
            return _read_toml(own)
        if project.is_file():
            tool = _read_toml(project).get("tool")
            table = tool.get("microkit") if isinstance(tool, Mapping) else None
            if isinstance(table, Mapping):
                return table
            if table is not None:
                raise SettingsError(
                    f"`microkit` under [tool] in {project} is no table. Write [tool.microkit] above it."
                )
    return {}


def load_settings(
    specs: Iterable[SettingsSpec],
    code: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    table: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """Build the settings of all active plugins.

    Args:
        specs: the settings of each active plugin.
        code: by plugin, what the application sets: a mapping, or a finished instance that nothing else overrides.
        environ: environment variables. A variable with the prefix of an active plugin must be one of its keys.
        table: the table `[tool.microkit]`. Tables of plugins that are not active are left alone.

    Returns:
        An immutable mapping from the plugin's name to its instance.

    Raises:
        SettingsError: a key is unknown, a value has the wrong type or is missing; the message names key and source.
    """
    environ, table, code = environ or {}, table or {}, code or {}
    by_plugin: dict[str, SettingsSpec] = {}
    for spec in specs:
        if slug(spec.plugin) in map(slug, by_plugin):
            raise SettingsError(f"Two plugins declare settings named {spec.plugin!r}. Rename or uninstall one of them.")
        by_plugin[spec.plugin] = spec
    for name in code:
        if name not in by_plugin:
            raise SettingsError(
                f"Settings are given for {name!r}, but no active plugin has settings of that name."
                f"{nearest(name, by_plugin)} Install or enable the plugin, or remove the settings."
            )
    for name, value in table.items():
        if not isinstance(value, Mapping) and name not in _LOADER_KEYS:
            raise SettingsError(
                f"[tool.microkit] has no key {name!r}.{nearest(name, _LOADER_KEYS)} It takes {', '.join(_LOADER_KEYS)} "
                "and a table per plugin; the kernel's own settings are in [tool.microkit.app]."
            )
    return MappingProxyType(
        {name: _build(spec, code.get(name, {}), environ, _table_of(table, name)) for name, spec in by_plugin.items()}
    )


def _build(spec: SettingsSpec, code: Any, environ: Mapping[str, str], table: Mapping[str, Any]) -> Any:
    try:
        hints = get_type_hints(spec.type)
    except NameError as exc:
        raise SettingsError(
            f"The settings {spec.type.__qualname__} of plugin {spec.plugin!r} have an annotation that cannot be "
            f"resolved: {exc}. Import its types at run time, outside of `if TYPE_CHECKING`."
        ) from exc
    keys = {field.name: hints[field.name] for field in fields(spec.type) if field.init}
    prefix = f"MICROKIT_{slug(spec.plugin).upper()}__"
    # By key: the source for messages, the raw value and how it is read. Later sources win.
    given: dict[str, tuple[str, Any, Source]] = {}
    section = f"[tool.microkit.{spec.plugin}]"
    for key, value in table.items():
        given[_known(key.replace("-", "_"), key, keys, section)] = (section, value, Source.PYTHON)
    for variable, value in sorted(environ.items()):
        if variable.startswith(prefix):
            name = variable.removeprefix(prefix).lower()
            name = _known(name, variable, keys, "the environment", prefix)
            given[name] = (f"environment variable {variable}", value, Source.TEXT)
    finished = isinstance(code, spec.type)
    if not finished:
        if not isinstance(code, Mapping):
            raise SettingsError(
                f"The settings of {spec.plugin!r} given in code are neither a mapping nor an instance of "
                f"{spec.type.__qualname__}, but {type(code).__name__}."
            )
        for key, value in code.items():
            given[_known(key, key, keys, f"the settings of {spec.plugin!r} in code")] = ("code", value, Source.PYTHON)
    values = {key: _converted(key, keys[key], *entry) for key, entry in given.items()}
    if finished:
        return code
    for field in fields(spec.type):
        required = field.init and field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in values:
            raise SettingsError(
                f"Plugin {spec.plugin!r} needs the setting {field.name!r} ({_type_name(keys[field.name])}). Set "
                f"{prefix}{field.name.upper()}, or {field.name} in [tool.microkit.{spec.plugin}]."
            )
    try:
        return spec.type(**values)
    except Exception as exc:
        # The text is the plugin's own and may quote what it was given.
        hidden = any(_is_secret(key, value) and str(value) in str(exc) for key, value in values.items())
        reason = type(exc).__name__ if hidden else f"{type(exc).__name__}: {exc}"
        sources = ", ".join(dict.fromkeys(source for source, _, _ in given.values())) or "defaults"
        raise SettingsError(
            f"The settings of plugin {spec.plugin!r} are refused: {reason}. They come from {sources}."
        ) from (None if hidden else exc)


def _known(name: str, written: str, keys: Mapping[str, Any], source: str, prefix: str = "") -> str:
    if name in keys:
        return name
    known = {f"{prefix}{key.upper()}" if prefix else key: key for key in keys}
    listed = ", ".join(sorted(known)) or "none"
    raise SettingsError(f"Unknown setting {written!r} in {source}.{nearest(written, known)} Known: {listed}.")


def _converted(key: str, annotation: Any, source: str, value: Any, kind: Source) -> Any:
    try:
        return convert(value, annotation, kind)
    except Invalid as exc:
        shown = f"{type(value).__name__} (hidden)" if _is_secret(key, value) else repr(value)
        raise SettingsError(
            f"Setting {key!r} from {source} is {shown}, but {exc}. Its type is {_type_name(annotation)}."
        ) from None


def _type_name(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")


def _is_secret(key: str, value: Any) -> bool:
    # A URL may carry a password, whatever its field is called.
    return any(word in key.lower() for word in _SECRET) or "@" in str(value)


def _table_of(table: Mapping[str, Any], plugin: str) -> Mapping[str, Any]:
    """The plugin's own table; TOML keys may be written with dashes or underscores."""
    for name, value in table.items():
        if slug(name) == slug(plugin) and isinstance(value, Mapping):
            return value
    return {}


def _read_toml(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}. Correct the file or remove it.") from exc
