"""Forms: what the body of a form is read into, and the kernel's own kind of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlencode

from microkit.codecs import CodecSpec, decode
from microkit.errors import PayloadTooLarge

from .connection import QueryParams

if TYPE_CHECKING:
    from .request import Request

MAX_FIELDS = 1000
"""Fields of one form."""


class FormFile(Protocol):
    """An uploaded file.

    Attributes:
        filename: base name as the client gave it; nothing else of its path.
        content_type: as the client gave it.
        content: the bytes, in pieces, once.
    """

    filename: str
    content_type: str
    content: AsyncIterator[bytes]


@dataclass(frozen=True)
class FormData:
    """A form that was sent.

    Attributes:
        fields: text fields, in order.
        files: uploaded files by the name of their field.
    """

    fields: QueryParams
    files: Mapping[str, Sequence[FormFile]] = field(default_factory=dict)


def _encode(value: Any) -> bytes:
    return urlencode(value.pairs if isinstance(value, QueryParams) else value, doseq=True).encode()


def _decode(body: bytes) -> QueryParams:
    text = body.decode()
    if text.count("&") >= MAX_FIELDS:
        raise PayloadTooLarge(f"The form has more than {MAX_FIELDS} fields.")
    return QueryParams(parse_qsl(text, keep_blank_values=True))


async def _read(request: Request) -> FormData:
    return FormData(decode(await request.body(), FORM_CODEC.media_type, {FORM_CODEC.media_type: FORM_CODEC}))


FORM_CODEC = CodecSpec("application/x-www-form-urlencoded", _encode, _decode, _read)
"""Fields in UTF-8, blank ones kept; what is escaped and no UTF-8 becomes U+FFFD."""
