"""The task of an attempt: it holds the slot and does nothing else, so it may run twice, or nowhere.

It is sent as Python's code, because a scheduler need not have this package.
"""

__all__ = ["hold"]


async def hold(attempt_id: str, key: str) -> None:
    """Wait as a coroutine until the attempt has ended on this machine.

    Raises `RuntimeError` with why it waits no more: a result would be computed again when its worker goes.
    """
    from distributed import get_worker

    worker = get_worker()

    def is_wanted() -> bool:
        # A worker lets the body of a task go on that the scheduler has canceled.
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    raise RuntimeError(await worker.extensions["spec-kitty-orchestrator"](attempt_id, is_wanted))
