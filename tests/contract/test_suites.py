"""The suites in a test file of an author's, with whatever plugin is there, and the fakes without pytest."""

import subprocess
import sys

import pytest

from spec_kitty_orchestrator import testing

pytest_plugins = ["pytester"]

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
