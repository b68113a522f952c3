"""What a training keeps to itself: random numbers, interrupts and lightning's chatter."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seed this training and leave the caller's random numbers as they were."""
    from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
    from lightning.pytorch import seed_everything

    states = _collect_rng_states()
    environment = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        seed_everything(seed, workers=True, verbose=False)
        yield
    finally:  # lightning's own isolate_rng forgets the way back after an exception
        _set_rng_states(states)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Turn lightning's exit after Ctrl+C back into KeyboardInterrupt, and listen to it again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lightning's advertisements and hints about workers from the user."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
