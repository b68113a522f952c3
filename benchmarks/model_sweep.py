"""Try ttame on the smallest model of every family of timm, torchvision and transformers.

Nothing is downloaded: weights are random and seeded. What a model has to pass stands in
``sweeping/checks.py`` and, for users, in ``docs/supported-models.md``. Every model is checked in a
process of its own, so that one that crashes, fills the memory or hangs is a result like any other.
One JSON line per model is appended to ``--out``, the smallest models first.

python benchmarks/model_sweep.py [--out runs/sweep.jsonl] [--resume] [--library timm] [--only GLOB]
    [--every] [--sample N] [--jobs 1] [--limit 120] [--memory 8]
python benchmarks/model_sweep.py --table [--out runs/sweep.jsonl] [--page docs/supported-models.md]

--out       where the records go; what is swept is kept beside it, in NAME.catalogue.json
--resume    skip models that have a record
--library   only this library (timm, torchvision or hf); may be given several times
--only      only models whose name matches, such as 'timm/convnext*'; of those the smallest of every
            family, run again if they have a record: the last record counts
--every     all models (that match), not only the smallest of every family
--sample    only the N smallest models
--jobs      processes that check models
--limit     seconds a model may take
--memory    GiB that a process may take
--table     check nothing; write the page from the records, with models not run listed as such
--page      where the page goes
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sweeping import catalogue, records
from sweeping.checks import check
from sweeping.libraries import LIBRARIES
from sweeping.page import page
from sweeping.workers import Worker, check_all

ROOT = Path(__file__).resolve().parents[1]


def parts(args: argparse.Namespace) -> dict[str, catalogue.Part]:
    """Return what is to be swept by library, from the kept catalogue where that is the same."""
    file = kept(args.out)
    libraries = args.library or list(LIBRARIES)
    if args.every or args.only != "*":
        return {name: catalogue.catalogue(name, args.only, args.every) for name in libraries}
    known = catalogue.load(file)
    for name in libraries:
        if name not in known or known[name].absent is not None:
            known[name] = catalogue.catalogue(name)
            catalogue.save(known, file)
    return {name: known[name] for name in libraries}


def kept(out: Path) -> Path:
    return out.with_suffix(".catalogue.json")


def sweep(args: argparse.Namespace) -> None:
    """Check what is asked for and print one line a model."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = parts(args)
    for name, part in found.items():
        if part.absent is not None:
            print(f"{name} is left out: {part.absent}", flush=True)
    entries = catalogue.in_order([entry for part in found.values() for entry in part.entries])
    if args.sample is not None:
        entries = entries[: args.sample]
    done = records.latest(args.out) if args.resume else {}
    entries = [entry for entry in entries if entry.name not in done]
    count = 0

    def write(record: records.Record) -> None:
        nonlocal count
        count += 1
        records.append(record, args.out)
        told = record["outcome"]
        if told != "ok":
            told = f"{told} at {record['stage']}: {record['reason']}"
        name = f"{record['library']}/{record['model']}"
        print(f"{count}/{len(entries)} {name} {told}", flush=True)

    check_all(entries, write, [Worker(check, args.limit, args.memory) for _ in range(args.jobs)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "sweep.jsonl")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--library", action="append", choices=list(LIBRARIES))
    parser.add_argument("--only", default="*", metavar="GLOB")
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--sample", type=int, metavar="N")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--memory", type=float, default=8.0, metavar="GIB")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "supported-models.md")
    args = parser.parse_args(arguments)
    if args.table:
        text = page(catalogue.load(kept(args.out)), records.latest(args.out))
        args.page.write_text(text, encoding="utf-8")
    else:
        sweep(args)


if __name__ == "__main__":
    main()
