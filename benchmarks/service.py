"""The service: two commands to a verified bundle, and many readers while a search runs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np

from autosparse.evaluation import read_environment
from benchmarks.benchmark import Request
from benchmarks.cifar_models import read_images
from benchmarks.model_files import ModelRequest, Sizes, UnavailableError, asset
from benchmarks.rows import Row, failed_row, skipped_row
from benchmarks.served import Served
from benchmarks.service_load import Load, LoadedServer, LoadPlan, put_under_load

_FULL, _QUICK = LoadPlan(200, 50.0, 600.0), LoadPlan(200, 50.0, 60.0)
_SIZES = Sizes(calibration=256, validation=2000, held_out=0)
_P99_SECONDS, _MOST_GROWTH = 0.25, 1.05
_SEARCH_SECONDS = 900.0
_MIB = 1 << 20
_ENDED = frozenset({"finished", "failed", "cancelled"})


class ServiceBenchmark:
    """Implements `Benchmark`."""

    summary = "a served job from two commands, and 200 followers with 50 reads a second"

    def rows(self, request: Request) -> Iterator[Row]:
        """The scenario first: its uploads serve the job under load, too."""
        environment = read_environment().id
        directory = request.directory / "service"
        directory.mkdir(parents=True)
        try:
            flags = given_files(ModelRequest(request.assets, directory, _SIZES))
        except UnavailableError as missing:
            yield skipped_row("served jobs of resnet20", str(missing), environment)
            return
        served = Served(directory)
        served.start()
        try:
            yield scenario_row(request, served, flags, environment)
            yield from load_rows(request, served, flags, environment)
        except Exception as error:  # what was measured before must not be lost
            yield failed_row("the service", str(error), environment)
        finally:
            served.stop()


def given_files(request: ModelRequest) -> tuple[str, ...]:
    """The command line's part that names the model and its data, with labels.

    Raises:
        UnavailableError: a file of the assets is not there.
    """
    model = asset(request, "models/resnet20.onnx")
    parts = {"calibration": ("train", request.sizes.calibration),
             "validation": ("valid", request.sizes.validation)}  # fmt: skip
    flags = [str(model)]
    for name, (source, rows) in parts.items():
        images = read_images(asset(request, f"data/cifar10_{source}.npz"), slice(0, rows))
        path = request.directory / f"{name}.npz"
        np.savez(path, input=images.images, labels=images.labels)
        flags += [f"--{name}", str(path)]
    return tuple(flags)


def scenario_row(request: Request, served: Served, flags: Sequence[str], environment: str) -> Row:
    """Submit with a 60 % budget and follow; fetch; verify what was fetched, on this machine."""
    limit = "2m" if request.quick else "10m"
    request.say(f"a job from two commands, {limit} for the job")
    started = time.monotonic()
    steps = {
        "submit": ("submit", *flags, "--latency-budget", "60%", "--max-drop", "1pt",
                   "--time-limit", limit, "--watch", "--json"),
        "fetch": ("fetch", "JOB", "--output-dir", "bundle"),
        "verify": ("verify", "bundle", "--model", flags[0], "--validation", flags[-1]),
    }  # fmt: skip
    job = ""
    for name, argv in steps.items():
        done = served.command(*(job if part == "JOB" else part for part in argv))
        if done.returncode != 0:
            complaint = (done.stderr or done.stdout).strip()[-400:]
            return failed_row("two commands to a verified bundle", f"{name}: {complaint}",
                              environment)  # fmt: skip
        job = job or json.loads(done.stdout)["id"]
    return Row(
        what="from submission to a fetched and verified bundle, ResNet-20 at 60 %",
        figure=time.monotonic() - started,
        unit="s",
        bar="verified",
        holds=(served.directory / "bundle" / "model.onnx").is_file(),
        environment=environment,
        note=f"{limit} for the job; every file's checksum compared, latency and quality measured "
        "again",
    )


def load_rows(
    request: Request, served: Served, flags: Sequence[str], environment: str
) -> Iterator[Row]:
    """Followers and readers while another job of the same model searches."""
    plan = _QUICK if request.quick else _FULL
    job = searching_job(request, served, flags, plan.seconds)
    request.say(f"{plan.followers} followers, {plan.reads_per_second:g} reads/s of {job}")
    server = LoadedServer(served.url, served.key, served.running.pid)
    load = put_under_load(server, job, plan)
    state = json.loads(served.command("jobs", "--json").stdout)[0]["state"]
    yield from rows_of(load, plan, state, environment)
    served.command("cancel", job)


def searching_job(request: Request, served: Served, flags: Sequence[str], seconds: float) -> str:
    """Submit a job that searches for longer than the load lasts; its id, once it does.

    Raises:
        RuntimeError: it was refused, or does not come to its search.
    """
    limit = f"{seconds + _SEARCH_SECONDS:.0f}s"
    done = served.command(
        "submit", *flags, "--latency-budget", "60%", "--max-drop", "1pt", "--space", "int8",
        "--trials", "100000", "--time-limit", limit, "--json",
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the job was refused: {done.stderr}")
    job: str = json.loads(done.stdout)["id"]
    request.say(f"{job} gets ready")
    end = time.monotonic() + _SEARCH_SECONDS
    while time.monotonic() < end:
        found = json.loads(served.command("jobs", "--json").stdout)[0]
        if (found["progress"] or {}).get("stage") == "search":
            return job
        if found["state"] in _ENDED:
            raise RuntimeError(f"the job ended before the load: {found['problem']}")
        time.sleep(1.0)
    raise RuntimeError("the job does not come to its search")


def rows_of(load: Load, plan: LoadPlan, state: str, environment: str) -> Iterator[Row]:
    """What the load showed.

    Args:
        load: what was seen.
        plan: what was asked.
        state: the job's state when the load ended: it has to be running still.
        environment: id of the environment.
    """
    searched = state == "running"
    while_what = f"{plan.followers} followers, {plan.reads_per_second:g} reads/s, while a job "
    while_what += "searches" if searched else f"is {state}: the load was too small"
    reads = sorted(load.latencies)
    p99 = _share(reads, 0.99)
    yield Row(
        what=f"p99 of reads, {plan.seconds:g} s", figure=p99 * 1e3, unit="ms",
        bar=f"<= {_P99_SECONDS * 1e3:.0f} ms", holds=searched and p99 <= _P99_SECONDS,
        environment=environment,
        note=f"{while_what}; {len(reads)} reads, median {_share(reads, 0.5) * 1e3:.1f} ms, "
        f"slowest {_share(reads, 1.0) * 1e3:.0f} ms; {_processor_words(load)}",
    )  # fmt: skip
    told = ", ".join(f"{n} x {what}" for what, n in sorted(load.statuses.items()))
    yield Row(
        what="reads answered with 5xx, or not at all", figure=float(load.failed), bar="0",
        holds=load.failed == 0, environment=environment, note=told,
    )  # fmt: skip
    yield _followers_row(load, plan, environment)
    delays = sorted(load.delays)
    if delays:
        yield Row(
            what="p99 of the time from an event to its followers",
            figure=_share(delays, 0.99) * 1e3, unit="ms", environment=environment,
            note=f"{len(delays)} deliveries, median {_share(delays, 0.5) * 1e3:.0f} ms",
        )  # fmt: skip
    for name, samples in load.memory.items():
        yield _memory_row(name, samples, load.anonymous[name], environment)


def _followers_row(load: Load, plan: LoadPlan, environment: str) -> Row:
    """Every follower is told the same, each event once."""
    faults = sum(follower.faults for follower in load.followers)
    lengths = {len(follower.sequences) for follower in load.followers}
    broken = [follower.ended for follower in load.followers if follower.ended != "200"]
    return Row(
        what="events lost or doubled", figure=float(faults), bar="0",
        holds=faults == 0 and not broken and max(lengths) - min(lengths) <= 1 and max(lengths) > 0,
        environment=environment,
        note=f"{plan.followers} followers were told {min(lengths)} to {max(lengths)} events; "
        f"{len(broken)} streams broke off {' '.join(sorted(set(broken)))}".rstrip(),
    )  # fmt: skip


def _memory_row(
    name: str, samples: Sequence[int], anonymous: Sequence[int], environment: str
) -> Row:
    """The last fifth of the time against the second one: what starts is over by then."""
    early, late = _early_and_late(samples)
    own_early, own_late = _early_and_late(anonymous)
    return Row(
        what=f"memory of the {name}, last fifth of the time over the second",
        figure=late / early,
        bar=f"<= {_MOST_GROWTH}",
        holds=late <= _MOST_GROWTH * early,
        environment=environment,
        note=f"{early / _MIB:.1f} MiB, then {late / _MIB:.1f}; most {max(samples) / _MIB:.1f} MiB; "
        f"of it allocated {own_early / _MIB:.1f}, then {own_late / _MIB:.1f}",
    )


def _early_and_late(samples: Sequence[int]) -> tuple[float, float]:
    """Medians of the second and the last fifth."""
    fifth = max(len(samples) // 5, 1)
    early = statistics.median(samples[fifth : 2 * fifth] or samples)
    return early, statistics.median(samples[-fifth:])


def _processor_words(load: Load) -> str:
    """What both sides took, for whoever wonders which of them was slow."""
    told = [f"{name} {seconds:.1f} s" for name, seconds in load.processor.items()]
    return f"processor time: {', '.join(told)}"


def _share(values: Sequence[float], share: float) -> float:
    """The value that this share of sorted values does not exceed; infinite where there are none."""
    if not values:
        return float("inf")
    return values[min(int(share * len(values)), len(values) - 1)]
