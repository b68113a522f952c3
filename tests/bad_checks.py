"""Checks of models that end their process or never end; imported by the process of a sweep."""

from __future__ import annotations

import os
import time
from typing import Any

from sweeping.catalogue import Entry


def follow(entry: Entry) -> dict[str, Any]:
    """Do what the model's name says."""
    if entry.model == "dies":
        os._exit(3)
    if entry.model == "hangs":
        time.sleep(600)
    return {"library": entry.library, "model": entry.model, "outcome": "ok"}
