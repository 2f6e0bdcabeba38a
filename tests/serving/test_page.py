"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightx import Predictor
from support.serving import TestServer, held, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Open the page of a server; a request to another host or a violation of CSP fails the test."""
    faults: list[str] = []
    contexts = []

    def opened(server: TestServer, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        url = f"http://127.0.0.1:{server.port}"

        def check(request: Any) -> None:
            if not request.url.startswith((url, "blob:", "data:")):
                faults.append(request.url)

        page.on("request", check)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text
                else None)  # fmt: skip
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def wait_for(page: Any, text: str) -> None:
    """Wait until the sentence about the result matches."""
    page.wait_for_function(
        "text => new RegExp(text).test(document.getElementById('status').textContent)", arg=text
    )


@pytest.fixture(scope="module")
def eyes(data: Path) -> list[str]:
    return [str(data / "test" / name / "0.png") for name in ("dark", "light")]


def test_the_files_are_small_and_name_no_other_host() -> None:
    folder = files("sightx.serving") / "page"
    content = b"".join(
        (folder / name).read_bytes() for name in ("index.html", "style.css", "page.js")
    )
    assert len(content) < 40_000
    assert b"http" not in content


def test_a_photograph_gets_its_grade_its_bars_and_its_map(
    server: TestServer, open_page: Any, eyes: list[str], predictor: Predictor
) -> None:
    page = open_page(server)
    page.set_input_files("#files", eyes[1])
    wait_for(page, r"^Grade 1 \(light\), with a probability of")
    shares = [share.probability for share in predictor.predict(eyes[1]).probabilities]
    rows = page.locator(".bars tbody tr").all()
    assert [row.locator("th").text_content() for row in rows] == ["dark", "light"]
    texts = [row.locator("td").last.text_content() for row in rows]
    assert [float(text.removesuffix(" %")) for text in texts] == pytest.approx(
        [100 * share for share in shares], abs=0.5
    )
    assert page.locator(".notice").first.is_visible()
    decisions = page.locator("#details p").all_text_contents()
    assert [text.partition(":")[0] for text in decisions] == ["Positive (light)"] * 2
    assert decisions[0].endswith("for high sensitivity.")
    page.get_by_text("Show where the network looked").click()
    page.get_by_alt_text("Where the network looked").wait_for()
    wait_for(page, "^Grade 1")
    page.get_by_text("About this model").click()
    assert page.locator("#card-text").text_content() == "carditemThe end."


def test_a_pair_is_graded_can_be_swapped_and_completed(
    server: TestServer, open_page: Any, eyes: list[str]
) -> None:
    page = open_page(server)
    page.set_input_files("#files", eyes)
    wait_for(page, r"^Grade 1 \(light\), the worse of both eyes")
    captions = page.locator("figcaption")
    assert [c.text_content() for c in captions.all()] == ["Left eye: 0.png", "Right eye: 0.png"]
    headings = page.locator("#details h2 + p")
    assert headings.first.text_content().startswith("Grade 0 (dark)")
    page.get_by_text("Swap left and right").click()
    page.wait_for_function(
        "() => document.querySelector('#details h2 + p')?.textContent.startsWith('Grade 1')"
    )
    page.set_input_files("#files", eyes[0])
    wait_for(page, r"^Grade 0 \(dark\), with")
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Add the other eye").click()
    chooser.value.set_files(eyes[1])
    wait_for(page, "the worse of both eyes")


def test_errors_are_sentences_of_the_server_and_of_the_page(
    server: TestServer, open_page: Any, eyes: list[str], tmp_path: Path
) -> None:
    page = open_page(server)
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(Path(eyes[0]).read_bytes()[:-20])
    page.set_input_files("#files", str(broken))
    wait_for(page, "end of the image is missing.*send the file again")
    assert page.locator("figcaption").text_content() == "<b>broken.png"
    assert page.get_by_text("Try again").is_visible()
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(10_000_001))
    page.set_input_files("#files", str(large))
    wait_for(page, r"has 10\.0 MB; this server takes 10\.0 MB")
    text = tmp_path / "notes.txt"
    text.write_text("notes")
    page.set_input_files("#files", str(text))
    wait_for(page, "neither JPEG nor PNG")
    page.set_input_files("#files", [*eyes, eyes[0]])
    wait_for(page, "Choose one photograph, or a left and a right eye")


def test_the_quality_of_a_photograph_is_shown_and_an_ungradable_one_has_no_grade(
    judge: Predictor, open_page: Any, eyes: list[str], tmp_path: Path
) -> None:
    black = tmp_path / "black.png"
    Image.new("RGB", (24, 20)).save(black)
    with running(judge) as server:
        page = open_page(server)
        page.set_input_files("#files", str(black))
        wait_for(page, "^This photograph cannot be graded")
        advice = "Take another photograph: low brightness."
        assert page.locator("#details").text_content() == advice
        assert page.locator("#explain").is_hidden()
        page.set_input_files("#files", eyes[1])
        wait_for(page, "^Grade 1")
        poor = "The quality of the photograph is poor: low brightness."
        assert page.locator("#details .poor").text_content() == poor


@pytest.mark.slow  # seconds of a browser
def test_a_busy_and_a_slow_server_are_waited_for_and_can_be_cancelled(
    predictor: Predictor, open_page: Any, eyes: list[str]
) -> None:
    slow, network = held(predictor)
    with running(slow, max_queue=2) as server:
        page = open_page(server)
        network.go.clear()
        server.service.settings.__dict__["max_queue"] = 0
        page.set_input_files("#files", eyes[0])
        wait_for(page, r"^The server is busy\. Next try in \d+ s")
        server.service.settings.__dict__["max_queue"] = 2
        wait_for(page, "^Waiting for the answer")
        assert page.locator("#working").is_visible()
        page.get_by_text("Cancel").click()
        wait_for(page, "^Cancelled")
        network.go.set()
        page.get_by_text("Try again").click()
        wait_for(page, "^Grade 0")


@pytest.mark.slow  # seconds of a browser
def test_a_token_is_asked_for_and_not_stored(
    predictor: Predictor, open_page: Any, eyes: list[str]
) -> None:
    with running(predictor, token=TOKEN) as server:
        page = open_page(server)
        page.get_by_label("This server needs a token").fill("wrong-token-wrong-token")
        page.get_by_text("Continue").click()
        wait_for(page, "^The token is wrong")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.locator("#token-form").wait_for(state="hidden")
        page.set_input_files("#files", eyes[1])
        wait_for(page, "^Grade 1")
        assert (
            page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length")
            == 0
        )


@pytest.mark.slow  # seconds of a browser
def test_it_fits_a_narrow_window_in_the_dark_and_has_an_order_for_the_keyboard(
    server: TestServer, open_page: Any, eyes: list[str]
) -> None:
    page = open_page(server, viewport={"width": 320, "height": 640}, color_scheme="dark")
    page.set_input_files("#files", eyes)
    wait_for(page, "^Grade 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    (colour,) = re.findall(
        r"rgb\((\d+)", page.evaluate("getComputedStyle(document.body).background")
    )
    assert int(colour) < 60
    names = []
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert names == ["files", "swap", "explain", "SUMMARY", "BODY"]


@pytest.mark.slow  # seconds of a browser
def test_a_photograph_can_be_dropped_and_pasted(
    server: TestServer, open_page: Any, eyes: list[str]
) -> None:
    page = open_page(server)
    script = """([kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], 'eye.png', { type: 'image/png' }));
      const init = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
      const Kind = kind === 'drop' ? DragEvent : ClipboardEvent;
      document.body.dispatchEvent(new Kind(kind, init));
    }"""
    for kind, eye, grade in (("drop", eyes[1], 1), ("paste", eyes[0], 0)):
        page.evaluate(script, [kind, list(Path(eye).read_bytes())])
        wait_for(page, f"^Grade {grade}")


@pytest.mark.slow  # seconds of a browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(
    server: TestServer, open_page: Any, eyes: list[str], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing").Axe
    page = open_page(server, color_scheme=scheme, bypass_csp=True)  # axe is a script of the test
    first = axe().run(page).response
    assert len(first["passes"]) > 10
    barriers = {item["id"] for item in first["violations"]}
    page.set_input_files("#files", eyes)
    wait_for(page, "^Grade 1")
    page.get_by_text("Show where the network looked").click()
    page.get_by_alt_text("Where the network looked").first.wait_for()
    page.get_by_text("About this model").click()
    barriers |= {item["id"] for item in axe().run(page).response["violations"]}
    assert barriers == set()
