"""The page in a real browser. `DEMO_PICTURE=media/demo.png` keeps the picture of it that README shows."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.utils.config import REPOSITORY, SHIPPED_CHECKPOINT
from tests.web.conftest import Serve, Server, wait_for

pytest.importorskip("gradio")
from src.web.page import BUSY

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--window-size=1200,1560", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)


@pytest.fixture(scope="module")
def server(serve: Serve) -> Iterator[Server]:
    with serve() as found:
        yield found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    downloads = {"download.default_directory": str(tmp_path / "downloads"), "download.prompt_for_download": False}
    options.add_experimental_option("prefs", downloads)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


def all_of(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def one(browser: Any, selector: str) -> Any:
    return wait_for(lambda: all_of(browser, selector), f"{selector} is missing")[0]


def test_sentences_are_typed_and_explained(server: Server, browser: Any, tmp_path: Path) -> None:
    browser.get(server.url)
    assert one(browser, "h1").text == "bert-sst2"
    wait_for(lambda: browser.title == "bert-sst2", "the page has no title")
    field = one(browser, "#sentences textarea")
    field.clear()
    field.send_keys("A charming film, from its first scene to its last.\nTwo hours I will never get back.")
    one(browser, "#classify").click()
    wait_for(lambda: len(all_of(browser, "#explanations .explained")) == 2, "explanations")
    first, second = all_of(browser, "#explanations .explained")
    assert first.text.startswith("positive ") and second.text.startswith("negative ")
    (charming,) = [word for word in first.find_elements("css selector", ".words span") if word.text == "charming"]
    assert float(charming.get_attribute("title")) > 1
    one(browser, "button.label-wrap").click()
    picture = one(browser, "#attention img")
    wait_for(lambda: browser.execute_script("return arguments[0].naturalWidth", picture) > 500, "attention maps")
    browser.save_screenshot(str(tmp_path / "page.png"))
    assert 10_000 < (tmp_path / "page.png").stat().st_size < 300_000
    if kept := os.environ.get("DEMO_PICTURE"):
        shutil.copy(tmp_path / "page.png", kept)

    # No answer stays below a refusal, be it the page's or the server's.
    field.clear()
    field.send_keys(" ")
    one(browser, "#classify").click()
    wait_for(lambda: "Type a sentence" in one(browser, "#explanations").text, "refusal")
    assert all_of(browser, ".explained") + all_of(browser, "#attention img") == []
    field.send_keys("a bore")
    one(browser, "#classify").click()
    wait_for(lambda: all_of(browser, ".explained"), "explanation")
    browser.execute_script(f"window.fetch = async () => new Response('{json.dumps({'error': BUSY})}', {{status: 429}})")
    one(browser, "#classify").click()
    wait_for(lambda: BUSY in one(browser, "#explanations").text, "refusal")
    assert all_of(browser, ".explained") + all_of(browser, "#attention img") == []

    # Nothing is loaded from elsewhere.
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 5 and [name for name in loaded if not name.startswith((server.url, "data:", "blob:"))] == []
    # The browser would report what the page's policy forbids, and what it cannot look up.
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    addresses = set(server.addresses.read_text().splitlines())
    assert addresses and all("127.0.0.1" in line and str(server.port) in line for line in addresses)


def test_a_table_is_uploaded_and_predictions_are_downloaded(server: Server, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text('id,review\n1,"a charming, fine film"\n2,a bore\n')
    browser.get(server.url)
    wait_for(lambda: all_of(browser, "button[role=tab]"), "tabs")[1].click()
    one(browser, "#upload input[type=file]").send_keys(str(tmp_path / "texts.csv"))
    wait_for(lambda: "texts" in one(browser, "#upload").text, "upload")
    one(browser, "#classify-table").click()
    one(browser, "#download a[href]").click()
    path = tmp_path / "downloads" / "predictions.csv"
    wait_for(path.exists, "download")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["id"], row["predicted_label"]) for row in rows] == [("1", "positive"), ("2", "negative")]


def test_a_port_that_is_taken_is_a_usage_error(server: Server) -> None:
    command = [sys.executable, "-m", "src.demo", "--checkpoint", SHIPPED_CHECKPOINT, "--port", server.port]
    ended = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and ended.stdout == ""
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: ") and str(server.port) in last
