"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from microkit.inspect import AppInfo, Section


def shown(value: Any) -> str:
    """A plain value as text for a table: `yes` and `no`, lists with commas, nothing for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(shown, value))
    return "" if value is None else str(value)


def tables(info: AppInfo) -> list[Section]:
    """Everything about an application as tables."""
    hidden = ("hooks", "contributed", "origin", "backends")
    plugins = [{k: v for k, v in asdict(each).items() if k not in hidden} for each in info.plugins]
    settings = [
        {"plugin": plugin, "setting": key, "value": value}
        for plugin, values in info.settings.items()
        for key, value in values.items()
    ]
    found = [
        ("Bindings", map(asdict, info.bindings)),
        ("Plugins", plugins),
        ("Services", info.services),
        ("Routers", info.routers),
        ("Transports", info.transports),
        ("Settings", settings),
        ("Runtime", [asdict(info.runtime)]),
    ]
    return [*(Section(title, tuple(rows)) for title, rows in found), *info.sections]


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned table; columns without any value are left out. Empty for no rows."""
    columns = [
        name for name in dict.fromkeys(key for row in rows for key in row) if any(shown(r.get(name)) for r in rows)
    ]
    cells = [[name.upper() for name in columns], *([shown(row.get(name)) or "-" for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(lines) if rows else ""


def print_json(value: Any) -> None:
    """Print a value as indented JSON, in UTF-8 whatever the terminal's encoding is."""
    import json

    print(json.dumps(value, indent=2, ensure_ascii=not _is_utf8(), default=str))


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
