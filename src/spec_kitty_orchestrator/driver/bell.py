"""How one task tells another that something changed."""

import anyio


class Bell:
    """Rung by anybody, heard by one task: what rings while it is busy is heard when it waits next."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake who waits, or let the next wait end at once."""
        self._rung.set()

    async def wait(self) -> None:
        """Wait until it rang since the last wait ended."""
        await self._rung.wait()
        self._rung = anyio.Event()
