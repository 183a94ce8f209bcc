"""What every program here measures of itself, in whatever environment it runs: CPU time of its process, and wall time.

A program is called with a role, the broker's URL and a number of messages or calls. It prints one line of JSON. The
first fifth is not measured: it warms up.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time

ROLE, URL, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
VARIANT = sys.argv[4] if len(sys.argv) > 4 else ""
WARM = COUNT // 5
PREFETCH = 100  # unanswered messages at a time, and workers where there is such a thing
AT_ONCE = 64  # calls under way
SOURCE, EVENT = "shop", "order_placed"
_LAST_ACKS = 0.1  # seconds until most of them are sent, which belongs to the work


def order(number):
    """The payload of a message."""
    return {"id": number, "customer": "somebody", "total": 12.5}


def total(number):
    """What the procedure answers."""
    return {"id": number, "total": number * 2}


def tell(found):
    """Print what was found and end the process: some frameworks would take seconds for that, or never end."""
    os.write(1, json.dumps(found).encode() + b"\n")  # some frameworks replace sys.stdout
    os._exit(0)


class Window:
    """The time between the end of the warming up and the last one."""

    def begin(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def end(self):
        self.wall = time.perf_counter() - self.wall

    def figures(self, count):
        cpu = time.process_time() - self.cpu
        return {"cpu": cpu / count * 1e9, "rate": count / self.wall}


class Consumed:
    """Counts the messages that a handler gets, and ends the process after the last one.

    Args:
        late: seconds that the last acks may take beside those that belong to the work.
    """

    def __init__(self, late=0.2):
        self._late = late
        self._seen = bytearray(COUNT)
        self._numbers = itertools.count(1)  # handlers may run in threads, and this is atomic
        self._window = Window()

    def saw(self, number):
        self._seen[number] += 1
        which = next(self._numbers)
        if which == WARM:
            self._window.begin()
        elif which == COUNT:
            self._window.end()
            threading.Timer(_LAST_ACKS, self._tell).start()

    def _tell(self):
        figures = self._window.figures(COUNT - WARM)
        time.sleep(self._late)
        tell(figures | {"once": self._seen.count(1) == COUNT})


class Published:
    """Around the publishing of all messages."""

    def __init__(self):
        self._window = Window()

    def numbers(self):
        """All numbers, one after the other."""
        for number in range(COUNT):
            if number == WARM:
                self._window.begin()
            yield number

    async def in_windows(self, publish):
        """Call `publish(number)` for all of them, so many at a time as may be unanswered."""
        import asyncio

        numbers = self.numbers()
        while some := list(itertools.islice(numbers, PREFETCH)):
            await asyncio.gather(*map(publish, some))

    def tell(self):
        self._window.end()
        tell(self._window.figures(COUNT - WARM))


class Called:
    """Around the calls of a procedure; checks their answers."""

    def __init__(self):
        self._window = Window()
        self._taken = []
        self._right = True

    def answered(self, number, answer, since):
        self._taken.append(time.perf_counter() - since)
        self._right &= answer == total(number)

    async def at_once(self, call):
        """Await `call(number)` for all numbers, `AT_ONCE` at a time."""
        import asyncio

        async def worker(numbers):
            for number in numbers:
                since = time.perf_counter()
                self.answered(number, await call(number), since)

        for numbers in self._warm_and_measured():
            await asyncio.gather(*(worker(numbers) for _ in range(AT_ONCE)))

    def in_windows(self, send):
        """Call `send(number)`, which returns what waits for the answer, for windows of `AT_ONCE` numbers."""
        for numbers in self._warm_and_measured():
            while some := list(itertools.islice(numbers, AT_ONCE)):
                sent = [(number, time.perf_counter(), send(number)) for number in some]
                for number, since, wait in sent:
                    self.answered(number, wait(), since)

    def _warm_and_measured(self):
        yield iter(range(WARM))
        self._taken.clear()
        self._window.begin()
        yield iter(range(WARM, COUNT))

    def tell(self):
        self._window.end()
        self._taken.sort()
        median = self._taken[len(self._taken) // 2]
        tell(self._window.figures(COUNT - WARM) | {"p50": median * 1e9, "right": self._right})


def run_loop(main):
    """Run a coroutine function on the loop that command lines take where it is installed."""
    import uvloop

    uvloop.run(main())
