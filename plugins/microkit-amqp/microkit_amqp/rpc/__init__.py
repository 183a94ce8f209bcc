"""Remote procedures over RabbitMQ: the wires of nameko and of micro-framework."""

from .errors import RemoteError

__all__ = ["RemoteError"]
