"""What a comparison shows, as plain values: `Summary` and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cnn_compare.report.statistics import Calibration, Estimate


@dataclass(frozen=True)
class Curves:
    """Learning curves of one network, one value an epoch; accuracies in percent, over its seeds."""

    epochs: list[int]
    seconds: list[float]
    val_acc_pct: list[float]
    lowest_pct: list[float]
    highest_pct: list[float]
    train_acc_pct: list[float]
    train_loss: list[float]
    val_loss: list[float]


@dataclass(frozen=True)
class Network:
    """Everything known of one network of a comparison; units as in `RunResult`, means or medians over its seeds.

    ``accuracy_pct`` carries the interval for other seeds and other test images, ``seeds_pct`` the t interval for other
    seeds alone (None with one seed). ``dominated_by`` names a network that is at least as accurate and as fast;
    ``on_front`` is None where times cannot be ranked. ``rank_shares`` tell how often it takes each rank when seeds and
    test images are drawn anew.
    """

    name: str
    backbone: str
    variant: str | None
    seeds: list[int]
    test_acc_pct: list[float]
    accuracy_pct: Estimate
    sd_points: float | None
    seeds_pct: Estimate | None
    best_val_acc_pct: float | None
    top5_pct: float | None
    macro_f1_pct: float | None
    generalisation_gap_points: float | None
    epoch_s: float | None
    first_epoch_s: float | None
    images_per_s: float | None
    fit_s: float | None
    energy_j_per_epoch: float | None
    params: float | None
    macs: float | None
    peak_memory_bytes: float | None
    contended: bool
    architecture: dict[str, Any]
    calibration: Calibration | None
    class_acc_pct: list[float]
    confusion: list[list[int]]
    curves: Curves | None
    seconds_to_pct: dict[int, float | None]
    rank_shares: list[float] = field(default_factory=list)
    on_front: bool | None = None
    dominated_by: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two networks, the more accurate one first; ``points`` is how much more, in percentage points of accuracy."""

    first: str
    second: str
    points: Estimate
    p: float
    p_holm: float
    differs: bool
    seeds: int
    method: str
    seeds_needed: float | None
    p_paired_t: float | None


@dataclass(frozen=True)
class Summary:
    """A comparison's outcome; the networks stand in the order of their accuracy.

    ``warnings`` say why it is not controlled or its times are not to be compared; ``declared`` say what, by the
    comparison's own configuration, was not the same for all networks, and ``variants`` are its names for that;
    ``varied`` maps each setting that is not the same everywhere to its values; ``hardest`` are the test images that
    most runs got wrong.
    """

    name: str
    recipe: str | None
    devices: list[str]
    precisions: list[str]
    fingerprints: list[str]
    warnings: list[str]
    declared: list[str]
    varied: dict[str, list[str]]
    timings_ranked: bool
    variants: list[str]
    class_names: list[str]
    test_images: int | None
    networks: list[Network]
    pairs: list[Pair]
    verdict: list[str]
    hardest: list[dict[str, Any]]
    without_result: list[dict[str, str]]
    beside_2023: dict[str, Any] | None
