"""The pictures of the documentation, made by the program from a mission that is told by hand.

`python -m tests.views.pictures FOLDER` writes `live.svg`, `watch.svg` and, with a browser, `report.png`.
"""

import re
import shutil
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from playwright.sync_api import sync_playwright
from rich.console import Console
from tests.views.mission import POLICY, TITLES, Mission, Told, at, csv_import

from spec_kitty_orchestrator import __version__
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.run_events import Entry, RunStarted
from spec_kitty_orchestrator.machine.redaction import Redactor
from spec_kitty_orchestrator.views.live import LiveView
from spec_kitty_orchestrator.views.report.page import page
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.watch.screen import WatchApp

ELSEWHERE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts that a picture would load from somewhere; without them it takes the reader's."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def mission() -> Mission:
    """Return the mission of the pictures, whose titles are only titles."""
    told = csv_import()
    for place, line in enumerate(told.lines):
        if isinstance(line, RunStarted):
            plain = {**TITLES, "WP09": "Error report as HTML"}
            told.lines[place] = replace(line, mission=replace(line.mission, titles=plain))
    return told


def live() -> str:
    """Return the live table of a run."""
    console = Console(file=StringIO(), record=True, width=110, height=30, force_terminal=True)
    told, seconds = mission(), 0.0
    view = LiveView(console, lambda: seconds, lambda: at(seconds))
    recorder = record(())
    for line in sorted(told.lines, key=lambda one: one.at):
        recorder.take(line)
        if isinstance(line, RunStarted):
            view.began(line.mission)
        if isinstance(line, Entry):
            seconds = (line.at - at(0)).total_seconds()
            view.saw(recorder.state, line)
    seconds = 84.0
    console.print(view.table())
    return ELSEWHERE.sub("", console.export_svg(title="spec-kitty-orchestrator orchestrate"))


async def watch() -> str:
    """Return the screen of `watch`."""
    app = WatchApp(Told(mission(), 84.0))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        return ELSEWHERE.sub("", app.export_screenshot(title="spec-kitty-orchestrator watch"))


def report(target: Path) -> None:
    """Write the head of the report, as a browser shows it."""
    told = mission()
    told.ends(96, 130)
    lines = sorted(told.lines, key=lambda one: one.at)
    found = record(lines, POLICY).report(lines[-1].at, active=False)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        texts = Texts(found, Redactor([]), Path(folder), Path(folder))
        file.write_text(page(found, texts, __version__, str(file.with_name("journal.jsonl"))))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            shown = browser.new_page(viewport={"width": 1100, "height": 1500})
            shown.goto(file.as_uri())
            shown.screenshot(path=target)
            browser.close()


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "live.svg").write_text(live())
    (folder / "watch.svg").write_text(anyio.run(watch))
    if CHROMIUM is None:
        sys.exit("no chromium: report.png was not made; install it (apt-get install chromium)")
    report(folder / "report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
