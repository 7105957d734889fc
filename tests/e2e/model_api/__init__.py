"""A stand-in for the models' APIs, so that the agents' real CLIs work without an account or a network.

It plays the model by what our own prompts ask on their top lines: an implementer writes the file that the
work package is to create, ticks the subtasks as it was told and reports them; a reviewer looks at the range,
tries to write into the worktree (its CLI must refuse that) and gives its verdict. It makes one tool call a
turn; the number of results in the conversation says which is next.

`dialects` holds one file for each API; `tools` knows what the CLIs call their tools.
"""

from tests.e2e.model_api.dialects.spec import INPUT_TOKENS, OUTPUT_TOKENS
from tests.e2e.model_api.server import Fault, ModelApi, model_api
from tests.e2e.model_api.tasks import FORBIDDEN_FILE

__all__ = ["FORBIDDEN_FILE", "INPUT_TOKENS", "OUTPUT_TOKENS", "Fault", "ModelApi", "model_api"]
