"""The page ``docs/supported-models.md``, from a catalogue and the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sweeping.catalogue import Entry, Part, in_order
from sweeping.libraries import LIBRARIES
from ttame.benchmarking.markdown import markdown_row

Record = dict[str, Any]

HEAD = """\
# Supported models

Any image classifier that is an `nn.Module` can be tried; `ttame layers NAME` shows what is read of
it. This page tells which ones were, with random weights: of every family of timm the model with the
fewest parameters, the image classifiers of torchvision, and of every family of transformers a tiny
configuration. Each is

- loaded by its name alone, `ttame.load_backbone(NAME, pretrained=False)`, with default layers;
- given the signal that training gives a classifier: weights too small for a signal to survive many
  layers (among them the usual start of narrow transformers) are drawn anew, batch normalisations
  take over the statistics of the pictures;
- explained at its own input size by an untrained explainer: when the picture is shifted up, down,
  left and right, by one of two widths that the cells of the coarsest layer may have, the maps must
  move just as far in all four directions, and the cells of every layer in at least one up or down
  and one left or right, unless it has fewer than 4 x 4 (`moved`: mean height of the phase
  correlation's peaks, up to 1, where a peak in the wrong place is 0);
- trained for one step on two pictures, smaller where it takes them: through the masked image and
  the classifier a finite gradient must reach every parameter of the attention mechanism, and one
  that is not zero every weight;
- compared with itself after the explanation and after the step: not one bit may have changed.

Other sizes of timm's families were not tried. Whether the explanations of a trained classifier are
good is another question: [the benchmark](benchmark.md) answers it.

`python benchmarks/model_sweep.py --limit 1500 --memory 14` makes the records, with `--library
torchvision --every --resume` those of the rest of torchvision; with `--table` it writes this page.
Seconds are those of one CPU thread on a machine with other work: they compare models only roughly.
"""

SETTLED = {
    "timm/convmixer_768_32": "Its blocks have kernels of 9 x 9 cells and, untrained, mix a little "
    "more of the whole picture into every cell each: the peaks after blocks 0, 4, 8, 12 and 16 "
    "(counted from 0) are 0.85, 0.84, 0.57, 0.26 and 0.07. The cells are in their places; the "
    "layers that are read, 21, 27 and 31, are too deep for a network without training.",
}
"""What is known of failures, by the model's name."""


def page(parts: Mapping[str, Part], records: Mapping[str, Record]) -> str:
    """Write the whole page.

    Args:
        parts: What is swept, by library.
        records: The last record of every model.
    """
    rows = {library: _rows(library, part, records) for library, part in parts.items()}
    sections = [HEAD, _counts(parts, rows)]
    failures = [record for found in rows.values() for record in found if outcome(record) == FAILED]
    if failures:
        sections.append(_failures(failures))
    sections += [
        f"## {LIBRARIES[library].title}\n\n{_models(found)}"
        for library, found in rows.items()
        if found
    ]
    return "\n".join(sections)


OK, FAILED, NOT_RUN = "works", "fails", "not run"


def outcome(record: Record) -> str:
    """One of the three outcomes of the page."""
    return {"ok": OK, "failed": FAILED}.get(record.get("outcome", ""), NOT_RUN)


def _rows(library: str, part: Part, records: Mapping[str, Record]) -> list[Record]:
    """A record for every model of the catalogue, and for what was swept beside it."""
    entries = {entry.name: entry for entry in part.entries}
    for name, record in records.items():
        if record["library"] == library and name not in entries:
            entries[name] = Entry(
                library, record["family"], record["model"], record.get("parameters")
            )
    found = [records.get(e.name) or asdict(e) for e in in_order(list(entries.values()))]
    return sorted(found, key=lambda record: str(record["family"]))


def _counts(parts: Mapping[str, Part], rows: Mapping[str, Sequence[Record]]) -> str:
    cells = []
    for library, part in parts.items():
        found = rows[library]
        title = LIBRARIES[library].title
        if part.absent is not None:
            cells.append([title, "", "", f"not swept: {part.absent}", "", ""])
            continue
        told = [outcome(record) for record in found]
        families = {record["family"] for record in found}
        works = f"**{told.count(OK)} of {len(found)}**"
        numbers = [str(told.count(kind)) for kind in (FAILED, NOT_RUN)]
        cells.append([title, str(part.version), str(len(families)), works, *numbers])
    return table(["library", "version", "families", "models that work", FAILED, NOT_RUN], cells)


def _failures(failures: Sequence[Record]) -> str:
    cells = [
        [f"`{r['library']}/{r['model']}`", str(r["stage"]), str(r["reason"]).replace("<", "\\<")]
        for r in failures
    ]
    known = [
        f"`{name}`: {SETTLED[name]}\n"
        for r in failures
        if (name := f"{r['library']}/{r['model']}") in SETTLED
    ]
    return "\n".join([f"## What fails\n\n{table(['model', 'at', 'why'], cells)}", *known])


def _models(found: Sequence[Record]) -> str:
    head = ["family", "model", "outcome", "layers", "input", "head", "moved", "parameters", "s"]
    return table(head, [_cells(record) for record in found])


def _cells(record: Record) -> list[str]:
    layers = [f"`{name}` {sizes(shape)}" for name, shape in record.get("layers", ())]
    parameters = record.get("parameters")
    seconds = record.get("seconds")
    return [
        str(record["family"]),
        f"`{record['model']}`",
        outcome(record),
        ", ".join(layers),
        sizes(record["input"][1:]) if "input" in record else "",
        str(record.get("head", "")),
        f"{record['moved']:.2f}" if "moved" in record else "",
        "" if parameters is None else millions(parameters),
        f"{sum(seconds.values()):.0f}" if seconds else "",
    ]


def millions(count: int) -> str:
    """Write a number of parameters.

    Example:
        >>> millions(11_689_512), millions(272_128)
        ('11.7 M', '0.27 M')
    """
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e6:.2f} M"


def sizes(shape: Sequence[int]) -> str:
    """Write a shape.

    Example:
        >>> sizes((512, 7, 7))
        '512x7x7'
    """
    return "x".join(str(side) for side in shape)


def table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *cells]
    return "".join(f"{markdown_row(line)}\n" for line in lines)
