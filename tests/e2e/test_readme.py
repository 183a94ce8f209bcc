"""What the READMEs show works as it stands there.

A block below `<!-- file: NAME -->` is a whole file. The files of one README are written to one folder, where its tests
run and its other modules are imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from microkit.settings import KernelSettings

ROOT = Path(__file__).parents[2]
_FILE = re.compile(r"^<!-- file: (\S+) -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
READMES = {
    path: dict(_FILE.findall(path.read_text())) for path in [ROOT / "README.md", *ROOT.glob("plugins/*/README.md")]
}


def _run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "readme", [path for path, files in READMES.items() if files], ids=lambda path: path.parent.name
)
def test_complete_examples_work(readme: Path, tmp_path: Path) -> None:
    files = READMES[readme]
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    for name in files:
        if name.startswith("test_"):
            _run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", name)
        else:
            module = name.removesuffix(".py")
            _run(tmp_path, "-W", "error", "-c", f"import {module} as m; hasattr(m, 'app') and m.app.build()")


def test_the_first_application_and_the_plugin_are_shown_with_their_tests() -> None:
    assert READMES[ROOT / "README.md"].keys() == {"app.py", "test_app.py", "served_by.py", "test_served_by.py"}


def test_the_table_of_settings_is_that_of_the_kernel() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]
    assert [row[:2] for row in rows] == [[f"`{each.name}`", f"`{each.default!r}`"] for each in fields(KernelSettings)]
    for name, _, unit, what in rows:
        assert what
        if name.strip("`").endswith(("_timeout", "_delay")):
            assert unit == "seconds"
        if name.startswith("`max_"):
            assert unit in ("bytes", "fields")
