"""`microkit call`: run one endpoint in process, with its middleware, after full start-up, and print its result."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from microkit.call import MISSING, Kind, Reply, RpcRequest
from microkit.cli.loading import CommandError, describe_failure, load_app
from microkit.cli.lookup import find_plan
from microkit.cli.output import print_json
from microkit.codecs import is_json, json_dumps, json_loads
from microkit.errors import PublicError
from microkit.messages import Message

if TYPE_CHECKING:
    from microkit.app import App
    from microkit.plan import Plan


def add_parser(subparsers: Any) -> None:
    """Declare the arguments."""
    parser = subparsers.add_parser(
        "call",
        description="Run the first binding of a name or address in process and print its result as JSON. The "
        "application is started before and shut down after.",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as app:app")
    parser.add_argument(
        "endpoint", metavar="ENDPOINT", help="a name, 'METHOD /path', a procedure, source/event or schedule"
    )
    parser.add_argument("--json", metavar="JSON", help="body of a request, arguments of a procedure, or payload")
    parser.add_argument(
        "--arg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_pair,
        help="path parameter, then query of a request; argument of a procedure or key of a payload, read as JSON where "
        "it is JSON, else as text; may be repeated",
    )
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="event loop to run it on")


def run(args: argparse.Namespace) -> int:
    """Run the endpoint and print its result."""
    import anyio

    document = MISSING if args.json is None else _parsed(args.json)
    app = load_app(args.app, args.flags)
    plan = find_plan(app, args.endpoint)
    with _quiet():
        print_json(anyio.run(_call, app, plan, args.endpoint, document, args.arg, backend=args.backend))
    return 0


async def _call(app: App, plan: Plan, text: str, document: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    async with app.started():
        # Start-up has built the plans anew.
        plan = find_plan(app, text)
        if plan.kind is Kind.HTTP:
            return await _request(app, plan, text, document, pairs)
        if plan.kind is Kind.RPC:
            return await _procedure(app, plan, document, pairs)
        if plan.kind in Kind.MESSAGE | Kind.BATCH:
            return await _message(app, plan, document, pairs)
        if plan.kind is Kind.TICK:
            return await _tick(app, plan)
    raise CommandError(f"{plan.address} takes a whole connection, so `call` cannot run it; use a WebSocket client.")


async def _request(app: App, plan: Plan, text: str, document: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    from microkit.http import Request

    method, _, target = text.partition(" ")
    pattern = next(pattern for each, pattern in app.table.paths if each is plan)
    values = {name: value for name, value in pairs if name in pattern.names}
    query = [(name, value) for name, value in pairs if name not in pattern.names]
    if not target.startswith("/") or target == pattern.text:
        methods = getattr(plan.binding.trigger, "methods", None) or ("GET",)
        method = method.upper() if target and method.upper() in methods else methods[0]
        try:
            target = pattern.build(**{each.name: _path_value(each, values) for each in pattern.params})
        except ValueError as exc:
            raise CommandError(f"The path {pattern} cannot be filled: {exc}.") from exc
    if query:
        target += ("&" if "?" in target else "?") + urlencode(query)
    body = b"" if document is MISSING else json_dumps(document)
    headers = {"host": "localhost"} | ({"content-type": "application/json"} if body else {})
    reply = await app.handle(Request(method.upper(), target, headers, body))
    content = b"".join([chunk async for chunk in _chunks(reply)])
    if reply.error is not None or reply.http_status >= 400:
        raise CommandError(_refusal(f"{method.upper()} {target}", reply, content))
    content_type = reply.headers.get("content-type", "")
    if not content:
        location = reply.headers.get("location")
        return None if location is None else {"status": reply.http_status, "location": location}
    if is_json(content_type):
        return json_loads(content)
    return content.decode(errors="replace")


def _path_value(param: Any, values: dict[str, str]) -> Any:
    if param.name not in values:
        raise CommandError(f"The path needs a value: add --arg {param.name}=VALUE.")
    try:
        return param.converter.parse(values[param.name])
    except ValueError as exc:
        raise CommandError(
            f"The path parameter {param.name!r} takes {param.converter.name}, not {values[param.name]!r}."
        ) from exc


async def _chunks(reply: Reply) -> AsyncIterator[bytes]:
    body: Any = reply.body
    if not reply.streams:
        yield body or b""
        return
    async for chunk in body:
        yield chunk.encode() if isinstance(chunk, str) else bytes(chunk)


async def _procedure(app: App, plan: Plan, document: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    document = _merged(document, pairs)
    name = plan.address
    request = RpcRequest(name) if document is MISSING else RpcRequest(name, raw=json_dumps(document))
    reply = await app.handle(request)
    if not reply.ok:
        raise CommandError(_refusal(name, reply))
    body: Any = reply.body
    return _plain([item async for item in body] if reply.streams else reply.payload)


async def _message(app: App, plan: Plan, document: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    from microkit.inprocess import Publisher

    payload = _merged(document, pairs)
    trigger: Any = plan.binding.trigger
    messages = [
        Message(
            json_dumps(None if each is MISSING else each),
            source=getattr(trigger, "source_service", ""),
            name=getattr(trigger, "name", plan.address),
        )
        for each in (payload if plan.kind is Kind.BATCH and isinstance(payload, list) else [payload])
    ]
    outcomes = await Publisher(app).deliver(plan, messages)
    for outcome in outcomes:
        state = outcome.settlement.state.value
        if state != "acked":
            text = f"{plan.address} ran." if outcome.reply.ok else _refusal(plan.address, outcome.reply)
            reason = next((each.reason for each in reversed(outcome.delivery.answers) if each.reason), "")
            raise CommandError(f"{text} A broker would see the message {state}{f': {reason}' if reason else ''}.")
    return _plain(outcomes[0].reply.payload) if outcomes else None


async def _tick(app: App, plan: Plan) -> Any:
    from microkit.dispatch import handle_tick
    from microkit.schedule import utc

    name = next(name for name, each in app.table.ticks.items() if each is plan)
    now = utc(app.clock.now())
    reply = await handle_tick(app, name, now, now)
    if not reply.ok:
        raise CommandError(_refusal(f"The schedule {name}", reply))
    return _plain(reply.payload)


def _refusal(what: str, reply: Reply, content: bytes | None = None) -> str:
    """Why a call failed: to whoever runs this command the application's own exception is no secret.

    Args:
        content: of an HTTP reply.
    """
    error = reply.error
    if error is not None and not isinstance(error, PublicError):
        return f"{what} failed: {describe_failure(error)}."
    status = reply.status.name if content is None else f"{reply.http_status} ({reply.status.name})"
    details: dict[str, Any] = error.details if isinstance(error, PublicError) else {}
    detail = error.detail if isinstance(error, PublicError) else (content or b"").decode(errors="replace")[:500]
    problems = "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}" for each in details.get("errors", ()))
    text = f"{what} answered {status}{f': {detail}' if detail else ''}"
    return f"{text.rstrip('.')}{f': {problems}' if problems else ''}."


def _plain(value: Any) -> Any:
    try:
        return json_loads(json_dumps(value))
    except TypeError as exc:
        raise CommandError(f"The endpoint returned {type(value).__name__}, which has no JSON form: {exc}.") from exc


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _parsed(text: str) -> Any:
    try:
        return json_loads(text.encode())
    except ValueError as exc:
        raise CommandError(f"--json is not valid JSON: {exc}.") from exc


def _merged(document: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """The document with the keys of `--arg` added."""
    if not pairs:
        return document
    if document is not MISSING and not isinstance(document, dict):
        raise CommandError("--arg adds keys to --json, which is no JSON object here. Use one of them.")
    added: dict[str, Any] = {}
    for name, value in pairs:
        try:
            added[name] = json.loads(value)
        except ValueError:
            added[name] = value
    return {**(document or {}), **added}


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the kernel's log of a failed call off the error stream, unless logging is configured; `run` reports it."""
    logger, handler = logging.getLogger("microkit"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
