"""The atlas of a small model with the real runtime and the real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.evaluation import Target
from autosparse.levels.atlas import LayerShape
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.config import read_profile_config
from autosparse.pipeline.progress import Silent
from backends.kernels.support import why_no_kernels
from tests.models import Net
from workers.local import local_engines

ROWS, WIDTH = 64, 256


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_kernels()), reason=why_no_kernels())
def test_zeros_make_a_wide_layer_faster(tmp_path: Path) -> None:
    net = Net()
    value = net.input("x", ROWS, WIDTH)
    for index in range(2):
        value = net.node("MatMul", value, net.weight(f"fc{index}.weight", WIDTH, WIDTH))
    net.node("Relu", value, to="y")
    model = net.save(tmp_path / "wide.onnx", "y")
    config = read_profile_config(
        {
            "model": model, "atlas": True, "output_dir": tmp_path / "atlas", "batch_size": ROWS,
            "levels": "unstructured@0.5:fp32,unstructured@0.95:fp32,2:4:int8,block1x4@0.9:int8",
        }
    )  # fmt: skip
    with local_engines(Target(), Silent()) as engines:
        data = run_atlas(config, engines)
        again = run_atlas(config, engines)
    (entry,) = data.entries
    assert entry.shape == LayerShape(
        operator="MatMul", weight_shape=(WIDTH, WIDTH), input_shape=(ROWS, WIDTH)
    )
    assert len(entry.layers) == 2
    times = {str(time.level): time for time in entry.times}
    assert all(t.seconds for level, t in times.items() if level != "dense:int4"), times
    dense, sparse = times["dense:fp32"].seconds, times["unstructured@0.95:fp32"].seconds
    assert dense is not None
    assert sparse is not None
    assert sparse < dense
    assert sparse < (times["unstructured@0.5:fp32"].seconds or 0.0)
    assert again.measured == 0
    assert (tmp_path / "atlas" / "atlas.html").is_file()
