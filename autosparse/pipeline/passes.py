"""Passes over the calibration data: one, and more of them where not all Hessians fit into memory.

The first one tells the ranges, and every statistic but the Hessians that had no room. These are
collected when a method asks for one of them, in place of those that were there before: a level is
made for all layers in the order of the graph, so that it costs as many passes as there are groups.
Every pass sees the same batches, and so comes to the same Hessians, whatever the room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from autosparse.calibration import LayerStatistics, RangeObserver, StatisticsObserver
from autosparse.heap import free_memory, return_freed_memory
from autosparse.pipeline.hessian_room import hessian_groups
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.probe import Probe

_ROWS = 512
# Of all estimators, the one that needs the finest histogram: the others can read it too.
_FINEST = "entropy"


class Passes:
    """What the passes tell. The first one is made at once.

    Args:
        job: whose calibration data and runtime it is.
        needs: layer -> statistics that are asked for.

    Raises:
        DataError: the model computes NaN or infinity on the calibration data.
    """

    def __init__(self, job: Job, needs: Mapping[str, Collection[str]]) -> None:
        self._job = job
        self._data = first_rows(job.calibration, _ROWS)
        layers = [layer for layer in job.graph.layers if layer.name in needs]
        reading = [layer for layer in layers if "hessian" in needs[layer.name]]
        self._groups = hessian_groups(job.graph, reading, free_memory())
        self.ranges = RangeObserver(_FINEST)
        """Ranges of the tensors that int8 layers read and write."""
        first = self._groups[0] if self._groups else ()
        self._first = self._latest = StatisticsObserver(job.graph, layers, hessians=first)
        self._resident: int | None = 0
        """Which group's Hessians are in memory."""
        self._rows_at_once = self._first_pass()
        return_freed_memory()

    def statistics(self, layer: str, *, hessian: bool) -> LayerStatistics:
        """What is known of a layer's input.

        Args:
            layer: its name.
            hessian: whether its Hessian must be among it.
        """
        if not hessian:
            return self._first.statistics(layer)
        group = next(number for number, names in enumerate(self._groups) if layer in names)
        if group != self._resident:
            self._collect(group)
        return self._latest.statistics(layer)

    def _first_pass(self) -> int:
        """Observe everything there is room for, keeping no tensor; rows of a batch."""
        job, graph = self._job, self._job.graph
        progress = job.engines.progress
        progress.stage("calibrate", f"{len(self._data)} rows")
        if len(self._groups) > 1:
            count = sum(map(len, self._groups))
            progress.note(
                f"the Hessians of {count} layers do not fit into memory together: they are "
                f"collected in {len(self._groups)} passes, again for every level that reads them"
            )
        ranged = set(job.backend.calibrated_tensors(graph))
        probe = Probe(job, graph, self._data, ranged.union(self._first.tensors))
        done = 0
        for seen, rows in probe:
            for name, values in seen.items():
                if name in ranged:
                    self.ranges.observe(name, values)
                self._first.observe(name, values)
            done += rows
            progress.step(done, len(self._data))
        return probe.rows_at_once

    def _collect(self, group: int) -> None:
        """Another pass, for the Hessians of one group; those of the last one are gone."""
        self._resident = None
        self._first.drop_hessians()
        self._latest = self._first
        return_freed_memory()
        graph, names = self._job.graph, self._groups[group]
        layers = [layer for layer in graph.layers if layer.name in names]
        latest = StatisticsObserver(graph, layers, hessians=names)
        for seen, _ in Probe(self._job, graph, self._data, latest.tensors, self._rows_at_once):
            for name, values in seen.items():
                latest.observe(name, values)
        self._latest, self._resident = latest, group
