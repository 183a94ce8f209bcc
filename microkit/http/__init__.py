"""HTTP: requests, responses, headers and cookies."""

from .connection import HTTPConnection, QueryParams
from .cookies import Cookies, parse_cookies
from .forms import FormData, FormFile
from .headers import Headers, MutableHeaders
from .request import Request
from .response import (
    FileResponse,
    HTMLResponse,
    JsonResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
    TextResponse,
)

__all__ = [
    "Cookies",
    "FileResponse",
    "FormData",
    "FormFile",
    "HTMLResponse",
    "HTTPConnection",
    "Headers",
    "JsonResponse",
    "MutableHeaders",
    "QueryParams",
    "RedirectResponse",
    "Request",
    "Response",
    "StreamingResponse",
    "TextResponse",
    "parse_cookies",
]
