from __future__ import annotations

from pathlib import Path

import pytest

from ttame.ablation.config import parse_config, read_config
from ttame.errors import InputError, UnknownNameError

PLACES = {"model": "timm/resnet50", "data": "photos", "eval_data": "others"}

YAML = """
model: timm/resnet50
data: photos
eval_data: /elsewhere/others
images: 20
seed: 3
settings: {epochs: 1, lr: 1e-3}
cells:
  - name: base
  - name: last layer
    layers: [layer4]
  - {name: published, preset: paper, layers: "layer3, layer4", seed: 9, class-token-product: false}
grid:
  head: [tied, independent]
  shares: [[1.0], [1.0, 0.5]]
"""


def test_a_file_with_cells_and_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(YAML)
    config = read_config(path)
    assert (config.model, config.images, config.seed) == ("timm/resnet50", 20, 3)
    # Paths are relative to the file.
    assert config.data == tmp_path / "photos"
    assert config.eval_data == Path("/elsewhere/others")
    assert [cell.name for cell in config.cells] == [
        "base",
        "last layer",
        "published",
        "head=tied, shares=1.0",
        "head=tied, shares=1.0+0.5",
        "head=independent, shares=1.0",
        "head=independent, shares=1.0+0.5",
    ]
    base, last, published, *_, grid = config.cells
    assert base.settings == {"seed": 3, "epochs": 1, "lr": "1e-3"}
    assert (base.preset, base.layers, base.changes) == ("fast", None, {})
    assert (last.layers, last.folder) == (("layer4",), "last-layer")
    assert (published.preset, published.layers) == ("paper", ("layer3", "layer4"))
    assert published.settings == {
        **base.settings,
        "seed": 9,
        "class_token_product": False,
    }
    assert grid.changes == {"head": "independent", "shares": [1.0, 0.5]}


def test_options_go_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("cells: [{name: only}]\nimages: 20\nmodel: timm/resnet50\n")
    config = read_config(path, data="here", eval_data="there", images=5, weights=None)
    # As they were given, not relative to the file.
    assert (config.data, config.eval_data, config.images) == ("here", "there", 5)
    assert (config.model, config.weights) == ("timm/resnet50", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "unknown key of the ablation 'modle'; did you mean 'model'?"),
        ({"epochs": 2}, r"unknown key .*'epochs'.* \(it is a setting: put it under settings"),
        ({"model": None}, "the ablation lacks model; name it in the file or as an option"),
        ({"images": 0}, "expected images as a whole number of at least 1, got 0"),
        ({"seed": True}, "expected seed as a whole number of at least 0, got True"),
        ({"settings": {"epoch": 1}}, "settings: unknown setting 'epoch'; did you mean 'epochs'"),
        ({"settings": [1]}, r"settings: expected settings as key: value, got \[1\]"),
        ({"cells": []}, "the ablation has no cells"),
        ({"cells": None}, "the ablation has no cells"),
        ({"cells": "base"}, "cells: expected a list of cells, each with a name, got 'base'"),
        ({"cells": [{"branch": "no-skip"}]}, "cells: expected a name in cell 1"),
        (
            {"cells": [{"name": "a", "brnch": 1}]},
            "cell 'a': unknown setting 'brnch'; did you mean 'branch'?",
        ),
        (
            {"cells": [{"name": "a", "branch": "no_skp"}]},
            "cell 'a': unknown branch 'no_skp'; did you mean 'no-skip'",
        ),
        ({"cells": [{"name": "a", "lr": -1}]}, "cell 'a': expected a learning rate above 0"),
        ({"cells": [{"name": "a", "epochs": "x"}]}, "cell 'a': expected epochs of type int"),
        ({"cells": [{"name": "a", "preset": "fats"}]}, "cell 'a': unknown preset 'fats'"),
        ({"cells": [{"name": "a", "layers": 4}]}, "cell 'a': expected layers as a list of names"),
        ({"cells": [{"name": "A b"}, {"name": "a-b"}]}, "'A b' and 'a-b' would share the folder"),
        ({"grid": {"hed": ["tied"]}}, "grid: unknown setting 'hed'; did you mean 'head'"),
        ({"grid": {"head": "tied"}}, "grid: expected a list of values for head, got 'tied'"),
        ({"grid": {}}, "grid: expected at least one setting"),
        ({"grid": {"head": ["tid"]}}, "cell 'head=tid': unknown head 'tid'; did you mean 'tied'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config({**PLACES, "cells": [{"name": "base"}], **changes})


def test_names_keep_their_kind_of_error() -> None:
    with pytest.raises(UnknownNameError):
        parse_config({**PLACES, "cells": [{"name": "a", "head": "tide"}]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the configuration .*: No such file"),
        ("cells: [", "is no valid YAML: .*line 1"),
        ("- 1", "expected an ablation as a mapping of model, .*, got list"),
        ("", "got NoneType"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "grid.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
