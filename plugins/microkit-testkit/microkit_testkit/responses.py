"""What the client gets back over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from microkit.codecs import json_loads
from microkit.http.headers import Headers

from .cookies import CookieJar


@dataclass
class Response:
    """A complete response.

    Attributes:
        status_code: HTTP status.
        headers: case-insensitive; `getlist` gives all values of a name.
        content: the body.
        url: what was asked for, query included.
        history: the redirects that led here.
        error: the exception that the application logged for this request, if it did.
    """

    status_code: int
    headers: Headers
    content: bytes
    url: str
    history: list[Response] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        """The same as `content`."""
        return self.content

    @property
    def text(self) -> str:
        """The body as text, in the charset of its content type (UTF-8 by default)."""
        content_type = self.headers.get("content-type", "")
        _, found, charset = content_type.partition("charset=")
        return self.content.decode(charset.partition(";")[0].strip(' "') if found else "utf-8")

    def json(self) -> Any:
        """The value of a JSON body.

        Raises:
            ValueError: it is no JSON.
        """
        return json_loads(self.content)

    @property
    def cookies(self) -> CookieJar:
        """The cookies that this response sets; deleted ones are not there."""
        jar = CookieJar()
        for value in self.headers.getlist("set-cookie"):
            jar.store(value, "/")
        return jar

    @property
    def is_redirect(self) -> bool:
        """Whether it leads elsewhere."""
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.url}>"


class ConnectionCut(Exception):
    """The connection was cut before the response was complete.

    Attributes:
        response: what had arrived.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"the response {response!r} was cut off after {len(response.content)} bytes")
        self.response = response
