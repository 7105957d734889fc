from tests.machine.conftest import lane

__all__ = ["lane"]
