"""``ttame``: the commands and the options before them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ttame.allocator import keep_freed_memory
from ttame.cli import (
    ablate,
    benchmark,
    evaluate,
    explain,
    import_checkpoint,
    info,
    layers,
    methods,
    metrics,
    train,
)
from ttame.cli.guard import GuardedGroup
from ttame.cli.imports import import_modules

app = typer.Typer(
    name="ttame",
    cls=GuardedGroup,
    help="Explain any image classifier, CNN or vision transformer, in one forward pass.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (
    explain.explain,
    train.train,
    evaluate.evaluate,
    benchmark.benchmark,
    ablate.ablate,
    layers.layers,
    methods.methods,
    metrics.metrics,
    info.info,
    import_checkpoint.import_checkpoint,
):
    app.command()(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ttame import __version__

        typer.echo(f"ttame {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001  # its callback has read it
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
    debug: Annotated[  # noqa: ARG001  # the guard looks for it
        bool, typer.Option("--debug", help="Show tracebacks and all warnings.")
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="A module or file of yours that registers methods or measures; repeatable.",
        ),
    ] = None,
) -> None:
    """Explain any image classifier, CNN or vision transformer, in one forward pass."""
    import_modules(imports or ())


def run() -> None:
    """Run the command line; the entry point ``ttame``."""
    for stream in (sys.stdout, sys.stderr):
        # File names and class names may hold what the terminal cannot show.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    keep_freed_memory()
    app()
