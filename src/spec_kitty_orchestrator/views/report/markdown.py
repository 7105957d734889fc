"""A report as Markdown for the summary of a CI job, where GitHub's dialect shows it.

What others said cannot mention anybody, link anywhere or leave its place. GitHub takes at most 1 MiB; long
before that the page tells more.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from spec_kitty_orchestrator.core import advice, statistics
from spec_kitty_orchestrator.core.describe import count, duration
from spec_kitty_orchestrator.core.findings import red_gates
from spec_kitty_orchestrator.core.report import Report, WpReport
from spec_kitty_orchestrator.core.situation import Status
from spec_kitty_orchestrator.core.verdict import Verdict
from spec_kitty_orchestrator.views.report.mermaid import graph, timeline
from spec_kitty_orchestrator.views.report.texts import Texts
from spec_kitty_orchestrator.views.report.words import outcome, tokens

__all__ = ["MOST_BYTES", "fenced", "markdown"]

MOST_BYTES = 200_000
"""Pages of many folded parts are still read at once; GitHub takes five times as much."""
ENDS_BYTES = 400
LONGEST_TAIL = 1500

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
_ACTS = re.compile(r"([\\`*_\[\]|~$])")
_BEGINS = re.compile(r"^(?=[-+=>]|\d+[.)])")
_ADDRESS = re.compile(r"(?i)(https?|ftp|mailto|file)(?=:)|(?<![a-z])(www)(?=\.)")


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


def markdown(report: Report, texts: Texts, *, pictures: bool = True, most_bytes: int = MOST_BYTES) -> str:
    """Return the report, up to a bound; what is left out is counted.

    Args:
        report: to be told.
        texts: makes what others said fit to be shown.
        pictures: whether whoever shows it draws Mermaid.
        most_bytes: the bound.
    """
    room = most_bytes - ENDS_BYTES
    blocks = list(_first(report, texts, room // 3))
    room -= sum(map(_size, blocks))
    table = _table(report, texts, room // 2)
    room -= _size(table)
    blocks.append(table)
    folded = [*(_pictures(report, texts) if pictures else ())]
    if workers := statistics.workers(report):
        folded.append(_folded("Agents", _agents(workers, texts)))
    left = [len(folded), 0]
    for block in folded:
        if _size(block) <= room:
            blocks.append(block)
            room -= _size(block)
            left[0] -= 1
    # Tails of what is open are read; those of what is done are looked up.
    for wp in report.wps:
        if told := list(_trouble(wp, texts)):
            block = _folded(f"{escaped(texts.line(wp.id))}: {_counts(wp)}", "\n".join(told))
            if _size(block) > room:
                left[1] += 1
                continue
            blocks.append(block)
            room -= _size(block)
    return "\n\n".join((*blocks, _ends(*left))) + "\n"


def _size(block: str) -> int:
    return len(block.encode()) + 2


def _ends(pictures: int, wps: int) -> str:
    parts = [
        count(pictures, "section") if pictures else "",
        f"what went wrong with {count(wps, 'work package')}",
    ]
    left = " and ".join(filter(None, (parts[0], parts[1] * bool(wps))))
    told = f"Left out here: {left}. " if left else ""
    return f"{told}The whole report: `report.html` beside the journal."


def _first(report: Report, texts: Texts, room: int) -> Iterator[str]:
    """Yield how it stands and what a person must do, as far as there is room for that."""
    worst = min(
        (one.situation.status for one in report.wps), key=lambda one: one.rank, default=Status.WAITING
    )
    yield f"### {SIGNS[worst]} {escaped(texts.line(report.headline))}."
    yield _figures(report, texts)
    if ended := "" if report.active else advice.why_ended(report):
        yield f"The run ended before its work was done: {escaped(texts.note(ended))}"
    needs = advice.needs(report)
    for place, need in enumerate(needs):
        block = _need(need, texts)
        if _size(block) > room:
            left = [one.id for other in needs[place:] for one in other.wps]
            yield f"Also needs you, told in the report: {escaped(texts.line(', '.join(left), 1000))}"
            break
        room -= _size(block)
        yield block
    if following := advice.go_on(report):
        yield fenced("\n".join(texts.line(command, 1000) for _, command in following))


def _pictures(report: Report, texts: Texts) -> Iterator[str]:
    picture, left = timeline(report, texts)
    if picture:
        told = (
            "Light grey: in review; other bars: at work; red, or a red edge: failed, rejected, a red gate. "
        )
        told += "Time in which no run went on is cut out."
        yield _folded("Timeline", "\n\n".join(filter(None, (fenced(picture, "mermaid"), told, left))))
    if any(one.situation.wp.dependencies for one in report.wps):
        picture, left = graph(report, texts)
        chain = " → ".join(escaped(texts.line(one)) for one in report.chain)
        told = f"◆ and thick arrows: the longest chain, {chain}." if chain else ""
        yield _folded("Dependencies", "\n\n".join(filter(None, (fenced(picture, "mermaid"), told, left))))


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
    title = f": {escaped(texts.line(need.wps[0].title, 200))}" if need.wps[0].title else ""
    title = title if len(need.wps) == 1 else ", for one reason"
    held = dict.fromkeys(one for wp in need.wps for one in wp.situation.holds_up)
    them = "it" if len(need.wps) == 1 else "them"
    verb = "waits" if len(held) == 1 else "wait"
    waits = f" {', '.join(escaped(texts.line(one)) for one in held)} {verb} for {them}." if held else ""
    lines = [f"#### {ids}{title}", "", f"{escaped(texts.note(need.reason)).rstrip(' .:')}.{waits}", ""]
    if need.last_rejection is not None:
        lines += [*_findings(need.last_rejection, texts), ""]
    for gate in red_gates(need.wps[0]) if len(need.wps) == 1 else ():
        told = fenced(texts.block(gate.tail, LONGEST_TAIL).rstrip())
        lines += [_folded(f"What gate {escaped(texts.line(gate.by))} said", told), ""] if gate.tail else []
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


def _table(report: Report, texts: Texts, room: int) -> str:
    chain = set(report.chain)
    lines = [
        "| state | WP | title | took | attempts | rejected | cost | approved by, or waits |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    rows = []
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
        rows.append(_row(cells))
    fit = list(accumulate(map(_size, rows)))
    shown = rows[: bisect_right(fit, room)]
    left = len(rows) - len(shown)
    more = [f"\nLeft out here: {count(left, 'work package')}."] if left else []
    return "\n".join([*lines, *shown, *more])


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
    said = ""
    for gate in wp.gates:
        if not gate.result.ok:
            same = ", with the same output" if gate.tail and gate.tail == said else ""
            yield f"- gate {escaped(texts.line(gate.result.name))} is red on `{gate.result.head[:10]}`{same}"
            if gate.tail and not same:
                yield f"\n{fenced(texts.block(gate.tail, LONGEST_TAIL).rstrip())}\n"
            said = gate.tail
