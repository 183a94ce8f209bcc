"""One machine of a cluster: `python machine.py NAME STORE LEDGER BEGIN BACKEND LEASE`.

Its clock makes a minute of every second since BEGIN, so that a schedule of minutes is due each second. Each run is
written to the ledger, a file that all machines append to, when it begins and when it ends, which it does not while
there is a file LEDGER.hold. So is each due time that is skipped because the last run still goes on.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import anyio

import microkit_cron.plugin
from microkit import App, Tick
from microkit.host import Host
from microkit_cron import Cron, Firing

SPEED = 60.0
START = 1_767_225_600.0


class FastClock:
    """Time that runs sixty times as fast.

    Args:
        begin: when it began, in seconds since the epoch.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin

    def now(self) -> float:
        return START + (time.time() - self._begin) * SPEED

    async def sleep_until(self, moment: float) -> None:
        while (left := moment - self.now()) > 0:  # noqa: ASYNC110
            await anyio.sleep(left / SPEED)


def main(name: str, store: str, ledger: str, begin: str, backend: str, lease: str) -> None:
    app = App(
        plugins=["microkit_kv.plugin", microkit_cron.plugin],
        discover=False,
        settings={"cron": {"cluster": True, "lease": float(lease)}, "kv": {"url": store, "timeout": 60.0}},
        clock=FastClock(float(begin)),
    )
    out = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    hold = Path(ledger + ".hold")

    def write(what: str, tick: Tick, firing: Firing) -> None:
        minute = round((tick.scheduled_at.timestamp() - START) / 60)
        os.write(out, f"{what} {name} {minute} {tick.missed} {firing.attempt} {firing.token}\n".encode())

    class Skipped(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "this firing is skipped" in record.msg:
                os.write(out, f"skip {name} 0 0 0 0\n".encode())

    logging.getLogger("microkit.cron").addHandler(Skipped())

    @app.on(Cron("* * * * *"), name="job")
    async def job(tick: Tick, firing: Firing) -> None:
        write("begin", tick, firing)
        while hold.exists():  # noqa: ASYNC110, ASYNC240
            await anyio.sleep(0.05)
        write("end", tick, firing)

    async def serve() -> None:
        host = Host(app, backend=backend)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.serve)
            await host.opened.wait()
            print("open", flush=True)

    anyio.run(serve, backend=backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
