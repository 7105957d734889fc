"""What reviewers want changed as SARIF 2.1.0, for code scanning: relative paths, lasting fingerprints."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from spec_kitty_orchestrator.core.findings import Open, Severity, still_open
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["sarif"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_RULES: Mapping[Severity, str] = {
    Severity.ERROR: "A reviewer found an error that must be mended before the work package is approved",
    Severity.WARNING: "A reviewer wants something changed",
    Severity.NOTE: "A reviewer remarks on something",
}


def sarif(report: Report, texts: Texts, version: str) -> str:
    """Return the findings of each work package's last review; `version` is ours."""
    found = [one for one in still_open(report) if not one.gate]
    driver = {
        "name": "spec-kitty-orchestrator",
        "version": version,
        "rules": [_rule(severity, text) for severity, text in _RULES.items()],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"spec-kitty-orchestrator/{texts.line(report.mission)}/"},
        "columnKind": "unicodeCodePoints",
        "results": _results(found, report, texts),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(severity: Severity, text: str) -> dict[str, Any]:
    return {
        "id": _rule_id(severity),
        "name": f"Review{severity.name.title()}",
        "shortDescription": {"text": text},
        "help": {"text": f"{text}. The message says what, and the work package's file what it is for."},
        "defaultConfiguration": {"level": str(severity)},
    }


def _rule_id(severity: Severity) -> str:
    return f"review/{severity}"


def _results(found: Sequence[Open], report: Report, texts: Texts) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for one in found:
        finding, wp = one.finding, one.wp.id
        file, message = texts.file(finding.file), texts.line(finding.message, 4000)
        # Where the line moves it is the same finding; twice the same in one file are two.
        named = sha256("\0".join((report.mission, wp, file, message)).encode()).hexdigest()[:32]
        seen[named] += 1
        region = {"region": {"startLine": finding.line}} if file and finding.line else {}
        place = {"artifactLocation": {"uri": quote(file or _task_file(one, report, texts))}, **region}
        results.append(
            {
                "ruleId": _rule_id(one.severity),
                "ruleIndex": list(_RULES).index(one.severity),
                "level": str(one.severity),
                "message": {"text": f"{texts.line(wp)}: {message}"},
                "locations": [{"physicalLocation": place}],
                "partialFingerprints": {"primaryLocationLineHash": f"{named}:{seen[named]}"},
                "properties": {
                    "workPackage": texts.line(wp),
                    "severity": texts.line(finding.severity),
                    "reviewer": texts.line(one.by),
                    "commit": one.head,
                },
            }
        )
    return results


def _task_file(one: Open, report: Report, texts: Texts) -> str:
    """Return where a finding without a file is shown: a result without a place is refused."""
    space = one.wp.situation.wp.workspace
    file = texts.file(space.prompt_path) if space is not None else ""
    return file or str(PurePath("kitty-specs", texts.file(report.mission) or "mission", "tasks.md"))
