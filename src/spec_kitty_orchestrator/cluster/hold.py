"""The task of an attempt: it holds the slot and does nothing else, so it may run twice, or nowhere.

It is sent by its source text, because a scheduler need not have this package.
"""

__all__ = ["hold"]


async def hold(attempt_id: str) -> str:
    """Wait as a coroutine until the attempt has ended on this machine; return why it waits no more."""
    from distributed import get_worker

    said: str = await get_worker().extensions["spec-kitty-orchestrator"](attempt_id)
    return said
