"""Installs the servers that tests run private instances of: `make test` and `make alone` call it.

It does so only as root on a system with apt; elsewhere it says what to install. Nothing is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Per program its package on Debian and Ubuntu.
SERVERS = {"rabbitmq-server": "rabbitmq-server", "redis-server": "redis-server"}

# Asked by the scripts of packages before they start a service; 101 forbids it.
_POLICY = Path("/usr/sbin/policy-rc.d")
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def main() -> int:
    packages = sorted({package for program, package in SERVERS.items() if not shutil.which(program, path=_PATH)})
    if not packages:
        return 0
    wanted = " ".join(packages)
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        print(f"Tests with real servers are skipped until these are installed: {wanted}")
        return 0
    print(f"Installing for tests with real servers: {wanted}")
    with _no_service_starts():
        if _apt("update") and _apt("install", "--yes", "--no-install-recommends", *packages):
            return 0
    print(f"{wanted} could not be installed; tests with real servers are skipped, and fail on CI.")
    return 1


@contextmanager
def _no_service_starts() -> Iterator[None]:
    if _POLICY.exists():  # the machine has a policy of its own
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> bool:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
