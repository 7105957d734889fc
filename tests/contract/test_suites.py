"""The suites in a test file of an author's, with whatever plugin is there, and the fakes without pytest."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spec_kitty_orchestrator import testing

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

FILE = """
import anyio
import pytest
from spec_kitty_orchestrator.testing import JournalContract, MemoryJournal

class Forgetful(MemoryJournal):
    async def read(self):
        return (await super().read())[1:]

class TestGood(JournalContract):
    @pytest.fixture
    async def open_journal(self):
        async with anyio.create_task_group():
            journal = MemoryJournal()
            yield lambda: journal

class TestWrong(JournalContract):
    @pytest.fixture
    def open_journal(self):
        journal = Forgetful()
        return lambda: journal

class TestHalf(JournalContract):
    pass
"""


OPTIONS = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.mark.parametrize(
    "plugins",
    [(), ("-p", "pytest_asyncio", *OPTIONS)],
    ids=["anyio alone", "pytest-asyncio in its auto mode"],
)
def test_a_suite_runs_in_a_test_file_that_configures_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, plugins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(FILE)
    two = "test_a_new_journal_is_empty or test_lines_are_read_in_the_order"
    found = pytester.runpytest_inprocess("-p", "anyio", *plugins, "-k", two)
    found.assert_outcomes(passed=3, failed=1, errors=2, deselected=3 * 11)
    found.stdout.fnmatch_lines(["*TestWrong::test_lines_are_read_in_the_order_in_which_they_were_appended*"])
    found.stdout.fnmatch_lines(["*give the class a fixture open_journal that returns such a function"])
    found.stdout.fnmatch_lines(["E *At index 0 diff: *"])


ONE_OF_EACH = (
    *("a_new_journal_is_empty", "no_output_is_no_result", "opening_an_attempt_starts_nothing"),
    *("told_of_before_it_begins", "keeps_nobody_who_depends_on_it", "free_when_it_was_left", "comes_once"),
)


def test_the_examples_of_the_documentation_are_a_test_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    page = (ROOT / "docs" / "testing.md").read_text()
    pytester.makepyfile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    found = pytester.runpytest_inprocess("-p", "anyio", "-k", " or ".join(ONE_OF_EACH))
    # The journal is tried on trio too.
    assert {**found.parseoutcomes(), "deselected": 0} == {"passed": len(ONE_OF_EACH) + 1, "deselected": 0}


WITHOUT = """
import sys
sys.modules["pytest"] = None
from spec_kitty_orchestrator import testing
missing = []
for name in testing.__all__:
    try:
        getattr(testing, name)
    except ImportError as error:
        assert "need pytest: install it beside your tests" in str(error), error
        missing.append(name)
print(*missing)
"""


def test_without_pytest_the_fakes_are_there_and_a_suite_says_what_it_needs() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    missing = set(done.stdout.split())
    assert missing >= {name for name in testing.__all__ if name.endswith("Contract")}
    assert not {"FakeHost", "MemoryJournal", "check_contract"} & missing


def test_the_public_names_are_sorted_exist_and_are_documented() -> None:
    assert list(testing.__all__) == sorted(set(testing.__all__))
    things = [getattr(testing, name) for name in testing.__all__]
    assert [one for one in things if isinstance(one, type) and not (one.__doc__ or "").strip()] == []
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = testing.nonsense
    assert {*testing.__all__} <= {*dir(testing)}
