"""Suites for parts of one's own: a class for each port, which pytest runs in a test file of the author's.

    from spec_kitty_orchestrator.testing import JournalContract

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def open_journal(self, tmp_path):
            return lambda: MyJournal(tmp_path)

Each class names the fixtures that it wants. Every test of it is one promise of the port; our own parts are
tested by the same classes.

The asynchronous tests and fixtures run with the pytest plugin of anyio, which is there wherever this package
is: nothing has to be configured or marked, and fixtures of a subclass may be `async def`. Beside
pytest-asyncio they run too, in its strict mode by anyio's plugin, in its auto mode by pytest-asyncio. They
run on asyncio; for another event loop a subclass has a fixture `anyio_backend` of its own.
"""

from pkgutil import iter_modules

try:
    import pytest
except ImportError as _missing:
    raise ImportError(
        "the suites of spec_kitty_orchestrator.testing need pytest: install it beside your tests"
    ) from _missing

__all__ = ["LIMIT_S", "Contract"]

# What a failed promise compared is shown as in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{one.name}" for one in iter_modules(__path__)))

LIMIT_S = 30.0
"""Bounds each wait of a suite, in seconds: far beyond what any part should take."""


class Contract:
    """What all suites have in common: they run on asyncio, by anyio's plugin."""

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"
