"""Class names, synonyms, indices and ``topN``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ttame.classes import (
    ClassRequest,
    parse_classes,
    resolve_class,
    resolve_classes,
    short_name,
)
from ttame.errors import InputError, UnknownNameError

NAMES = (
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "crane",
    "Cardigan, Cardigan Welsh corgi",
    "cardigan",
    "crane",
    "black stork, Ciconia nigra",
    "projectile, missile",
    "missile",
)
K = len(NAMES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tench", 0),
        ("TINCA TINCA", 0),
        (" tench, tinca tinca ", 0),
        ("goldfish", 1),
        ("cardigan", 4),
        ("Cardigan", 3),
        ("Cardigan Welsh corgi", 3),
        ("missile", 8),
        ("5", 5),
        (0, 0),
        (np.int64(8), 8),
        (torch.tensor(2), 2),
    ],
)
def test_a_class_is_found_by_index_name_or_synonym(given, expected):
    assert resolve_class(given, NAMES, K) == expected


def test_a_typo_names_the_nearest_class():
    with pytest.raises(UnknownNameError, match=r"unknown class 'goldfsh'; did you mean 'goldfish'"):
        resolve_class("goldfsh", NAMES, K)


def test_a_name_of_two_classes_asks_for_the_index():
    with pytest.raises(InputError, match=r"several classes are named 'crane'.*2 or 5"):
        resolve_class("crane", NAMES, K)


@pytest.mark.parametrize("given", [-1, K, 10**30, "-1", "9", True, 1.0, None, "", "  "])
def test_what_is_no_class_is_refused(given):
    with pytest.raises(InputError, match="expected"):
        resolve_class(given, NAMES, K)


def test_without_names_only_indices_work():
    assert resolve_class("3", None, 4) == 3
    with pytest.raises(InputError, match=r"no class names; give an index in 0\.\.3"):
        resolve_class("tench", None, 4)


def test_numbers_that_are_names_are_names():
    assert resolve_class("10", ("0", "1", "10", "2"), 4) == 2
    assert resolve_class("3", ("0", "1", "10", "2"), 4) == 3


def test_several_classes_keep_their_order():
    assert resolve_classes(["goldfish", 0, "5"], NAMES, K) == (1, 0, 5)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("top3", ClassRequest(top=3)),
        ("TOP1", ClassRequest(top=1)),
        ("top500", ClassRequest(top=K)),
        ("tench", ClassRequest(indices=(0,))),
        ("tench,5", ClassRequest(indices=(0, 5))),
        ("tench, Tinca tinca", ClassRequest(indices=(0,))),
        ("5, tench,Tinca tinca ,goldfish", ClassRequest(indices=(5, 0, 1))),
        ("goldfish,goldfish,1,", ClassRequest(indices=(1,))),
    ],
)
def test_parse_classes(spec, expected):
    assert parse_classes(spec, NAMES, K) == expected


@pytest.mark.parametrize("spec", ["", " , ", "top0", "top3,tench", "0,99"])
def test_parse_classes_refuses(spec):
    with pytest.raises(InputError, match="expected"):
        parse_classes(spec, NAMES, K)


def test_short_name():
    assert [short_name(name) for name in NAMES[:2]] == ["tench", "goldfish"]
    assert short_name("") == ""
    assert short_name(",") == ","
