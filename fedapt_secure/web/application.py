"""The application that browsers talk to: reads a state, fills templates, hands on what forms ask for.

It knows nothing but what the other process sends, and it decides nothing: an action is asked for over the
same socket, and done or refused there. No page loads anything from elsewhere, and none has script in it.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fedapt_secure.pages.environment import page_environment
from fedapt_secure.web.access import Doors, Role, TooMany, Visit
from fedapt_secure.web.site import Site

COOKIE: Final = "fedapt_page"
MAX_FORM: Final = 1 << 14
EVERY_S: Final = 1.0
"""How often a page that somebody looks at is compared with the folder."""
BEAT_S: Final = 15.0
"""How often a live page hears that nothing has changed, so that one that has gone is noticed."""
MAX_LIVE: Final = 32
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without any, browsers send forms with no origin either
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
Answer = dict[str, Any]


class Party(Protocol):
    """The other process, which may read the folder."""

    async def ask(self, what: str, **fields: Any) -> Answer:
        """Return its answer; raises `ConnectionError` once it has gone."""


@dataclass(frozen=True)
class Where:
    """Under which names the page is reached.

    Attributes:
        hosts: What a browser may name as the host, with the port.
        scheme: ``http``, or ``https`` where there is a certificate.
        allowed: Networks that may connect; empty for this machine alone.
    """

    hosts: tuple[str, ...]
    scheme: str = "http"
    allowed: tuple[str, ...] = ()

    def takes(self, address: str) -> bool:
        """Whether somebody at an address may connect."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        networks = [ipaddress.ip_network(one) for one in self.allowed]
        return found.is_loopback or any(found in network for network in networks)


class Application:
    """All requests.

    Args:
        site: Pages, templates, actions.
        party: The other process.
        doors: Who may come in.
        where: Names and addresses.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        site: Site,
        party: Party,
        doors: Doors,
        where: Where,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._party = party
        self._doors = doors
        self._where = where
        self._clock = clock
        self._live = 0
        self._state: Answer | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._environment = page_environment(site.templates, Path(__file__).parent)
        self._environment.globals.update(site.functions)
        self._style = _text("fedapt_secure.pages", "style.css") + _text(__package__, "web.css")
        self._script = _text(__package__, "live.js")
        for name in ("page.html.j2", "notice.html.j2", *map(site.template, site.pages)):
            self._environment.get_template(name)  # files cannot be opened later
        self.asgi: ASGIApp = _Guarded(self._routes(), where)

    def _routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/style.css", self._serve_style),
                Route("/live.js", self._serve_script),
                Route("/enter/{secret}", self._enter),
                Route("/leave", self._leave, methods=["POST"]),
                Route("/events", self._events),
                Route("/do/{action}", self._act, methods=["POST"]),
                *(Route(path, self._page) for path in self._site.pages),
            ],
            exception_handlers={
                404: self._nothing_here,
                405: self._nothing_here,
                ConnectionError: self._alone,
                TimeoutError: self._alone,
            },
        )

    async def _serve_style(self, _request: Request) -> Response:
        return Response(self._style, media_type="text/css")

    async def _serve_script(self, _request: Request) -> Response:
        return Response(self._script, media_type="text/javascript")

    async def _nothing_here(self, _request: Request, _error: Exception) -> Response:
        return self._notice(
            404, "There is no such page", "Go to the first page, and choose from its menu.", "/"
        )

    async def _alone(self, _request: Request, _error: Exception) -> Response:
        return self._notice(503, "The folder cannot be read just now", "Load the page again in a while.", "/")

    async def _enter(self, request: Request) -> Response:
        try:
            kept = self._doors.enter(request.path_params["secret"])
        except TooMany:
            return self._notice(429, "Too many links that are none", "Wait a minute, and try again.")
        if kept is None:
            return self._notice(
                403, "This link has been used, or is too old", "Each works once, for a quarter of an hour. "
                "Ask for another one with the command that gave you this one.",
            )  # fmt: skip
        # Not a redirect: a browser that came from another site would not send the cookie after one.
        answer = self._notice(200, "Welcome", "The page opens.", "/")
        answer.set_cookie(
            COOKIE, kept, path="/", httponly=True, samesite="strict", secure=self._where.scheme == "https"
        )
        return answer

    async def _leave(self, request: Request) -> Response:
        visit, form = self._visit(request), await _form(request)
        if visit is not None and form.get("token") == visit.token:
            self._doors.leave(request.cookies.get(COOKIE))
        answer = self._notice(
            200, "You have left", "Close this window, or ask for another link to come back."
        )
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def _page(self, request: Request) -> Response:
        visit = self._visit(request)
        if visit is None:
            return self._stranger()
        state = await self._newest()
        return HTMLResponse(self._filled(request.url.path, state, visit))

    async def _act(self, request: Request) -> Response:
        visit, action = self._visit(request), request.path_params["action"]
        if visit is None:
            return self._stranger()
        wanted = self._site.actions.get(action)
        form = await _form(request)
        if wanted is None or form.get("token") != visit.token:
            return self._notice(403, "This form is not from this page", "Load the page again.", "/")
        if visit.role is not Role.DECIDES:
            return self._notice(403, "You may read here, not decide", "Ask for a link that decides.", "/")
        fields = {name: form.get(name, "") for name in wanted}
        answer = await self._party.ask("act", action=action, fields=fields)
        self._asked_at = float("-inf")
        said = {"kind": "good" if answer.get("done") else "bad", "text": str(answer.get("said", ""))}
        state = await self._newest()
        return HTMLResponse(self._filled("/", state, visit, said), 200 if answer.get("done") else 422)

    async def _events(self, request: Request) -> Response:
        visit, path = self._visit(request), request.query_params.get("page", "/")
        if visit is None or path not in self._site.pages:
            return self._stranger()
        if self._live >= MAX_LIVE:
            return self._notice(429, "So many live pages are open", "Close some.")
        return StreamingResponse(
            self._changes(request, path), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def _changes(self, request: Request, path: str) -> AsyncIterator[str]:
        shown, known, beat = "", object(), self._clock()
        self._live += 1
        try:
            yield "retry: 3000\n\n"
            while not await request.is_disconnected():
                visit = self._visit(request)
                if visit is None:
                    return
                state = await self._newest()
                version = state.get("version")
                if version is None or version != known:
                    known, content = version, self._content(path, state, visit)
                    if content != shown:
                        shown, beat = content, self._clock()
                        yield _event("page", content)
                if self._clock() - beat > BEAT_S:
                    beat = self._clock()
                    yield ": nothing new\n\n"
                await asyncio.sleep(EVERY_S)
        except (ConnectionError, TimeoutError):
            return  # the other process has gone; a browser tries again by itself
        finally:
            self._live -= 1

    def _visit(self, request: Request) -> Visit | None:
        return self._doors.visit(request.cookies.get(COOKIE))

    async def _newest(self) -> Answer:
        """Return the state of the folder; for all who look, it is asked for once a second at most."""
        async with self._asking:
            if self._state is None or self._clock() - self._asked_at >= EVERY_S / 2:
                known = None if self._state is None else self._state.get("version")
                answer = await self._party.ask("look", known=known)
                if self._state is None or not answer.get("same"):
                    self._state = answer
                self._asked_at = self._clock()
            return self._state

    def _filled(self, path: str, state: Answer, visit: Visit, said: Mapping[str, str] | None = None) -> str:
        template = self._environment.get_template("page.html.j2")
        return template.render(
            self._values(path, state, visit),
            heading=self._site.pages[path],
            menu=self._site.pages,
            here=path,
            content=self._site.template(path),
            live=said is None,
            said=said,
        )

    def _content(self, path: str, state: Answer, visit: Visit) -> str:
        template = self._environment.get_template(self._site.template(path))
        return template.render(self._values(path, state, visit))

    def _values(self, path: str, state: Answer, visit: Visit) -> dict[str, Any]:
        decides = visit.role is Role.DECIDES
        who = state.get("who") or self._site.title
        return {"state": state, "who": who, "token": visit.token, "decides": decides, "here": path}

    def _stranger(self) -> Response:
        return self._notice(
            403, "You are not in", "Open the link that the command gave you; each works once. For another one"
            " run the command again.",
        )  # fmt: skip

    def _notice(self, status: int, heading: str, text: str, next: str | None = None) -> Response:
        template = self._environment.get_template("notice.html.j2")
        return HTMLResponse(template.render(heading=heading, text=text, next=next), status)


class _Guarded:
    """Before anything is looked at: from where, under which name, from which page; after it: headers.

    A browser that was led here by another site's name (DNS rebinding) names that site as the host.
    """

    def __init__(self, application: ASGIApp, where: Where) -> None:
        self._application = application
        self._where = where

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refused = self._refused(scope)

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if refused is None:
            await self._application(scope, receive, with_headers)
        else:
            await Response(refused, 403, media_type="text/plain")(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> str | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client")
        if client is None or not self._where.takes(client[0]):
            return "this address is not one that the page is for"
        if headers.get(b"host") not in self._where.hosts:
            return "this name is not one of the page's"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get(b"origin")
            parts = urlsplit(origin or "")
            if parts.scheme != self._where.scheme or parts.netloc not in self._where.hosts:
                return "a form of another site"
        return None


def _event(name: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{lines}\n"


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form, none where it is longer than any of ours."""
    data = b""
    try:
        async for part in request.stream():
            data += part
            if len(data) > MAX_FORM:
                return {}
        return dict(parse_qsl(data.decode("utf-8"), keep_blank_values=True, max_num_fields=16))
    except (ValueError, ClientDisconnect):
        return {}


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")
