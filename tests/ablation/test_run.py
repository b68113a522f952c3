from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import killed_ablation
import ttame
from tiny_backbone import tiny_backbone
from tiny_transformers import transformer
from ttame.ablation import cell as cell_file
from ttame.ablation import run as run_file
from ttame.ablation.cell import read_outcome
from ttame.benchmarking.lock import check_unlocked, one_run
from ttame.errors import BackboneError, InputError, TrainingError

SCRIPT = Path(killed_ablation.__file__)
FILES = ("ablation.csv", "ablation.json", "ablation.md", "ablation.png")


def changed(cells: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "branch": branch} for name, branch in cells.items()]


def test_cells_are_trained_and_scored_as_alone(run, content, tmp_path, folders):
    result = run({"name": "base"}, {"name": "L-CAM-Img", "branch": "identity", "layers": ["2"]})
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {*FILES, ".lock", "cells", "settings.json"}
    assert (result.base, result.scored) == ("base", ["base", "L-CAM-Img"])
    alone = ttame.train(
        tiny_backbone(classes=3),
        folders[0],
        tmp_path / "alone",
        layers=["2"],
        branch="identity",
        progress=False,
        **content()["settings"],
    )
    expected = ttame.evaluate(alone, folders[1], methods=()).means()["ttame"]
    assert result.means["L-CAM-Img"] == expected
    loaded = ttame.load(out / "cells" / "l-cam-img" / "explainer", tiny_backbone(classes=3))
    assert (loaded.backbone.layers, loaded.attention.branch) == (("2",), "identity")
    outcome = result.cells["L-CAM-Img"].outcome
    assert outcome.parameters == sum(p.numel() for p in loaded.attention.parameters())
    assert (outcome.epoch, outcome.reason) == (1, "")


def test_differences_are_taken_photo_by_photo(run):
    result = run({"name": "base"}, {"name": "no skip", "branch": "no-skip"})
    one, base = (
        result.scores.per_image[result.scores.per_image["method"] == name]
        for name in ("no skip", "base")
    )
    assert list(one["file"]) == list(base["file"])
    assert len(one) == 5
    for metric, mean in result.differences["no skip"].items():
        each = one[metric].to_numpy() - base[metric].to_numpy()
        assert mean.n == 5
        np.testing.assert_allclose(mean.mean, each.mean(), atol=1e-9)
        assert each.min() - 1e-9 <= mean.low <= mean.mean <= mean.high <= each.max() + 1e-9
    assert "base" not in result.differences


def test_the_files_say_the_same(run, tmp_path):
    result = run({"name": "base"}, {"name": "one | two", "head": "independent", "start": "random"})
    table = pd.read_csv(tmp_path / "out" / "ablation.csv")
    content = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(content["cells"]) == ["base", "one | two"]
    assert set(table["metric"]) == set(result.scores.metrics)
    for row in table.itertuples():
        scores = content["cells"][row.cell]["scores"][row.metric]
        assert (row.mean, row.low, row.high, row.n) == tuple(scores.values())
    assert table[table["cell"] == "base"]["difference"].isna().all()
    cell = content["cells"]["one | two"]
    assert cell["changes"] == {"head": "independent", "start": "random"}
    assert (cell["config"]["head"], cell["config"]["epochs"]) == ("independent", 1)
    assert (cell["layers"], cell["preset"]) == (["0", "1", "2"], "fast")
    text = (tmp_path / "out" / "ablation.md").read_text()
    mean = result.means["one | two"]["ad_50_matched"]
    assert f"{mean.mean:.1f} [{mean.low:.1f}, {mean.high:.1f}]<br>" in text
    assert "one \\| two" in text
    assert "over 5 photos" in text


def test_a_cell_that_fails_stops_no_other(run, tmp_path, monkeypatch, caplog):
    real = cell_file.train

    def train(*arguments, **settings):
        if settings.get("branch") == "no-skip":
            raise TrainingError("the loss was not finite")
        return real(*arguments, **settings)

    monkeypatch.setattr(cell_file, "train", train)
    cells = [{"name": "base"}, {"name": "bad", "branch": "no-skip"}, {"name": "good", "lr": 0.01}]
    result = run(*cells)
    assert [cell.outcome.status for cell in result.cells.values()] == ["done", "failed", "done"]
    assert result.cells["bad"].outcome.reason == "the loss was not finite"
    assert "cell 'bad' failed: the loss was not finite" in caplog.text
    assert "Traceback" in (tmp_path / "out" / "ablation.log").read_text()
    table = pd.read_csv(tmp_path / "out" / "ablation.csv")
    assert table[table["cell"] == "bad"]["metric"].isna().tolist() == [True]
    assert "- bad: failed: the loss was not finite" in (tmp_path / "out/ablation.md").read_text()
    # A failed cell is tried again, the others are not.
    monkeypatch.setattr(cell_file, "train", lambda *a, **s: real(*a, **s))
    trained = []
    monkeypatch.setattr(
        cell_file, "train", lambda *a, **s: trained.append(s["branch"]) or real(*a, **s)
    )
    again = run(*cells, resume=True)
    assert trained == ["no-skip"]
    assert [cell.outcome.status for cell in again.cells.values()] == ["done"] * 3
    assert again.means["good"] == result.means["good"]


def test_every_cell_may_fail(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_file, "train", lambda *a, **s: 1 / 0)
    result = run({"name": "base"}, {"name": "other"})
    assert result.scored == []
    assert result.cells["base"].outcome.reason == "ZeroDivisionError: division by zero"
    assert all((tmp_path / "out" / name).is_file() for name in FILES)


def test_a_collapsed_cell_is_scored_and_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ttame.training.guards.collapse_reasons", lambda *a: ["the masks keep everything"]
    )
    result = run({"name": "base"})
    assert result.cells["base"].outcome.status == "collapsed"
    assert result.scores.methods["base"]["control"]
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "| base (collapsed) |" in text
    assert "- base: collapsed: the masks keep everything" in text


def test_a_killed_ablation_continues_to_the_same_scores(tmp_path, folders):
    data, eval_data = map(str, folders)
    killed_ablation.run(data, eval_data, str(tmp_path / "whole"), 0, resume=False)
    # 12 photos in batches of 6, 3 epochs: the second cell is in its second epoch.
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(ttame.__file__).parents[1])])
    command = [sys.executable, SCRIPT, data, eval_data, tmp_path / "killed"]
    killed = subprocess.run(
        [*map(str, command), "10", "new"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    cells = tmp_path / "killed" / "cells"
    assert read_outcome(cells / "base").status == "done"
    assert read_outcome(cells / "no-skip") is None
    assert (cells / "no-skip" / "explainer" / "training" / "last.ckpt").is_file()
    before = (cells / "base" / "cell.json").stat().st_mtime_ns
    killed_ablation.run(data, eval_data, str(tmp_path / "killed"), 0, resume=True)
    assert (cells / "base" / "cell.json").stat().st_mtime_ns == before
    # Logs tell that the training was taken up, not begun anew.
    assert (cells / "no-skip" / "explainer" / "training" / "log-2").is_dir()
    one, other = (
        (tmp_path / folder / "ablation.csv").read_bytes() for folder in ("whole", "killed")
    )
    assert one == other


def test_cells_may_be_added_and_settings_may_not_change(run, content, tmp_path):
    first = run({"name": "base"})
    with pytest.raises(InputError, match="holds an ablation already; continue it with resume=True"):
        run({"name": "base"})
    with pytest.raises(InputError, match=r"cells.base holds a run .*config lr 0\.001 then, 0\.1"):
        run({"name": "base", "lr": 0.1}, resume=True)
    with pytest.raises(InputError, match=r"other settings .*seed"):
        run({"name": "base"}, resume=True, seed=4)
    with pytest.raises(InputError, match="eval_data photos 5 then, 2 now"):
        run({"name": "base"}, resume=True, images=2)
    more = run({"name": "base"}, {"name": "more", "lr": 0.1}, resume=True)
    assert more.means["base"] == first.means["base"]
    assert more.scored == ["base", "more"]


def refused(out: Path) -> bool:
    with pytest.raises(InputError, match="another run is writing into"):
        check_unlocked(out)
    return True


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_into_the_folder_is_refused(run, tmp_path, resume):
    out = tmp_path / "out"
    with one_run(out), pytest.raises(InputError, match="another run is writing into"):
        run({"name": "base"}, resume=resume)
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_the_folder_is_locked_from_the_first_file_to_the_last(run, tmp_path, monkeypatch):
    out, real, locked = tmp_path / "out", run_file.open_folder, []

    def open_folder(*arguments):
        locked.append(refused(out))
        return real(*arguments)

    def save(result, folder):
        locked.append(refused(folder))

    monkeypatch.setattr(run_file, "open_folder", open_folder)
    monkeypatch.setattr("ttame.ablation.result.AblationResult.save", save)
    monkeypatch.setattr(cell_file, "train", lambda *a, **s: 1 / 0)
    run({"name": "base"})
    assert locked == [True] * 3  # the run's folder, the cell's folder, the results
    check_unlocked(out)


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ({"layers": ["2", "9"]}, InputError, "cell 'bad': unknown layer '9'"),
        ({"class_token_product": True}, BackboneError, "cell 'bad': class_token_product .* none"),
        ({"device": "cuda:99"}, InputError, "cell 'bad': device 'cuda:99' was asked for"),
        ({"precision": "half"}, InputError, "cell 'bad': unknown precision 'half'"),
    ],
    ids=str,
)
def test_every_cell_is_checked_before_any_is_trained(
    run, tmp_path, monkeypatch, cell, error, message
):
    monkeypatch.setattr(cell_file, "train", lambda *a, **s: pytest.fail("trained"))
    with pytest.raises(error, match=message):
        run({"name": "base"}, {"name": "bad", **cell})
    assert not (tmp_path / "out").exists()


def test_the_class_token_product_is_a_cell(run, tmp_path, folders):
    result = run(
        {"name": "base", "start": "random"},
        {"name": "product", "start": "random", "class_token_product": True},
        model=transformer("class token"),
    )
    assert result.scored == ["base", "product"]
    described = [cell.described["config"] for cell in result.cells.values()]
    assert [config["class_token_product"] for config in described] == [False, True]
    loaded = ttame.load(
        tmp_path / "out" / "cells" / "product" / "explainer", transformer("class token")
    )
    assert loaded.backbone.class_token_product


def test_scoring_photos_that_were_trained_on_are_warned_of(run, folders, caplog):
    run({"name": "base"}, eval_data=folders[0], images=3)
    assert "3 of the 3 photos to score on are photos to train on" in caplog.text


def test_processes_share_the_cells(content, tmp_path):
    told = []
    cells = changed({"base": "paper", "no skip": "no-skip"})
    alone = ttame.ablate(content(*cells), tmp_path / "alone")
    shared = ttame.ablate(
        content(*cells),
        tmp_path / "shared",
        jobs=2,
        progress=lambda name, done, total: told.append((name, done, total)),
    )
    assert shared.means == alone.means
    assert sorted(name for name, _, _ in told) == ["", "base", "no skip"]
    assert [(done, total) for _, done, total in told] == [(1, 2), (2, 2), (2, 2)]
