from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import killed_run
import ttame
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking import settings
from ttame.benchmarking.records import read_records
from ttame.errors import InputError
from ttame.methods.registry import Method
from ttame.metrics.measure import Measure, Metric, Scores

SCRIPT = Path(killed_run.__file__)
# Not timings.json: times and memory differ.
FILES = ("results.json", "per_image.csv", "curves.json", "comparisons.json")


def start(data, out, calls_left, mode):
    # The same ttame as here, wherever another one may be installed.
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(ttame.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, SCRIPT, data, out, calls_left, mode]
    return subprocess.run([str(item) for item in arguments], env=environment, check=False)


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    data = tiny_photos(tmp_path / "photos", 8)
    killed_run.run(str(data), str(tmp_path / "whole"), 0, resume=False)
    killed = start(data, tmp_path / "killed", 4, "new")
    assert killed.returncode == -signal.SIGKILL
    records = tmp_path / "killed" / "records.jsonl"
    assert 4 < len(read_records(tmp_path / "killed")) < 12
    assert not (tmp_path / "killed" / "results.json").exists()
    # The kill may also hit in the middle of a line.
    finished = records.read_bytes()
    records.write_bytes(finished + finished.splitlines()[-1][:40])
    assert start(data, tmp_path / "killed", 0, "resume").returncode == 0
    assert records.read_bytes().startswith(finished)
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "killed"))
        assert one == other, name


@pytest.fixture
def explainer():
    return ttame.new_explainer(tiny_backbone())


def run(explainer, photos, out, **changes):
    settings = {"methods": ["random"], "measures": ["confidence"], "batch_size": 2, **changes}
    return ttame.benchmark(explainer, photos, out=out, report=False, **settings)


def test_a_finished_run_is_read_again_without_computing(explainer, tmp_path, monkeypatch):
    photos = tiny_photos(tmp_path / "photos", 3)
    run(explainer, photos, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    monkeypatch.setattr("ttame.benchmarking.scoring.Scorer.score", None)
    run(explainer, photos, tmp_path / "out", resume=True)
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in FILES}


def test_another_view_of_the_photos_or_another_device_is_another_run(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    run(explainer, photos, tmp_path / "out")
    settings = tmp_path / "out" / "settings.json"
    before = settings.read_text()
    settings.write_text(before.replace('"device": "cpu"', '"device": "cuda"'))
    with pytest.raises(InputError, match="'cuda' then, 'cpu' now"):
        run(explainer, photos, tmp_path / "out", resume=True)
    settings.write_text(before)
    other = ttame.new_explainer(tiny_backbone(crop=(24, 32)))
    other.attention.load_state_dict(explainer.attention.state_dict())
    with pytest.raises(InputError, match="classifier preprocessing crop"):
        run(other, photos, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed 0 then, 1 now"),
        ({"batch_size": 3}, "batch_size 2 then, 3 now"),
        ({"methods": ["random", "all_ones"]}, "methods all_ones None then, {} now"),
        ({"images": 2}, "data photos photos 3 then, 2 now"),
        ({"slow_images": 2}, "slow_images 50 then, 2 now"),
        ({"limits": {"random": 2}}, "limits random None then, 2 now"),
        ({"again_images": 2}, "again_images None then, 2 now"),
        ({"measures": ["adcc"]}, "measures photos confidence"),
        ({"normalisation": "positive"}, "normalisation"),
    ],
)
def test_other_settings_are_refused(explainer, tmp_path, change, message):
    photos = tiny_photos(tmp_path / "photos", 3)
    run(explainer, photos, tmp_path / "out")
    with pytest.raises(InputError, match=message):
        run(explainer, photos, tmp_path / "out", resume=True, **change)


def test_another_way_to_the_mask_is_refused(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    run(explainer, photos, tmp_path / "out")
    explainer.upsampling = "nearest"
    with pytest.raises(InputError, match="upsampling 'bilinear' then, 'nearest' now"):
        run(explainer, photos, tmp_path / "out", resume=True)
    explainer.upsampling, explainer.smoothing = "bilinear", 1.5
    with pytest.raises(InputError, match=r"ttame smoothing 0\.0 then, 1\.5 now"):
        run(explainer, photos, tmp_path / "out", resume=True)


def test_other_layers_of_the_classifier_are_refused(tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    backbone = tiny_backbone()
    settings = {"methods": ["gradcam"], "measures": ["confidence"], "out": tmp_path / "out"}
    ttame.benchmark(data=photos, backbone=backbone, report=False, **settings)
    other = backbone.with_layers(backbone.layers[:1])
    with pytest.raises(InputError, match="classifier layers"):
        ttame.benchmark(data=photos, backbone=other, resume=True, **settings)


def test_code_that_has_changed_is_refused(explainer, tmp_path, monkeypatch):
    photos = tiny_photos(tmp_path / "photos", 2)
    run(explainer, photos, tmp_path / "out")
    monkeypatch.setattr(settings, "code_digest", lambda: "another")
    with pytest.raises(InputError, match=r"for example versions ttame code '[0-9a-f]{64}' then"):
        run(explainer, photos, tmp_path / "out", resume=True)


def test_another_explainer_is_refused(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    run(explainer, photos, tmp_path / "out")
    with torch.no_grad():
        next(explainer.attention.parameters()).add_(1)
    with pytest.raises(InputError, match=r"other settings \(explainers\)"):
        run(explainer, photos, tmp_path / "out", resume=True)


def test_folders_that_hold_something_are_refused(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    run(explainer, photos, tmp_path / "out")
    with pytest.raises(InputError, match="continue it with resume=True"):
        run(explainer, photos, tmp_path / "out")
    with pytest.raises(InputError, match=r"not empty and holds no benchmark \(photo-00.png\)"):
        run(explainer, photos, photos, resume=True)


def test_two_runs_do_not_write_into_one_folder(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    seen = []

    def function(backbone, images, classes):
        with pytest.raises(InputError, match="another run is writing into"):
            run(explainer, photos, tmp_path / "out", resume=True)
        seen.append(len(images))
        return images[:, :1]

    run(explainer, photos, tmp_path / "out", methods=[Method("inside", "Inside", function)])
    assert len(seen) == 3


def test_resume_starts_where_nothing_is(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".ttame-rest").touch()
    result = run(explainer, photos, tmp_path / "out", resume=True)
    assert len(result.per_image) == 4


def test_what_failed_is_tried_again(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 4)
    broken = [True]

    def function(backbone, images, classes):
        if broken[0]:
            raise RuntimeError("out of memory")
        return images[:, :1]

    method = Method("moody", "Moody", function)
    first = run(explainer, photos, tmp_path / "out", methods=[method])
    assert first.methods["moody"]["status"] == "failed: RuntimeError: out of memory"
    broken[0] = False
    second = run(explainer, photos, tmp_path / "out", methods=[method], resume=True)
    assert second.methods["moody"]["status"] == "ok"
    whole = run(explainer, photos, tmp_path / "whole", methods=[method])
    assert whole.to_dict() == second.to_dict()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == second.to_dict()


def one_pixel(broken):
    """Measure the first pixel, or raise what ``broken`` holds where that is dark."""

    def function(case):
        value = case.pixels[:, 0, 0, 0].double()
        if broken and value.min() < 0.3:
            raise broken[0]
        return Scores({"pixel": value}, {"line": torch.stack([value, 2 * value], dim=1)})

    table = {"pixel": Metric("first pixel", True)}
    return Measure("pixel", "First pixel", function, lambda _: table)


def test_a_measure_that_failed_is_tried_again(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 6)
    broken = [RuntimeError("out of memory")]
    settings = {"measures": ["confidence", one_pixel(broken)]}
    first = run(explainer, photos, tmp_path / "out", **settings)
    problem = {"pixel": "RuntimeError: out of memory"}
    assert {name: item["problems"] for name, item in first.methods.items()} == {
        "ttame": problem,
        "random": problem,
    }
    assert 0 < first.means()["random"]["pixel"].n < 6
    assert first.means()["random"]["ad_50"].n == 6
    again = run(explainer, photos, tmp_path / "out", resume=True, **settings)
    assert again.to_dict() == first.to_dict()
    broken.clear()
    run(explainer, photos, tmp_path / "out", resume=True, **settings)
    run(explainer, photos, tmp_path / "whole", **settings)
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "out"))
        assert one == other, name


def test_what_a_measure_cannot_do_is_not_tried_again(explainer, tmp_path, monkeypatch):
    photos = tiny_photos(tmp_path / "photos", 4)
    settings = {"measures": [one_pixel([InputError("not on dark photos")])]}
    first = run(explainer, photos, tmp_path / "out", **settings)
    assert first.methods["random"]["problems"] == {"pixel": "not on dark photos"}
    monkeypatch.setattr("ttame.benchmarking.scoring.Scorer.score", None)
    again = run(explainer, photos, tmp_path / "out", resume=True, **settings)
    assert again.to_dict() == first.to_dict()


def test_two_processes_give_the_same_bytes_and_one_continues(explainer, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 6)
    settings = {"methods": ["random", "gradcam"], "measures": ["confidence"]}
    run(explainer, photos, tmp_path / "whole", **settings)
    run(explainer, photos, tmp_path / "out", jobs=2, **settings)
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "out"))
        assert one == other, name
    files = sorted(path.name for path in (tmp_path / "out").glob("records*"))
    assert files == ["records-0.jsonl", "records-1.jsonl"]
    # One process lost all it had, another the end of its last line.
    (tmp_path / "out" / "records-1.jsonl").unlink()
    kept = tmp_path / "out" / "records-0.jsonl"
    kept.write_bytes(kept.read_bytes()[:-9])
    run(explainer, photos, tmp_path / "out", resume=True, **settings)
    for name in FILES:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "out"))
        assert one == other, name
