"""What stands between the network and the page: uploads are counted, and the browser may load from nowhere else."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from src.web.limits import RateLimit

# gradio's scripts are inline and evaluate templates; fonts, images and downloads are the page's own.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """ASGI middleware that refuses too many uploads and adds the policy to every answer.

    Args:
        app: what answers.
        limit: counts the uploads, together with what the page itself counts.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], limit: RateLimit):
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            client = scope.get("client") or ("unknown", 0)
            if not self.limit.allows(client[0]):
                await _refuse(send)
                return
        await self.app(scope, receive, _with_policy(send))


def _with_policy(send: Send) -> Send:
    async def with_policy(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
            message = {**message, "headers": headers}
        await send(message)

    return with_policy


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"60")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": b"too many uploads; wait a minute"})
