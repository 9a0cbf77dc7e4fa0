"""What a command would run, and about how long that takes; nothing is run or changed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cnn_compare.comparison.existing import Existing
from cnn_compare.comparison.jobs import work_of
from cnn_compare.comparison.runner import finished_earlier
from cnn_compare.comparison.spec import RunSpec
from cnn_compare.formatting import format_duration


def preview(specs: Sequence[RunSpec], existing: Existing) -> list[dict[str, str]]:
    """One row a planned run: its network, images, seed and fold, what happens to it, and about how long it trains.

    A network that has finished with another seed and as many images gives the time. Others take the time that their
    multiply-accumulates, images and epochs give, relative to the finished runs; without any, relative to the cheapest.
    """
    work = {spec.key: work_of(spec) for spec in specs}
    measured: dict[tuple[str, int | None], list[float]] = {}
    s_per_mac: list[float] = []
    for spec in specs:
        result = existing.results.get(spec.key)
        fit_s = result.value("fit_s") if result else None
        if fit_s is not None:
            measured.setdefault((spec.key.network, spec.key.train_subset), []).append(fit_s)
            if work[spec.key]:
                s_per_mac.append(fit_s / work[spec.key])
    cheapest = min((macs for macs in work.values() if macs), default=0.0)
    rows = []
    for spec in specs:
        macs = work[spec.key]
        if spec.key in existing.results:
            what, how_long = finished_earlier(existing.results[spec.key]), ""
        else:
            kept = not any(spec.folder.path.is_relative_to(path) for path in existing.remove)
            resumes = kept and (spec.folder.checkpoints / spec.folder.LAST).exists()
            what = "goes on from its last checkpoint" if resumes else "is trained"
            if alike := measured.get((spec.key.network, spec.key.train_subset)):
                how_long = f"{format_duration(statistics.median(alike))}, as with other runs"
            elif not macs:
                how_long = "unknown"
            elif s_per_mac:
                how_long = f"roughly {format_duration(macs * statistics.median(s_per_mac))}, by its MACs"
            else:
                how_long = f"roughly {macs / cheapest:.3g} x the cheapest run, by its MACs"
        which = {"network": spec.key.network}
        which |= {} if spec.key.train_subset is None else {"training images": f"{spec.key.train_subset:,}"}
        which |= {"seed": str(spec.key.seed)}
        which |= {} if spec.key.fold is None else {"fold": str(spec.key.fold)}
        rows.append({**which, "run": what, "training": how_long})
    return rows
