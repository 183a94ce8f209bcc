"""Message translators: what makes another payload of a payload before its target runs."""

from __future__ import annotations

from typing import Any, Protocol

from microkit import Message
from microkit.codecs import decode


class MessageTranslator(Protocol):
    """Makes a payload of what came. Several form a chain, where each finds in `message.payload` what the one before it
    returned. The message of one that raises goes to the dead letters."""

    def translate(self, message: Message) -> Any:
        """The new payload; may be a coroutine function."""
        ...


class JSONTranslator:
    """Reads the body as JSON, whatever its content type says."""

    def translate(self, message: Message) -> Any:
        """The value of the body.

        Raises:
            BadRequest: it is not JSON.
        """
        return decode(message.body, "application/json")
