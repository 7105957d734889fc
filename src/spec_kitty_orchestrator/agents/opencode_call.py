"""How `opencode run` is called, and the CLI that was forked from it: their variables differ in a prefix."""

import json
from collections.abc import Mapping

from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment, Permissions
from spec_kitty_orchestrator.core.model import Role

__all__ = ["IMPLEMENT_RULES", "PROVIDERS", "REVIEW_RULES", "allowed", "call"]

PROVIDERS = (
    *("ANTHROPIC_*", "OPENAI_*", "AZURE_*", "AWS_*", "GOOGLE_*", "VERTEX_*", "GEMINI_*", "GROQ_*"),
    *("MISTRAL_*", "DEEPSEEK_*", "XAI_*", "OPENROUTER_*", "TOGETHER_*", "FIREWORKS_*", "CEREBRAS_*"),
    *("MOONSHOT_*", "ZHIPU_*", "ZAI_*", "HF_TOKEN", "GITHUB_TOKEN", "CLOUDFLARE_*", "OLLAMA_*"),
)
"""Whichever provider it is configured for, it finds that one's key in the environment."""

IMPLEMENT_RULES: Mapping[str, str] = {"external_directory": "deny"}
REVIEW_RULES: Mapping[str, str] = {
    "edit": "deny",
    "bash": "deny",
    "external_directory": "deny",
    "webfetch": "deny",
    "websearch": "deny",
}
"""No shell for a reviewer: a rule that allows `git log*` allows `git log > file` anywhere on the disk too."""


def call(
    program: str, mode: str, prefix: str, rules: Mapping[str, str], task: Assignment, settings: AgentSettings
) -> AgentCommand:
    """Build the argv; the environment says what it may do, and outranks the user's own rules.

    The CLI works in the directory that `PWD` names and not in the one it was started in, so a `PWD` left over
    from our own shell would make it edit the wrong tree. Plugins, agents and servers of tools that the
    worktree names are the implementer's, and would run unasked in a review.

    Args:
        program: the CLI's, where the settings name none.
        mode: which of its agents works.
        prefix: of its variables.
        rules: what its tools may do.
        task: the attempt.
        settings: what the configuration says of the agent.
    """
    model = ("--model", settings.model) if settings.model else ()
    resumed = ("--session", task.session) if task.session else ()
    without_project = {f"{prefix}_DISABLE_PROJECT_CONFIG": "1"} if task.role is Role.REVIEW else {}
    return AgentCommand(
        argv=(
            settings.executable or program,
            "run",
            "--auto",
            "--agent",
            mode,
            "--format",
            "json",
            *resumed,
            *model,
            *settings.extra_args,
        ),
        env={**without_project, f"{prefix}_PERMISSION": json.dumps(rules), "PWD": str(task.workspace)},
        # Its log tells what its events leave out.
        default_env={f"{prefix}_PRINT_LOGS": "1", f"{prefix}_LOG_LEVEL": "ERROR"},
    )


def allowed(role: Role) -> Permissions:
    """Tell what argv and environment of a role allow its tools; commands are not confined."""
    if role is Role.REVIEW:
        return Permissions("auto", "read_only_tools", "none")
    return Permissions("auto", "none", "full")
