"""`headgate serve`: the console in a browser, on loopback alone, for who has the token."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import sys
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

HOST = "127.0.0.1"
DEFAULT_PORT = 8710
COOKIE = "headgate_token"
_START = "from console.cli.start import main; main()"


@click.command()
@click.argument("target", type=RUN, required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
def serve(target: str | None, port: int) -> int:
    """Show TARGET, or the list of runs, in a browser on this machine.

    Prints an address with a token that is made anew each time; without it nothing is served. It
    listens on 127.0.0.1 only: from elsewhere, forward the port, as with ssh -L. Each window is a
    console of its own. Needs the extra headgate[serve].
    """
    from engine.errors import UserError

    try:
        import textual_serve.server  # noqa: F401
    except ImportError as error:
        raise UserError(
            "serve needs textual-serve: install it with pip install 'headgate[serve]'"
        ) from error
    run_server(served_command(target), port, secrets.token_urlsafe(24))
    return exit_codes.OK


def served_command(target: str | None) -> str:
    """What runs for each window."""
    from replay.runs.open import open_source

    words = [sys.executable, "-c", _START]
    if target is not None:
        opened = open_source(target)
        live = opened.feed is not None
        if opened.feed is not None:
            opened.feed.close()
        words += ["watch" if live else "replay", target]
    return shlex.join(words)


def run_server(command: str, port: int, token: str) -> None:
    """Serve until Ctrl+C."""
    from textual_serve.server import Server

    class LoopbackServer(Server):
        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(guard(token, port))
            return app

        def initialize_logging(self) -> None:
            """Requests are nobody's concern, and their addresses may hold the token."""

        async def on_startup(self, app: web.Application) -> None:
            self.announcement = asyncio.create_task(announce(port, token))

    LoopbackServer(command, host=HOST, port=port, title="headgate").serve()


async def announce(port: int, token: str) -> None:
    """Print the address once the server listens: its start-up comes before."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            break
    click.echo(f"http://{HOST}:{port}/?token={token}")
    click.echo("headgate: Ctrl+C ends it", err=True)


def guard(token: str, port: int) -> Middleware:
    """Lets through who has the token, from a page of this very address."""
    from aiohttp import web

    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page elsewhere whose name is made to lead here has another Host, or another Origin.
        origin = request.headers.get("Origin")
        if request.host not in hosts or (
            origin is not None and origin.removeprefix("http://") not in hosts
        ):
            raise web.HTTPForbidden(text="This address is served to its own pages alone.")
        offered = request.query.get("token")
        if offered is not None and hmac.compare_digest(offered.encode(), token.encode()):
            response = web.HTTPFound(request.path)
            response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
            return response
        known = request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(known.encode(), token.encode()):
            raise web.HTTPForbidden(text="Open the address that headgate serve printed.")
        return await handler(request)

    return check
