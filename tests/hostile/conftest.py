from tests.e2e.conftest import project
from tests.machine.conftest import attempt_id, children, lane

__all__ = ["attempt_id", "children", "lane", "project"]
