from __future__ import annotations

import pytest

from tiny_backbone import tiny_photos

SOURCE = "timm/test_resnet"
SETTINGS = """
settings: {epochs: 1, batch_size: 4, val_share: 0.25, workers: 0, precision: 32-true}
cells:
  - name: base
  - {name: no skip, branch: no-skip}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "ablation.yaml"
    path.write_text(f"model: {SOURCE}\ndata: training\neval_data: scoring\n{SETTINGS}")
    return path


def test_ablate_writes_and_prints_its_cells(call, config, classifier_weights, tmp_path):
    tiny_photos(tmp_path / "training", 12)
    tiny_photos(tmp_path / "scoring", 4)
    out = tmp_path / "out"
    options = ("--weights", classifier_weights, "--images", 3, "--device", "cpu")
    result = call("ablate", "--config", config, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "2 of 2" not in result.stderr
    assert "0 of 2 cells finished; base" in result.stderr
    assert "1 of 2 cells finished; no skip" in result.stderr
    for text in ("AD 15 %", "no skip", "base: base", "3 images", f"results in {out}"):
        assert text in result.stdout
    made = {"ablation.csv", "ablation.json", "ablation.md", "ablation.png"}
    assert made <= {path.name for path in out.iterdir()}
    again = call("ablate", "--config", config, "--out", out, *options)
    assert again.exit_code == 1
    assert "holds an ablation already" in again.stderr


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ([], "imagse: 9", "unknown key of the ablation 'imagse'; did you mean 'images'"),
        ([], "images: many", "expected images as a whole number of at least 1, got 'many'"),
        ([], "cells: [{name: a, hed: tied}]", "cell 'a': unknown setting 'hed'; did you mean"),
        (["--data", "nowhere"], "", "photos 'nowhere' do not exist"),
        (["--out", "."], "", ". is not empty and holds no ablation"),
    ],
)
def test_ablate_refuses_in_one_line(call, config, tmp_path, monkeypatch, options, text, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ttame.training.run.train", lambda *a, **k: pytest.fail("trained"))
    content = config.read_text()
    config.write_text(content.partition("cells")[0] + text if "cells" in text else content + text)
    result = call("ablate", "--config", config, "--out", "out", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
