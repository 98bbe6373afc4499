import httpx
import pytest

from src.web.guard import POLICY, Guard, Receive, Scope, Send
from src.web.limits import RateLimit


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"kept")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def app() -> Guard:
    return Guard(hello, RateLimit(most=2))


def ask(app: Guard, method: str, path: str, client: str = "10.0.0.1") -> httpx.Response:
    import asyncio

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as session:
            return await session.request(method, path)

    return asyncio.run(once())


def test_every_answer_says_that_nothing_is_loaded_from_elsewhere(app: Guard) -> None:
    answer = ask(app, "GET", "/")
    assert (answer.status_code, answer.text, answer.headers["x-own"]) == (200, "hello", "kept")
    assert answer.headers["content-security-policy"] == POLICY
    assert "http" not in POLICY and "*" not in POLICY


def test_uploads_are_counted_for_each_client_and_nothing_else_is(app: Guard) -> None:
    uploads = [ask(app, "POST", "/gradio_api/upload?upload_id=1").status_code for _ in range(3)]
    assert uploads == [200, 200, 429]
    assert ask(app, "POST", "/gradio_api/upload/").status_code == 429
    assert ask(app, "POST", "/gradio_api/upload", client="10.0.0.2").status_code == 200
    assert ask(app, "GET", "/gradio_api/upload").status_code == 200
    assert ask(app, "POST", "/gradio_api/queue/join").status_code == 200
