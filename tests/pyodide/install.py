"""Installs the Node packages of the Pyodide test; part of ``make setup``.

Without Node.js the test is skipped, so nothing fails here; on CI a missing Node.js is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from node import find_npm

HERE = Path(__file__).parent


def main() -> int:
    npm = find_npm()
    if npm is None:
        print("no Node.js: the Pyodide test will be skipped")
        return 1 if os.environ.get("CI") else 0
    command = [*npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=HERE, check=False)
    if done.returncode == 0:
        (HERE / "node_modules" / ".installed").touch()
        return 0
    print("npm install failed: the Pyodide test will be skipped")
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
