"""The page in a real browser; no request may leave this machine."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from board.conftest import write_runs
from sightx.board.export import export_board
from sightx.board.server import Server
from sightx.run_registry.listing import Query, query_runs
from sightx.runs import lock
from support.run_folders import RECORDED, replace_json, write_run

WHY = "make test-extras installs playwright"
playwright = pytest.importorskip("playwright.sync_api", reason=WHY)
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,  # a browser takes seconds to start
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
    pytest.mark.filterwarnings("default"),
]
QUESTIONS = (
    "", "seed = 1", "model.use = resnet50 and (accuracy > 0.5 or lr < 0.003)", "not seed in (1, 2)",
    "name ~ litt* and model.use != 'resnet50'", "test/accuracy is missing", "seed is not missing",
    "started > 2020-01-01 and seconds < 2h", "@none", "accuracy >= 0.25 and accuracy <= 0.75",
    "status not in (failed, running) or @none",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update"]  # fmt: skip
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("board") / "runs"
    write_runs(root, 1000)
    return root


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    with Server(root, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Open an address; what it asks for elsewhere, and errors of its scripts, fail the test."""
    contexts, faults = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "400" not in message.text:  # a filter that is not complete
            faults.append(message.text)

    def open_page(address: str, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        start = address.partition("#")[0].rpartition("/")[0]
        page.on("request", lambda r: r.url.startswith((start, "data:")) or faults.append(r.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", note)
        page.goto(address)
        page.wait_for_selector("#runs tbody tr[aria-selected]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def count(page: Any, text: str) -> None:
    playwright.expect(page.locator("#count")).to_contain_text(text)


def is_drawn(page: Any, number: int) -> bool:
    """Return whether a canvas has pixels of several colours."""
    pixels = page.locator(".plot canvas").nth(number).screenshot()
    return len(set(pixels)) > 200


def test_a_thousand_runs_are_filtered_sorted_folded_and_drawn(
    server: Server, open_page: Any
) -> None:
    page = open_page(server.url)
    count(page, "1,000 of 1,000 runs")
    assert page.locator("#runs tbody tr").count() < 100  # only those that can be seen
    page.wait_for_selector(".plot canvas")
    assert is_drawn(page, 0)
    page.fill("#where", "model.use = resnet50 and lr > 0.001")
    listing = query_runs(server.root, Query((), "model.use = resnet50 and lr > 0.001"))
    count(page, f"{listing.matching} of 1,000 runs")
    assert "where=model.use" in page.url
    page.fill("#where", "seed = 1 and modle.use = a")
    playwright.expect(page.locator("#error")).to_contain_text("did you mean 'model.use'")
    assert page.inner_text("#error").splitlines()[1].index("^") == 13
    page.fill("#where", "")
    count(page, "1,000 of")
    page.check("#fold")
    count(page, "6 groups of 1,000 runs")
    playwright.expect(page.locator("#runs tbody tr").first).to_contain_text("±")
    legend = page.locator(".plot").first.locator(".legend")
    playwright.expect(legend).to_contain_text("use resnet50, lr 0.01")
    page.fill("#smooth", "0.8")
    assert "smooth=0.8" in page.url
    page.click("#runs th button:has-text('validation/accuracy')")
    playwright.expect(page.locator("th[aria-sort]")).to_contain_text("validation/accuracy")


def test_the_address_is_the_view_and_a_run_has_its_files(server: Server, open_page: Any) -> None:
    first, second = "20260131-000007-little", "20260131-000008-little"
    (server.root / first / "report.html").write_text("<h1>report</h1>")
    page = open_page(
        f"{server.url}#where=lr<0.02&runs={first},{second}&run={first}&x=minutes&log=1"
    )
    playwright.expect(page.locator("#run h2")).to_have_text(first)
    assert (
        page.locator("#run a:has-text('report')").get_attribute("href")
        == f"run/{first}/report.html"
    )
    assert page.locator(".plot").first.locator(".legend span.swatch").count() == 2
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#run")).to_be_hidden()
    assert page.input_value("#x") == "minutes"


def test_a_run_that_trains_grows_without_a_reload(tmp_path: Path, open_page: Any) -> None:
    write_runs(tmp_path / "runs", 3)
    run = write_run(tmp_path / "runs", "999999-live", {"training.epochs": 9}, status="")
    rows = [{"epoch": n, "step": n, "seconds": 1, "train/loss": 1 / n} for n in range(1, 10)]
    file = run / "metrics.jsonl"
    file.write_text(json.dumps(rows[0]) + "\n")
    with Server(tmp_path / "runs", 0) as server, lock.run_lock(run):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        page = open_page(server.url)
        count(page, "1 running")
        line = page.locator("#runs tbody tr:has-text('live')")
        playwright.expect(line).to_contain_text("1/9")
        with file.open("a") as stream:
            stream.write(json.dumps(rows[1]) + "\n")
        playwright.expect(line).to_contain_text("2/9", timeout=15000)
        legend = page.locator(".plot:has-text('train/loss') .legend span:has-text('live')")
        playwright.expect(legend).to_contain_text("0.5")
        result = json.loads((RECORDED / "result.json").read_bytes())
        replace_json(run / "result.json", result)
        playwright.expect(line).to_contain_text("finished", timeout=15000)
        server.shutdown()
        thread.join()


def test_the_exported_page_answers_like_list_runs(tmp_path: Path, open_page: Any) -> None:
    root, folder = tmp_path / "runs", tmp_path / "exported"
    write_runs(root, 60)
    write_run(root, "unfinished", {"seed": 7}, status="")
    assert export_board(root, folder) == 61
    page = open_page((folder / "index.html").as_uri())
    for question in QUESTIONS:
        for fold in ((), ("seed",)):
            expected = query_runs(root, Query((), question, "accuracy", fold)).rows
            parameters = {"where": question, "fold": ",".join(fold), "sort": "accuracy"}
            rows = page.evaluate("p => Offline.answer('runs', p).rows", parameters)
            assert [tuple(row["ids"]) for row in rows] == [row.ids for row in expected], question
            for row, wanted in zip(rows, expected, strict=True):
                for key, spread in wanted.spreads.items():
                    assert row["spreads"][key] == pytest.approx(list(spread)), key
    page.fill("#where", "sede = 1")
    playwright.expect(page.locator("#error")).to_contain_text("no run has 'sede'")
    page.fill("#where", "lr > resnet50")
    refused = "'resnet50' cannot be compared with optimizer.lr"
    playwright.expect(page.locator("#error")).to_contain_text(refused)
    page.fill("#where", "seed = 1")
    count(page, "12 of 61 runs")
    page.click("#runs tbody a >> nth=0")
    playwright.expect(page.locator("#run h2")).to_contain_text("-little")


def test_the_page_fits_a_phone_and_the_keyboard(server: Server, open_page: Any) -> None:
    page = open_page(server.url, color_scheme="dark", reduced_motion="reduce")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_selector(".plot canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.focus("#runs tbody input >> nth=0")
    page.keyboard.press("Space")
    playwright.expect(page.locator("#runs tbody input").first).not_to_be_checked()
    playwright.expect(page.locator("#runs tbody input").first).to_be_focused()
