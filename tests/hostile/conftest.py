from tests.e2e.conftest import project
from tests.machine.conftest import attempt_id, children, lane, never_blocks

__all__ = ["attempt_id", "children", "lane", "never_blocks", "project"]
