"""The page of a report in a browser: at every width, in light and dark, by keyboard, without harm."""

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright
from tests.conftest import skip_unless_here
from tests.journals import ROOT, SLUG, Comes, Player, large, played, rejected

from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.run_events import Line
from spec_kitty_orchestrator.core.verdict import Finding
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.report.page import page as written
from spec_kitty_orchestrator.views.report.texts import Texts

MOST_BYTES = 400_000
EVIL = '<script>document.title=1</script>"><img src=x onerror=alert(1)>]]></style><!--'
NEEDS = {
    "WP01": (),
    "WP02": ("WP01",),
    "WP03": ("WP01",),
    "WP04": ("WP02", "WP03"),
    "WP05": ("WP02",),
    "WP06": ("WP04",),
}
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
HANDLERS = """[...document.querySelectorAll('*')].flatMap(one => [...one.attributes])
    .filter(one => /^on|^style$/.test(one.name)).length"""


def troubled() -> list[Line]:
    """Return a journal with two starts, a red gate, a rest, and what needs a person."""
    again = Comes(
        findings=(Finding("critical", "It is read whole into memory", "a.py", 3),), summary="Too large"
    )
    scripts = {
        "WP01": (Comes(seconds=95), Comes()),
        "WP02": (Comes(red="tests", tail="E   assert 1 == 2"), Comes(), rejected(3), Comes(), Comes()),
        "WP03": (Comes(Outcome.RATE_LIMITED, detail="usage limit reached"), Comes(), Comes()),
        "WP04": (Comes(), again, Comes(), again),
        "WP05": (
            Comes(Outcome.CRASHED, detail=EVIL),
            Comes(),
            Comes(findings=(Finding(EVIL, EVIL, EVIL, 1),)),
        ),
    }
    titles = {one: f"Part {one[2:]} of the import" for one in NEEDS} | {"WP05": EVIL}
    player = Player(NEEDS, scripts, titles, settings={"max_concurrent": 4, "actor": EVIL})
    player.begin()
    player.play(40)
    player.wait(3600)
    player.begin()
    player.play()
    player.end()
    return player.lines


def save(lines: list[Line], folder: Path) -> Path:
    report = record(lines).report(lines[-1].at, active=False)
    base = Path(ROOT, ".kittify", "orchestrator", SLUG)
    file = folder / "report.html"
    file.write_text(written(report, Texts(report, Redactor(), Path(ROOT), base), "0.2.0", str(base / "j")))
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    skip_unless_here("" if found else "there is no Chromium on PATH (apt-get install chromium)")
    with sync_playwright() as playwright:
        # In a container there is nothing that its own sandbox could be made of; it opens files of ours alone.
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(troubled(), tmp_path_factory.mktemp("small"))


class Opened:
    """A page and all that it did: requests besides itself, what its console said, and dialogs."""

    def __init__(
        self, browser: Browser, file: Path, width: int = 1280, scheme: Any = "light", **more: Any
    ) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        self.page: Page = context.new_page()
        self.did: list[str] = []
        self.page.on("console", lambda told: self.did.append(f"{told.type}: {told.text}"))
        self.page.on("pageerror", lambda error: self.did.append(f"error: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.did.append(f"request: {request.url}"))
        self.page.goto(file.as_uri())
        self.did.remove(f"request: {file.as_uri()}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.did.append("dialog")
        dialog.dismiss()

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 990, 800, 390, 320])
def test_it_fits_without_errors_or_requests(browser: Browser, small: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, small, width, scheme)
    opened.run(OPEN_ALL)
    assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.did == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nobody_is_kept_from_reading_it(browser: Browser, small: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, small, width, scheme)
    opened.run(OPEN_ALL)
    opened.run((resources.files("axe_playwright_python") / "axe.min.js").read_text())
    found = opened.run("axe.run().then(done => done.violations)")
    told = [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in found
    ]
    assert told == []


@pytest.mark.parametrize("bypass_csp", [False, True], ids=["with its policy", "with the policy switched off"])
def test_what_others_say_does_nothing(browser: Browser, small: Path, bypass_csp: bool) -> None:
    opened = Opened(browser, small, bypass_csp=bypass_csp)
    opened.run(OPEN_ALL)
    assert opened.page.title().startswith(SLUG)
    assert opened.run("document.scripts.length") == 1
    assert opened.run("document.images.length") == 0
    assert opened.run("document.querySelectorAll('style').length") == 1
    assert opened.run(HANDLERS) == 0
    assert opened.page.locator("#table").get_by_text(EVIL).count() == 1
    assert opened.did == []


def test_the_table_is_sorted_and_details_are_opened_by_keyboard(browser: Browser, small: Path) -> None:
    opened = Opened(browser, small)
    page = opened.page
    ids = "[...document.querySelectorAll('#table tbody tr')].map(row => row.cells[0].textContent)"
    page.locator("#table th button", has_text="WP").focus()
    page.keyboard.press("Enter")
    assert opened.run(ids) == sorted(NEEDS)
    page.keyboard.press("Enter")
    assert opened.run(ids) == sorted(NEEDS, reverse=True)
    assert page.locator("#table th").first.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    took = "[...document.querySelectorAll('#table tbody tr')].map(row => Number(row.cells[3].dataset.v))"
    assert opened.run(took) == sorted(opened.run(took))
    page.locator("#wp1 > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#wp1").get_attribute("open") is not None
    page.locator("#filter").focus()
    page.keyboard.type("wp03")
    assert page.locator(".wps .row:visible .id").all_inner_texts() == ["WP03"]
    page.locator("#open").focus()
    page.keyboard.press("Enter")
    assert page.locator("details.wp:not([open])").count() == 0


def test_a_link_to_a_work_package_opens_it(browser: Browser, small: Path) -> None:
    opened = Opened(browser, small)
    opened.page.locator("#table").get_by_role("link", name="WP02").click()
    opened.page.wait_for_selector("#wp2[open]")


def test_without_scripts_all_of_it_is_there(browser: Browser, small: Path) -> None:
    page = Opened(browser, small, java_script_enabled=False).page
    assert page.locator("#table tbody tr").count() == len(NEEDS)
    assert page.locator("button:visible, input:visible").count() == 0


def test_a_page_of_99_work_packages_and_600_attempts_is_small_and_opens_from_its_file(
    browser: Browser, tmp_path: Path
) -> None:
    lines = large()
    file = save(lines, tmp_path)
    assert file.stat().st_size <= MOST_BYTES
    opened = Opened(browser, file)
    assert opened.page.locator("#table tbody tr").count() == 99
    assert "608" in opened.page.locator(".cards").inner_text()
    assert opened.did == []


def test_a_mission_of_one_is_told_too(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, save(played({"WP01": ()}), tmp_path), 320)
    assert opened.run("document.documentElement.scrollWidth") <= 320
    assert opened.did == []
