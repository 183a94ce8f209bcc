"""What sites derive from: `App`, an application of its own, and `Root`, which an application includes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import microkit
from microkit import ConfigurationError, RedirectResponse, Templates
from microkit.endpoint import caller_locals
from microkit.routing.groups import Included

from .current import current_call
from .exposure import FRAMEWORK, set_aside
from .request import Request, view_of

_PLUGIN = "microkit_auto.plugin"


class Site:
    """The members that handlers have by `self`. Their names are private, so that no URL means them."""

    _microkit_locals: ClassVar[Any] = None

    def __init_subclass__(cls, *, framework: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if framework:
            FRAMEWORK.add(cls)
            return
        cls._microkit_locals = caller_locals()  # for annotations, which may be postponed
        set_aside(cls)

    @property
    def request(self) -> Request:
        """The current request: that of the call which the running code belongs to; a `WebSocketRequest` in a socket.

        Raises:
            RuntimeError: none is running here.
        """
        call = current_call()
        if call is None:
            raise RuntimeError("there is no current request: this code runs outside of any call of the site")
        return view_of(call)

    def _redirect(
        self,
        location: str,
        extra_headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        *,
        external: bool = False,
    ) -> RedirectResponse:
        """A redirect (302) within this origin.

        Args:
            location: where to.
            extra_headers: further header fields.
            external: allow http and https URLs of other origins; never for what a client chose.

        Raises:
            ValueError: the location leads to another origin or scheme, or has control characters.
        """
        return RedirectResponse(location, 302, extra_headers, external=external)

    async def _render_template(self, name: str, /, **values: Any) -> str:
        """The text of a template, rendered by the plugin that provides `microkit.Templates`.

        Args:
            name: of the template; never input of a client.
            values: its variables.

        Raises:
            ConfigurationError: no plugin renders templates.
        """
        call = current_call()
        app = call.app if call is not None else self
        if not isinstance(app, microkit.App):
            raise RuntimeError("a template is rendered for a call of the site, and none is running here")
        if not app.container.has(Templates):
            raise ConfigurationError(f"Nothing renders the template {name!r}. Install microkit-jinja2.")
        templates: Templates = await app.container.get(Templates)
        return await templates.render(name, values)


FRAMEWORK.add(Site)


class Root(Site, framework=True):
    """A site, or a part of one: `app.include(Root())`, under a prefix if given. Its methods are handlers, see `App`."""


class App(Site, microkit.App, framework=True):
    """An application whose methods are handlers: `greet` answers `/greet`, `index` answers `/`, `ws_chat` is a socket.

    Args:
        options: as `microkit.App` takes them.
    """

    def __init__(self, *, plugins: Sequence[Any] = (), **options: Any) -> None:
        super().__init__(plugins=(*plugins, _PLUGIN), **options)
        self.items.append(Included(OwnHandlers(self)))


class OwnHandlers:
    """What an `App` includes of itself.

    Args:
        app: whose methods are the handlers.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    def __repr__(self) -> str:
        return f"the handlers of {self.app!r}"
