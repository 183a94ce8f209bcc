"""HTTP servers for microkit: uvicorn on asyncio, hypercorn on asyncio and trio."""

from .hypercorn import HypercornServer
from .settings import ServeSettings
from .uvicorn import UvicornServer

__all__ = ["HypercornServer", "ServeSettings", "UvicornServer"]
