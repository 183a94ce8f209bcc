"""A TCP proxy in a thread, to cut connections and to hold them up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from tests.servers import free_ports


class Proxy:
    """Forwards connections to a port of the loopback interface.

    Args:
        target: the port.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        (self.port,) = free_ports(1)  # nobody else takes it while nothing listens there
        self._run(self._listen())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))
        self._writers -= {writer, there}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """Reset all connections."""

        async def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._run(abort())

    def stop(self) -> None:
        """Cut all, and accept none any more."""

        async def stop() -> None:
            assert self._server is not None
            self._server.close()

        self._run(stop())
        self.cut()

    def resume(self) -> None:
        """Accept again, on the same port."""
        self._run(self._listen())

    def freeze(self) -> None:
        """Forward nothing, as a network does that drops packets."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Forward what was held up, and all that follows."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        self.thaw()
        self.stop()

        async def end() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
