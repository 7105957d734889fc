"""The tools that CLIs give their models, by name: what each does, and how a call of it is told to people."""

import re
import shlex
from collections.abc import Mapping

from spec_kitty_orchestrator.agents.json_lines import Event, text

__all__ = ["HARMLESS", "told_call"]

RUNS = frozenset(
    {
        *("bash", "shell", "run_shell_command", "exec_command", "launch-process", "powershell", "zsh"),
        *("local_shell", "run_terminal_cmd", "background_process", "execute"),
    }
)
EDITS = frozenset(
    {
        *("write", "edit", "multiedit", "notebookedit", "write_file", "replace", "create", "delete"),
        *("str_replace_editor", "str-replace-editor", "apply_patch", "save-file", "remove-files"),
        *("notebook_edit", "patch", "insert", "create_file", "edit_file", "delete_file"),
    }
)
READS = frozenset(
    {
        *("read", "grep", "glob", "ls", "list", "view", "find", "lsp", "codesearch", "read_file"),
        *("read_many_files", "list_directory", "search_file_content", "grep_search", "notebookread"),
        *("list_dir", "file_search", "codebase_search", "read_lints", "semsearch", "codebase-retrieval"),
    }
)
HARMLESS = READS | frozenset(
    {
        *("websearch", "webfetch", "todowrite", "todoread", "toolsearch", "skill", "google_web_search"),
        *("web_fetch", "save_memory", "todo_write", "tool_search", "update_goal", "report_intent"),
        *("fetch_copilot_cli_documentation", "update_todo"),
    }
)
"""Tools that neither change nor run anything; whatever is not known may do either. All in lower letters."""

_COMMAND = ("command", "cmd", "script", "code")
_PATTERN = ("pattern", "query", "regex", "symbol")
_PATH = (
    *("file_path", "filePath", "absolute_path", "notebook_path", "target_file", "filename", "path"),
    *("relative_workspace_path", "dir_path", "target_directory", "directory", "globPattern"),
)
_ABOUT = ("description", "url", "query", "prompt", "subject", "skill", "name", "title", "summary")
_PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_LONGEST_PATCH = 64 * 1024
_SHELL = re.compile(r"\S*\b(?:ba|z|da)?sh -l?c ")
_LONGEST_COMMAND = 16 * 1024


def told_call(tool: str, given: Event) -> tuple[str, str]:
    """Return the word for what a call of a tool does, and to what: ``runs``, ``edits``, ``reads``, ``uses``.

    Args:
        tool: its name.
        given: its arguments.
    """
    name = tool.lower()
    command = _first(given, _COMMAND) or _words(given.get("command"))
    if name in RUNS and command:
        return "runs", without_shell(command)
    pattern, path = _first(given, _PATTERN), _first(given, _PATH)
    if name in EDITS and (edited := path or _patched(given)):
        return "edits", edited
    if name in READS and (pattern or path):
        return "reads", f"{pattern} in {path}" if pattern and path else pattern or path
    about = _first(given, (*_ABOUT, *_COMMAND, *_PATTERN, *_PATH))
    return "uses", f"{tool} {about}".strip()


def without_shell(command: str) -> str:
    """Return what a shell is told to run, where the command is nothing but a call of one."""
    if len(command) <= _LONGEST_COMMAND and _SHELL.match(command):
        try:
            words = shlex.split(command)
        except ValueError:
            return command
        if len(words) == 3:
            return words[2]
    return command


def _first(given: Event, names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := text(given, name).strip())), "")


def _words(value: object) -> str:
    """Write a command that is a list of words."""
    words = [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
    return shlex.join(words)


def _patched(given: Mapping[str, object]) -> str:
    """Return the files that a patch names in its own lines."""
    patches = (one[:_LONGEST_PATCH] for one in given.values() if isinstance(one, str))
    return ", ".join(dict.fromkeys(path for one in patches for path in _PATCHED.findall(one)))
