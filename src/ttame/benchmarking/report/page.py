"""The benchmark's report: one HTML file that holds everything and fetches nothing."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ttame.benchmarking.report.figures import cost_section, curve_section, rank_section
from ttame.benchmarking.report.maps import bar_style, sheet_section
from ttame.benchmarking.report.markup import DASH, Html, element, join, nested
from ttame.benchmarking.report.score_table import score_table
from ttame.benchmarking.report.scores import (
    columns,
    cost_columns,
    family_tables,
    measure_columns,
    measured,
    numbers,
    rank_tables,
    shown_otherwise,
    table_methods,
    verdict,
)
from ttame.files import write_atomically

if TYPE_CHECKING:
    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.report.contact import Sheet
    from ttame.benchmarking.report.score_table import Column

NAME = "report.html"

_READING = (
    "Bold: the best mean among the methods that were scored on all photos. ≈: not significantly "
    "worse than it, photo by photo, after Holm's correction. (The best is found on the same photos "
    "as it is tested on: of many methods equal in truth, one is called worse in more than 5 % of "
    "the cases.) Small numbers: 95 % bootstrap interval of the mean, and the number of photos "
    "where it is not the column's. Controls, in "
    "italics, explain nothing; they take part in no comparison and show what a score is worth. "
    "↑ higher is better, ↓ lower is better."
)
_RANKS = (
    "Mean rank, 1 for the best, over the n photos, of the methods that were scored on all of them; "
    "methods joined by a bar differ by less than Nemenyi's critical difference (Demšar, JMLR "
    "2006). Values that differ by rounding are tied. Where Friedman's test has p of 0.05 or more, "
    "the ranks tell no two methods apart."
)
_DETAILS = ("title", "control", "status", "reason", "subject", "slow")


def write_report(
    result: BenchmarkResult,
    folder: str | Path,
    sheet: Sheet | None = None,
    worst: Sheet | None = None,
) -> Path:
    """Write ``report.html``, completely or not at all.

    Args:
        result: What the benchmark returned or :meth:`BenchmarkResult.load` read.
        folder: Where the file goes; made if missing.
        sheet: Maps of a few photos, see :func:`ttame.benchmarking.report.contact.contact_sheet`.
        worst: Maps of the photos on which the explainer does worst.

    Returns:
        The file, the same bytes for the same result and sheets.

    Raises:
        StorageError: The folder cannot be written.
    """
    page = make_page(result, sheet, worst).encode()
    return write_atomically(Path(folder) / NAME, lambda file: file.write(page))


def make_page(
    result: BenchmarkResult, sheet: Sheet | None = None, worst: Sheet | None = None
) -> str:
    """Return the report as a page; see :func:`write_report`."""
    found = columns(result)
    costs, label = measured(result, "ms_per_image"), "ms per image"
    if not costs:
        costs, label = _passes(result), "passes per image"
    sections = {
        "Scores": (_READING, family_tables(result, found)),
        "Ranks": (_RANKS, _ranks(result, found)),
        "Curves": (
            "Means over the photos. The explainer is the thick line, controls are grey.",
            curve_section(result),
        ),
        "Cost": (
            "Each point is a method; up is better, left is cheaper.",
            join(_costs(result), cost_section(result, found, costs, label)),
        ),
        "Maps": (
            "The same photos and classes for every method; a dash where it gave no map.",
            sheet_section(sheet) if sheet is not None and sheet.rows else Html(),
        ),
        "Worst cases": (
            "Where the explainer fails, or without one the best method, chosen by score and not by "
            "eye.",
            sheet_section(worst) if worst is not None and worst.rows else Html(),
        ),
        "Methods": ("", _methods(result)),
        "Conventions": ("", _conventions(result)),
        "To repeat it": ("", _repeat(result)),
    }
    shown = {title: parts for title, parts in sections.items() if parts[1]}
    title = f"Benchmark of explanations: {_classifier(result).get('name', 'a classifier')}"
    body = join(
        element(
            "header",
            element("h1", title),
            verdict(result, found),
            shown_otherwise(result),
            _key_facts(result, found),
        ),
        element(
            "nav",
            *(element("a", name, href=f"#{_anchor(name)}") for name in shown),
            aria_label="Sections",
        ),
        element("main", *(_section(name, *parts) for name, parts in shown.items())),
        _footer(result),
    )
    template = importlib.resources.files("ttame.benchmarking.report").joinpath("template.html")
    page = Template(template.read_text(encoding="utf-8"))
    return page.substitute(title=join(title), body=body, bar=bar_style())


def _section(name: str, intro: str, content: Html) -> Html:
    head = element("p", intro, class_="faint") if intro else ""
    return element("section", element("h2", name), head, content, id=_anchor(name))


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _classifier(result: BenchmarkResult) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.provenance.get("classifier") or {}
    return found


def _key_facts(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    table = result.per_image
    sets = table.groupby("set", sort=False)["file"].nunique()
    photos = ", ".join(
        f"{count}{'' if name == 'photos' else f' {name}'}" for name, count in sets.items()
    )
    halves = table.groupby("half")["file"].nunique()
    done = [name for name, details in table_methods(result).items() if not details["reason"]]
    controls = sum(bool(result.methods[name].get("control")) for name in done)
    facts = {
        "Classifier": _classifier(result).get("name") or DASH,
        "Photos": photos or "0",
        "Halves": ", ".join(f"{count} {name}" for name, count in halves.items()) or DASH,
        "Methods": f"{len(done) - controls} and {controls} controls",
        "Metrics": len(found),
        "Unreadable photos": len(result.broken),
        "Seed": result.seed,
    }
    left_out = result.provenance.get("left_out") or {}
    if left_out:
        facts["Not taken"] = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return element(
        "dl",
        *(element("div", element("dt", key), element("dd", value)) for key, value in facts.items()),
        class_="key",
    )


def _ranks(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    tables = rank_tables(result, found)
    if not tables:
        return Html()
    summary = element("summary", "Mean ranks in every metric")
    return join(rank_section(result, found), element("details", summary, tables))


def _passes(result: BenchmarkResult) -> dict[str, float]:
    forward, backward = (numbers(result, f"{way}_passes") for way in ("forward", "backward"))
    return {name: count + backward.get(name, 0) for name, count in forward.items()}


def _costs(result: BenchmarkResult) -> Html:
    groups = {
        "One explanation": cost_columns(result),
        "Each measure of it, ms per image": measure_columns(result),
    }
    methods = table_methods(result)
    return join(
        *(
            join(element("h3", title), score_table({title: group}, methods))
            for title, group in groups.items()
            if group
        )
    )


def _methods(result: BenchmarkResult) -> Html:
    entries = []
    most = max((int(details.get("photos") or 0) for details in result.methods.values()), default=0)
    for name, details in table_methods(result).items():
        told = {
            key: value
            for key, value in details.items()
            if key not in _DETAILS and value not in (None, "", 0, {}, [], ())
        }
        told["name"] = name
        if details["reason"]:
            told["status"] = details["reason"]
        kind = " (control)" if details.get("control") else ""
        fewer = int(details.get("photos") or 0) < most and not details["reason"]
        few = ", on fewer photos" if fewer else ""
        few += " because it is slow" if fewer and details.get("slow") else ""
        heading = f"{details.get('title') or name}{kind}{few}"
        entries.append(join(element("dt", heading), element("dd", nested(told))))
    return element("dl", *entries, class_="plain")


def _conventions(result: BenchmarkResult) -> Html:
    told = {
        **result.conventions,
        **{
            f"measure {details.get('title') or name}": {
                key: details[key] for key in ("paper", "options", "metrics") if details.get(key)
            }
            for name, details in result.measures.items()
        },
    }
    entries = [
        join(element("dt", str(key).replace("_", " ")), element("dd", nested(value)))
        for key, value in told.items()
    ]
    return element("dl", *entries, class_="plain") if entries else Html()


def _footer(result: BenchmarkResult) -> Html:
    """Return what the clock said: with the cost, the only part that differs between equal runs."""
    told = [
        f"{key.replace('_', ' ')} {value:.0f}" if isinstance(value, float) else f"{key} {value}"
        for key, value in result.timings.items()
        if isinstance(value, str | int | float)
    ]
    return element("footer", element("p", "This run: ", ", ".join(told))) if told else Html()


def _repeat(result: BenchmarkResult) -> Html:
    told = dict(result.provenance)
    command = told.pop("command", None)
    if isinstance(command, list | tuple):
        command = " ".join(map(str, command))
    told["seed"] = result.seed
    if result.broken:
        told["unreadable photos"] = dict(result.broken)
    entries = [
        join(element("dt", str(key).replace("_", " ")), element("dd", nested(value)))
        for key, value in told.items()
    ]
    return join(
        element("pre", element("code", command)) if command else "",
        element("dl", *entries, class_="plain"),
    )
