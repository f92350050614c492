"""Bad input on the command line: exit code 2, one sentence on standard error, no traceback."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autosparse.cli.main import COMMANDS, run
from tests.cli.conftest import Complain
from tests.models import images
from tests.workers.agents import DEVICE, KEY, PlayedLane, running_agent
from workers.agent_key import KEY_VARIABLE

FLAGS: list[tuple[list[str], str]] = [
    (["--latency-budget", "fast"], "'fast' is no latency budget"),
    (["--latency-budget", "0%"], "cannot be met"),
    (["--latency-budget=-3ms"], "cannot be met"),
    (["--latency-budget", "-3ms"], "cannot be met"),
    (["--max-drop", "-.5pt"], "is no allowed drop"),
    (["--latency-budget", "8"], "'8' is no latency budget"),
    (["--max-drop", "a bit"], "'a bit' is no allowed drop"),
    (["--percentile", "p99"], "--percentile: Input should be 'p50' or 'p95'"),
    (["--threads", "0"], "--threads: Input should be greater than or equal to 1"),
    (["--threads", "5000"], "--threads: Input should be less than or equal to 1024"),
    (["--threads", "many"], "--threads: Input should be a valid integer"),
    (["--batch-size", "0"], "--batch-size"),
    (["--input-shape", "image"], "'image' is no input shape"),
    (["--input-shape", "picture=1,3,8,8"], "'picture', which is no input of the model"),
    (["--input-shape", "image=1,1,8,8"], "does not fit the model's input"),
    (["--input-shape", "image=2,3,8,8"], "--batch-size is 1"),
    (["--space", "moon"], "no search space is called 'moon'"),
    (["--space", "gone.yaml"], "cannot read the search space gone.yaml"),
    (["--backend", "onnx"], "no backend is called 'onnx'"),
    (["--exclude", "("], "--exclude '(' is no regular expression"),
    (["--exclude", "nothing"], "--exclude 'nothing' matches no layer"),
    (["--keep", "stem"], "--keep 'stem' names no level"),
    (["--keep", "stem=int8"], "'int8' is no level"),
    (["--keep", "stem=dense:bf16"], "--keep wants dense:bf16"),
    (["--keep", "nothing=dense:fp32"], "--keep 'nothing' matches no layer"),
    (["--trials", "0"], "--trials: Input should be greater than or equal to 1"),
    (["--time-limit", "soon"], "'soon' is no duration"),
    (["--time-limit", "0s"], "--time-limit: Input should be greater than 0"),
    (["--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
    (["--target", "gone.yaml"], "cannot read the target gone.yaml"),
    (["--config", "gone.yaml"], "cannot read the configuration gone.yaml"),
]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "nothing to resolve is given"),
        (["gone"], "there is no gone"),
        ([".", "--trials", "-1"], "--trials: Input should be greater than or equal to 0"),
        ([".", "--latency-budget", "fast"], "'fast' is no latency budget"),
        ([".", "--percentile", "p99"], "--percentile: Input should be 'p50' or 'p95'"),
        (["."], "is neither a bundle nor the output directory of a job"),
    ],
)
def test_a_resolve_without_a_job_is_told(
    flags: list[str], told: str, complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in complain(["resolve", *flags])[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flags", "told"), FLAGS, ids=[" ".join(flags) for flags, _ in FLAGS])
def test_a_wrong_flag_is_told(
    job: list[str], complain: Complain, flags: list[str], told: str
) -> None:
    assert told in complain([*job, *flags, "--dry-run"])[0]


def test_a_missing_flag_is_named(job: list[str], complain: Complain) -> None:
    assert "no model is given" in complain(["optimize"])[0]
    assert "--calibration is missing" in complain(job[:4])[0]
    assert "--latency-budget is missing" in complain([*job[:2], *job[4:]])[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no model file"),
        (b"", "holds no ONNX graph"),
        (b"some text", "is not an ONNX file"),
    ],
    ids=["missing", "empty", "text"],
)
@pytest.mark.parametrize("command", ["optimize", "benchmark"])
def test_a_wrong_model_is_told(
    job: list[str], complain: Complain, tmp_path: Path, command: str, content: bytes | None,
    told: str,
) -> None:  # fmt: skip
    path = tmp_path / "other.onnx"
    if content is not None:
        path.write_bytes(content)
    rest = [*job[2:], "--dry-run"] if command == "optimize" else []
    assert told in complain([command, str(path), *rest])[0]


@pytest.mark.parametrize(
    ("role", "arrays", "told"),
    [
        ("calibration", None, "there is no calibration file"),
        ("validation", None, "there is no validation file"),
        ("calibration", {"picture": images(4)}, "holds the array 'picture'"),
        ("validation", {"image": images(4).astype(np.float64)}, "float64"),
        ("validation", {"image": images(1), "labels": np.zeros(1, np.int64)}, "has one row"),
        ("validation", {"image": images(4) * np.nan}, "NaN or infinite"),
        ("calibration", {"image": images(4)[:, :2]}, "has the shape (4, 2, 8, 8)"),
        ("calibration", {"image": images(0)}, "has no rows"),
        ("calibration", {"labels": np.arange(4)}, "has no array 'image'"),
        ("validation", {"image": images(4), "labels": np.full(4, 77)}, "from 77 to 77"),
        ("validation", {"image": images(4), "labels": np.full((4, 2), 1)}, "of shape (rows,)"),
        (
            "validation",
            {"image": images(4), "labels": images(4)[:, 0, 0, :3]},
            "--max-drop has to be given: rmse is not a metric in [0, 1], and the usual 1pt is in",
        ),
        ("validation", {"image": images(4), "labels": np.arange(3)}, "different numbers of rows"),
        (
            "validation",
            {"image": images(4)},
            "--max-drop has to be given: without labels kl is judged, which is not a metric in",
        ),
    ],
)
def test_wrong_data_are_told(
    job: list[str], complain: Complain, tmp_path: Path, role: str, arrays: object, told: str
) -> None:
    path = tmp_path / f"{role}.npz"
    path.unlink()
    if isinstance(arrays, dict):
        np.savez(path, **arrays)
    assert told in complain(job)[0]


def test_a_drop_in_points_that_was_asked_for_is_told(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    np.savez(tmp_path / "validation.npz", image=images(4))
    error, hint = complain([*job, "--max-drop", "2pt"])
    assert "--max-drop 2pt is in percentage points, but kl is not a metric in [0, 1]" in error
    assert "--max-drop 0.01" in hint


def test_labels_are_checked_before_the_baseline_is_timed(
    job: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "validation.npz", image=images(4), labels=np.array([0, 3, 10, 2]))
    assert run(job) == 2
    err = capsys.readouterr().err
    assert "labels reach from 0 to 10" in err
    assert "save class indices from 0 to 9" in err
    assert "baseline" not in err
    assert not (tmp_path / "out").exists()


def test_a_test_file_without_labels_is_told_at_once(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    test = str(tmp_path / "calibration.npz")
    told = complain([*job, "--test", test])
    assert "the metric top1 needs labels, and the test file has none" in told[0]


def test_a_metric_without_its_labels_is_told(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    np.savez(tmp_path / "validation.npz", image=images(4))
    error, hint = complain([*job, "--metric", "top1"])
    assert "the metric top1 needs labels, and the validation file has none" in error
    assert "labels=..." in hint


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--threads", "2"], "--threads 2 contradicts the target file"),
        (["--batch-size", "8"], "--batch-size 8 contradicts the target file"),
        (["--backend", "tvm"], "--backend tvm contradicts the target file"),
        (["--input-shape", "image=4,3,8,8"], "--input-shape image=4,3,8,8 contradicts the target"),
    ],
)
def test_a_flag_that_contradicts_the_target_is_told(
    job: list[str], complain: Complain, tmp_path: Path, flags: list[str], told: str
) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("threads: 1\nbatch_size: 2\ninput_shapes: {image: [2, 3, 8, 8]}\n")
    error, hint = complain([*job, "--target", str(path), *flags, "--dry-run"])
    assert told in error
    assert "which says" in error
    assert "leave the flag away" in hint


def test_a_flag_that_says_the_same_as_the_target_is_none(job: list[str], tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("threads: 2\n")
    flags = ["--threads", "2", "--input-shape", "image=1,3,8,8", "--dry-run"]
    assert run([*job, "--target", str(path), *flags]) == 0


def test_the_backend_is_the_targets(job: list[str], complain: Complain, tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("backend: moon\n")
    assert "no backend is called 'moon'" in complain([*job, "--target", str(path), "--dry-run"])[0]


@pytest.mark.skipif(DEVICE.machine == platform.machine(), reason="the device is as this machine")
def test_tuning_for_a_device_of_another_architecture_is_told(
    job: list[str], complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    with running_agent(tmp_path / "scratch", PlayedLane()) as agent:
        target = ["--target", f"rpc://{agent.address}", "--backend", "tvm", "--tune", "4"]
        error, hint = complain([*job, *target])
    assert f"--tune: loops for {DEVICE.machine} cannot be tried on {platform.machine()}" in error
    assert "leave --tune away" in hint
    assert agent.lane.asked == []


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("beauty", "no metric is called 'beauty'"),
        ("no_such_module:metric", "cannot be imported"),
        ("tests.evaluation.user_metric:NOT_CALLABLE", "is no function"),
    ],
)
def test_a_wrong_metric_is_told(job: list[str], complain: Complain, metric: str, told: str) -> None:
    assert told in complain([*job, "--metric", metric])[0]


def test_a_directory_with_something_in_it_is_not_written_to(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    error, hint = complain(job)
    assert "is not empty" in error
    assert "--resume" in hint
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_file_in_place_of_the_directory_is_told(
    job: list[str], complain: Complain, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    assert "is a file" in complain(job)[0]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("budget: 60%", "there is no --budget; known are "),
        ("[1, 2]", "holds no document of fields"),
        ("a: [", "is not YAML or JSON"),
        ("max_drop: a bit", "'a bit' is no allowed drop"),
        ("latency_budget: 8\nmodel: m\ncalibration: c\nvalidation: v", "'8' is no latency budget"),
        ("threads: [1]", "--threads"),
    ],
)
def test_a_wrong_configuration_is_told(
    job: list[str], complain: Complain, tmp_path: Path, document: str, told: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(document)
    given = [] if "latency_budget" in document else job[1:]
    assert told in complain(["optimize", *given, "--config", str(path), "--dry-run"])[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--threads", "0"], "--threads go from 1"),
        (["--threads", "5000"], "--threads go from 1"),
        (["--rounds", "2"], "--rounds at 3"),
        (["--batch-size", "0"], "--batch-size starts at 1"),
        (["--input-shape", "image=1,2"], "does not fit"),
        (["--inputs", "gone.npz"], "there is no inputs file gone.npz"),
        (["gone.onnx"], "there is no model file gone.onnx"),
    ],
)
def test_a_wrong_benchmark_is_told(
    residual_model: Path, complain: Complain, arguments: list[str], told: str
) -> None:
    assert told in complain(["benchmark", str(residual_model), *arguments])[0]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x09\x3a\xff"])
def test_what_is_no_model_is_told_whichever_place_it_has(
    residual_model: Path, complain: Complain, tmp_path: Path, content: bytes
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(content)
    assert "other.onnx" in complain(["benchmark", str(residual_model), str(other)])[0]


def test_a_model_that_takes_other_inputs_is_told(
    residual_model: Path, classifier_model: Path, complain: Complain
) -> None:
    error, hint = complain(["benchmark", str(residual_model), str(classifier_model)])
    assert "the files do not run side by side: ONNX Runtime" in error
    assert "take the inputs of the first" in hint


@pytest.mark.parametrize("manifest", [None, "", "{}", "[]", '{"schema_version": 2}'])
def test_what_is_no_bundle_is_told(
    complain: Complain, tmp_path: Path, manifest: str | None
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    told = complain(["verify", str(tmp_path)])[0]
    assert ("is no bundle" if manifest is None else "manifest.json is damaged") in told


def test_a_demo_into_a_directory_with_something_in_it_is_refused(
    complain: Complain, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("mine")
    assert "is not empty" in complain(["demo", "--output-dir", str(tmp_path)])[0]


@pytest.mark.parametrize(
    "argv", [[], ["bogus"], ["--bogus"], *([name, "--bogus"] for name in COMMANDS)],
    ids=lambda argv: " ".join(argv) or "nothing",
)  # fmt: skip
def test_unknown_commands_and_flags_exit_with_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(argv)
    assert caught.value.code == 2
    assert "usage: autosparse" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["optimize", "gone.onnx", "--latency-budget", "fast"], "error: 'fast' is no latency"),
        (["bogus"], "invalid choice: 'bogus'"),
    ],
)
def test_the_console_script_does_the_same(argv: list[str], told: str, tmp_path: Path) -> None:
    script = str(Path(sys.executable).with_name("autosparse"))
    done = subprocess.run(
        [script, *argv], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
