"""A report as Markdown for the summary of a CI job, where GitHub's dialect shows it.

What others said cannot mention anybody, link anywhere or leave its place. GitHub takes at most 1 MiB; long
before that the page tells more.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.describe import duration
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.views.report.graph import reduced
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.report.words import outcome, tokens

MOST_BYTES = 60_000
MOST_DRAWN = 99
"""Work packages in one picture: more of them nobody can read."""

_BREAK = "\u200b"
"""Has no width, and keeps what stands around it from being a mention or an address."""

SIGNS = {
    Status.NEEDS_YOU: "🔴",
    Status.CUT_OFF: "🟠",
    Status.RUNNING: "🔵",
    Status.WAITING: "⚪",
    Status.HELD_UP: "🟡",
    Status.LEFT_OUT: "⚫",
    Status.DONE: "✅",
}
_COLOURS = {
    Status.NEEDS_YOU: "stroke:#c4281c,stroke-width:3px",
    Status.CUT_OFF: "stroke:#8a5300",
    Status.RUNNING: "stroke:#0a58ca,stroke-width:3px",
    Status.WAITING: "stroke-dasharray:2 3",
    Status.HELD_UP: "stroke:#8a5300,stroke-dasharray:4 3",
    Status.LEFT_OUT: "stroke-dasharray:2 3",
    Status.DONE: "stroke:#17733b",
}

_ACTS = re.compile(r"([\\`*_\[\]|~$])")
_BEGINS = re.compile(r"^(?=[-+=>]|\d+[.)])")
_ADDRESS = re.compile(r"(?i)(https?|ftp|mailto|file)(?=:)|(?<![a-z])(www)(?=\.)")
_IN_A_BOX = re.compile(r"[^\w ,.;…/+-]")


def escaped(text: str) -> str:
    """Return one line of text as Markdown that shows it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _ADDRESS.sub(lambda found: f"{found[0]}{_BREAK}", _ACTS.sub(r"\\\1", text))
    # A name behind an @ or a number behind a hash would be a link; what begins a list is none behind a break.
    return _BEGINS.sub(_BREAK, text.replace("@", f"@{_BREAK}").replace("#", f"#{_BREAK}"))


def fenced(text: str, language: str = "") -> str:
    """Return lines as code, in a fence that none of them can end."""
    longest = max((len(one) for one in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def markdown(report: Report, texts: Texts) -> str:
    """Return the report, up to a bound."""
    blocks, size = [], 0
    for block in _blocks(report, texts):
        size += len(block.encode()) + 2
        if size > MOST_BYTES:
            blocks.append("This is not all: `report.html` beside the journal tells the rest.")
            return "\n\n".join(blocks) + "\n"
        blocks.append(block)
    blocks.append("The whole report: `report.html` beside the journal.")
    return "\n\n".join(blocks) + "\n"


def _blocks(report: Report, texts: Texts) -> Iterator[str]:
    worst = min(
        (one.situation.status for one in report.wps), key=lambda one: one.rank, default=Status.WAITING
    )
    yield f"### {SIGNS[worst]} {escaped(texts.line(report.headline))}."
    yield _figures(report, texts)
    if ended := "" if report.active else advice.why_ended(report):
        yield f"The run ended before its work was done: {escaped(texts.note(ended))}"
    for need in advice.needs(report):
        yield _need(need, texts)
    if following := advice.go_on(report):
        yield fenced("\n".join(texts.line(command, 1000) for _, command in following))
    yield _table(report, texts)
    if any(one.situation.wp.dependencies for one in report.wps) and len(report.wps) <= MOST_DRAWN:
        yield _folded("Dependencies", _graph(report, texts))
    if workers := statistics.workers(report):
        yield _folded("Agents", _agents(workers, texts))
    for wp in sorted(report.wps, key=lambda one: one.id):
        if told := list(_trouble(wp, texts)):
            yield _folded(f"{escaped(texts.line(wp.id))}: {_counts(wp)}", "\n".join(told))


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _figures(report: Report, texts: Texts) -> str:
    workers = statistics.workers(report)
    silent = sorted({escaped(texts.line(one.agent)) for one in workers if one.costs_unknown})
    used = report.state.told
    cost = statistics.told_cost(used, sum(one.costs_unknown for one in workers))
    short, more = outcome(report)
    parts = [
        f"`{texts.line(report.mission).replace('`', '')}`",
        f"{short} ({more})" if more else short,
        duration(report.took_s),
        f"{len(report.attempts)} attempts",
        escaped(cost) + (f" ({', '.join(silent)}: not reported)" if silent else ""),
        f"{tokens(used.tokens)} tokens",
    ]
    return " · ".join(parts)


def _need(need: advice.Need, texts: Texts) -> str:
    ids = ", ".join(escaped(texts.line(one.id)) for one in need.wps)
    title = f": {escaped(texts.line(need.wps[0].title, 200))}" if len(need.wps) == 1 else ", for one reason"
    held = dict.fromkeys(one for wp in need.wps for one in wp.situation.holds_up)
    them = "it" if len(need.wps) == 1 else "them"
    verb = "waits" if len(held) == 1 else "wait"
    waits = f" {', '.join(escaped(texts.line(one)) for one in held)} {verb} for {them}." if held else ""
    lines = [f"#### {ids}{title}", "", f"{escaped(texts.note(need.reason)).rstrip('.')}.{waits}", ""]
    if need.last_rejection is not None:
        lines += [*_findings(need.last_rejection, texts), ""]
    commands = "\n".join(texts.line(command, 1000) for _, command in need.steps)
    return "\n".join([*lines, fenced(commands)])


def _findings(verdict: Verdict, texts: Texts, indent: str = "") -> Iterator[str]:
    for one in verdict.findings:
        told = " ".join(
            filter(None, (escaped(texts.line(one.place, 200)), escaped(texts.line(one.message, 1000))))
        )
        severity = f"**{escaped(texts.line(one.severity, 40))}** " if one.severity else ""
        yield f"{indent}- {severity}{told}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(report: Report, texts: Texts) -> str:
    chain = set(report.chain)
    lines = [
        "| state | WP | title | took | attempts | rejected | cost | approved by, or waits |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for wp in report.wps:
        status = wp.situation.status
        rejected, _, red = statistics.mishaps(wp)
        done = status is Status.DONE
        told = statistics.approved_by(wp) if done else advice.reason(wp)
        unknown = sum(one.outcome is not None and one.usage.cost_usd is None for one in wp.attempts)
        cells = (
            f"{SIGNS[status]} {status}",
            escaped(texts.line(wp.id, 60)) + " ◆" * (wp.id in chain),
            escaped(texts.line(wp.title, 90)),
            duration(wp.worked_s) if wp.attempts else "",
            str(len(wp.attempts) or ""),
            str(rejected or "") + f" +{red} red" * bool(red),
            escaped(statistics.told_cost(wp.usage, unknown)) if wp.attempts else "",
            escaped(texts.note(told, 120)),
        )
        lines.append(_row(cells))
    return "\n".join(lines)


def _graph(report: Report, texts: Texts) -> str:
    """Draw it with names of our own for the boxes, and nothing but words in them."""
    ordered = sorted(report.wps, key=lambda one: one.id)
    names = {one.id: f"w{place}" for place, one in enumerate(ordered)}
    on_chain = set(zip(report.chain, report.chain[1:], strict=False))
    lines = ["flowchart LR"]
    for one in ordered:
        inside = [f"{one.situation.status.glyph} {_boxed(texts.line(one.id, 40))}"]
        inside += [_boxed(texts.line(one.title, 28))] if one.title else []
        lines.append(f'  {names[one.id]}["{"<br>".join(inside)}"]:::{_class(one.situation.status)}')
    for wp_id, needed in reduced({one.id: one.situation.wp.dependencies for one in ordered}).items():
        lines += [
            f"  {names[need]} {'==>' if (need, wp_id) in on_chain else '-->'} {names[wp_id]}"
            for need in needed
        ]
    used = dict.fromkeys(one.situation.status for one in ordered)
    lines += [f"  classDef {_class(one)} {_COLOURS[one]}" for one in used]
    chain = " → ".join(escaped(texts.line(one)) for one in report.chain)
    told = f"\n\n◆ and thick arrows: the longest chain, {chain}." if report.chain else ""
    return fenced("\n".join(lines), "mermaid") + told


def _boxed(text: str) -> str:
    return " ".join(_IN_A_BOX.sub(" ", text).split())


def _class(status: Status) -> str:
    return status.name.lower()


def _agents(workers: Sequence[statistics.Worker], texts: Texts) -> str:
    lines = [
        "| agent | role | attempts | working | median | result | tokens | cost |",
        "|---|---|--:|--:|--:|---|--:|--:|",
    ]
    for one in workers:
        used = one.usage
        cells = (
            escaped(texts.line(one.agent, 60)),
            str(one.role),
            str(len(one.attempts)),
            duration(sum(one.times)),
            duration(one.median_s),
            one.results,
            tokens(used.tokens),
            escaped(statistics.told_cost(used, one.costs_unknown)),
        )
        lines.append(_row(cells))
    return "\n".join(lines)


def _counts(wp: WpReport) -> str:
    rejected, failed, red = statistics.mishaps(wp)
    parts = ((rejected, "rejected"), (failed, "failed"), (red, "gate red" if red == 1 else "gates red"))
    return ", ".join(f"{number} {word}" for number, word in parts if number)


def _trouble(wp: WpReport, texts: Texts) -> Iterator[str]:
    for one in wp.attempts:
        if one.bad:
            agent = escaped(texts.line(one.attempt.agent, 60))
            came_to = escaped(texts.note(one.came_to(active=False), 400))
            yield f"- attempt {one.attempt.number}, {agent}: {came_to}"
            if one.bad == "rejected" and one.verdict is not None:
                yield from _findings(one.verdict, texts, "  ")
    for gate in wp.gates:
        if not gate.result.ok:
            yield f"- gate {escaped(texts.line(gate.result.name))} is red on `{gate.result.head[:10]}`"
            if gate.tail:
                yield f"\n{fenced(texts.block(gate.tail, 1500).rstrip())}\n"
