"""The body of a request as a source of parameters: a form or a JSON document, by its exact media type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from microkit.call import MISSING
from microkit.codecs import is_json, media_type
from microkit.errors import UnsupportedMediaType
from microkit.http import FormData, FormFile, HTTPConnection, QueryParams, Request

BODY_METHODS = ("POST", "PUT", "PATCH")
"""The methods whose bodies are read (RFC 9110 gives a body of the others no meaning)."""

_KEY = "_auto_body"


@dataclass(frozen=True)
class Body:
    """What a body holds for parameters.

    Attributes:
        form: its fields and files.
        document: the JSON value; MISSING if it is no JSON.
        error: why it could not be read, for whoever asks for something of it.
    """

    form: FormData = field(default_factory=lambda: FormData(QueryParams()))
    document: Any = MISSING
    error: Exception | None = None

    @property
    def fields(self) -> QueryParams:
        """The text fields of the form."""
        return self._known.form.fields

    @property
    def files(self) -> Mapping[str, Sequence[FormFile]]:
        """The files of the form."""
        return self._known.form.files

    @property
    def members(self) -> Mapping[str, Any]:
        """The members of the JSON object; none if it is no object."""
        document = self._known.document
        return document if isinstance(document, dict) else {}

    @property
    def _known(self) -> Body:
        if self.error is not None:
            raise self.error
        return self


NO_BODY = Body()


async def load_body(request: Request) -> Body:
    """Read the body if it is a form or JSON; once per request.

    Raises:
        BadRequest, PayloadTooLarge, RequestTimeout, ClientDisconnect: it is malformed, over a bound, or incomplete.
    """
    body: Body | None = request.__dict__.get(_KEY)
    if body is None:
        body = request.__dict__[_KEY] = await _read(request)
    return body


async def _read(request: Request) -> Body:
    content_type = request.headers.get("content-type", "")
    if is_json(content_type):
        return Body(document=await request.json())
    kind = media_type(content_type)
    codec = request.app.codecs.get(kind)
    if (codec is None or codec.read is None) and not kind.startswith("multipart/"):
        return NO_BODY  # raw: the handler reads it, if anybody does
    try:
        return Body(await request.form())
    except UnsupportedMediaType as exc:
        return Body(error=exc)


def loaded_body(call: HTTPConnection) -> Body | None:
    """What `load_body` found; an empty one for a call that has no body for us; None if it was not read yet."""
    body: Body | None = call.__dict__.get(_KEY)
    if body is None and (not isinstance(call, Request) or call.method not in BODY_METHODS):
        return NO_BODY
    return body
