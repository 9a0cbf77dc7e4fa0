"""The method of a comparison: a paragraph for a paper, from the configurations and records of its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_compare.configs import find_setting
from cnn_compare.formatting import format_list
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import StoredRun, StoredRuns, distinct
from cnn_compare.report.section import Section

DATA_SETS = {"CIFAR10": "CIFAR-10 (Krizhevsky 2009)", "Digits": "the handwritten digits of scikit-learn"}
NORMALIZATIONS = {
    "half": "mean and standard deviation 0.5",
    "own": "the mean and standard deviation of the training images",
    "cifar10": "the mean and standard deviation of CIFAR-10",
    "imagenet": "the mean and standard deviation of ImageNet",
}
STEPS = {
    "crop": "shifts by up to 4 pixels",
    "flip": "horizontal flips",
    "resized_crop": "random parts of 8 to 100 % of the image",
    "color_jitter": "changes of brightness, contrast and saturation by up to 40 %",
    "cutout": "squares of 16 pixels set to the mean",
}
PRECISIONS = {
    "32-true": "32-bit floating point",
    "bf16-mixed": "mixed bfloat16 precision",
    "16-mixed": "mixed 16-bit precision",
}
SHOWN_ARGUMENTS = {
    "lr": "learning rate",
    "momentum": "momentum",
    "nesterov": "Nesterov",
    "betas": "betas",
    "weight_decay": "weight decay",
}


HOW_TO_CITE = "To cite the program: cnn_compare, with the version above, as CITATION.cff in its repository says."


def of(found: Findings) -> Section | None:
    """The paragraph, to be copied, and how to cite."""
    text = how_it_was_done(found.stored)
    return Section("method", "How it was done", [text, HOW_TO_CITE]) if text else None


def how_it_was_done(stored: StoredRuns) -> str:
    """The data, the training, the seeds, the machine and the command, in sentences; empty without finished runs.

    Settings are those of the networks without declared differences, which are listed apart; one that was not the same
    in all of these runs is given with each of its values.
    """
    runs = [run for run in stored.finished if run.config]
    return " ".join(_sentences(stored, runs)) if runs else ""


def _sentences(stored: StoredRuns, runs: Sequence[StoredRun]) -> Iterator[str]:
    names = list(dict.fromkeys(run.network for run in runs))
    alike = [run for run in runs if not run.result.declared_changes] or runs
    yield f"We trained {format_list(names)} on {_data(alike)}."
    yield f"{_images(runs)}."
    yield f"{_preparation(alike)}."
    yield f"{_start(alike)}."
    if _each(alike, "model.optimizer", _class_name):
        yield f"{_training(alike)}."
    yield from _extras(alike)
    yield from _differences(runs)
    yield f"{_selection(alike)}."
    yield f"{_repetitions(stored, runs)}."
    yield f"{_machine(runs)}."
    if command := stored.manifest.get("command"):
        yield f"Command: `{command}`."


def _each(runs: Sequence[StoredRun], setting: str, in_words: Callable[[Any], str | None] = str) -> str:
    """A setting's values in words, the one that most runs have first; empty where none has one."""
    texts = [in_words(find_setting(run.config, setting)) for run in runs]
    return " or ".join(text for text, _ in Counter(text for text in texts if text).most_common())


def _data(runs: Sequence[StoredRun]) -> str:
    classes = distinct(len(run.result.class_names) for run in runs if run.result.class_names)
    names = {name: DATA_SETS.get(name, name) for name in map(data_name, (run.config for run in runs)) if name}
    return (" or ".join(names.values()) or "data whose name is not recorded") + (
        f", which has {' or '.join(classes)} classes" if classes else ""
    )


def data_name(config: Mapping[str, Any]) -> str | None:
    """The data's own name, its folder's or its class's; None where the configuration has no data."""
    section = config.get("data") or {}
    settings = section.get("init_args") or {}
    kind = str(section.get("class_path") or "").rpartition(".")[2].removesuffix("DataModule")
    place = Path(str(settings.get("labels") or settings.get("data_dir") or "")).parts
    of_folder = next((part for part in reversed(place) if not part.endswith(".csv")), kind)
    return settings.get("name") or (of_folder if kind == "Folder" else kind) or None


def _images(runs: Sequence[StoredRun]) -> str:
    """A sentence about the images of each split; of folds, from the fewest to the most."""

    def count(values: Sequence[int]) -> str:
        return " to ".join(f"{value:,}" for value in dict.fromkeys([min(values), max(values)]))

    splits: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    for run in runs:
        result = run.result
        known = (result.data.get("splits") or {}).get("val", {}).get("images", result.val_images)
        own = find_setting(run.config, "data.init_args.val_size")
        val_images = known or (own if isinstance(own, int) else None)
        for split, images in zip(splits, (result.train_images, val_images, result.test_images), strict=True):
            if images:
                splits[split].append(images)
    counted = [f"{count(values)} {split} images" for split, values in splits.items() if values]
    return f"There were {format_list(counted)}" if counted else "The numbers of images are not recorded"


def _preparation(runs: Sequence[StoredRun]) -> str:
    def steps(augmentation: Any) -> str:
        names = augmentation if isinstance(augmentation, list) else str(augmentation or "none").split("_")
        return format_list([STEPS.get(name, name) for name in names if name != "none"] or ["none"])

    def mean_and_deviation(normalization: Any) -> str | None:
        if normalization is None or isinstance(normalization, str):
            return NORMALIZATIONS.get(normalization or "", normalization)
        return f"the means and standard deviations {normalization}"

    size = _each(runs, "data.init_args.image_size", lambda side: f"{side} × {side} pixels" if side else None)
    normalized = _each(runs, "data.init_args.normalization", mean_and_deviation)
    augmentation = _each(runs, "data.init_args.augmentation", steps)
    augmented = "were not augmented" if augmentation == "none" else f"were augmented by {augmentation}"
    steps_of_all = {"scaled to": size, "normalised with": normalized}
    prepared = " and ".join(f"{step} {how}" for step, how in steps_of_all.items() if how)
    return f"Images were {prepared}; training images {augmented}" if prepared else f"Training images {augmented}"


def _start(runs: Sequence[StoredRun]) -> str:
    def weights(model: Any) -> str:
        model = model or {}
        given = model.get("weights")
        if model.get("pretrained") or given == "imagenet":
            return "ImageNet weights"
        return f"the weights of {Path(str(given)).name}" if given else "random weights"

    stem = " with stems for small images" if _each(runs, "model.stem") == "cifar" else ""
    return f"The networks{stem} started from {_each(runs, 'model', weights)}"


def _class_name(section: Any) -> str | None:
    return str(section["class_path"]).rpartition(".")[2] if isinstance(section, Mapping) else None


def _training(runs: Sequence[StoredRun]) -> str:
    def optimizer(section: Any) -> str:
        arguments = section.get("init_args") or {}
        shown = [
            f"{words} {format_list([f'{each:g}' for each in value])}"
            if isinstance(value, list)
            else f"{words} {value:g}"
            for key, words in SHOWN_ARGUMENTS.items()
            if (value := arguments.get(key)) not in (None, False, 0)
        ]
        return f"{_class_name(section)} ({', '.join(shown)})".replace("Nesterov 1", "Nesterov")

    def schedule(section: Any) -> str:
        if section is None:
            return "a constant learning rate"
        name, arguments = _class_name(section), section.get("init_args") or {}
        if name == "WarmupCosine":
            warmup = 100 * arguments.get("warmup", 0)
            return f"a learning rate that rises over the first {warmup:g} % of the steps and falls to 0 along a cosine"
        shown = ", ".join(f"{key} {value}" for key, value in arguments.items() if value is not None)
        return f"the schedule {name}" + (f" ({shown})" if shown else "")

    epochs = _each(runs, "trainer.max_epochs", lambda count: f"{count} epochs" if (count or 0) > 0 else None)
    time = _each(runs, "trainer.max_time", lambda time: f"a time of {time}" if time else None)
    length = " or ".join(filter(None, [epochs, time]))
    batch = _each(runs, "data.init_args.batch_size")
    precision = " or ".join(distinct(PRECISIONS.get(run.result.precision or "", run.result.precision) for run in runs))
    return (
        f"They were trained for {length} with {_each(runs, 'model.optimizer', optimizer)}, batches of {batch} images "
        f"and {_each(runs, 'model.lr_scheduler', schedule)}, in {precision}"
    )


def _extras(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Sentences about what only some comparisons have."""
    if smoothing := _each(runs, "model.label_smoothing", lambda value: f"{value:g}" if value else None):
        yield f"Labels were smoothed by {smoothing}."
    if weights := _each(runs, "model.class_weights", lambda value: None if value in (None, "none") else str(value)):
        yield f"Classes were weighted ({weights})."
    if frozen := _each(runs, "model.freeze", lambda value: None if value in (None, "none") else str(value)):
        yield f"Layers that were not trained: {frozen}."
    if patience := _each(runs, "patience", lambda value: str(value) if value else None):
        yield f"Training stopped after {patience} epochs without a better validation."
    for run in runs[:1]:
        for callback in find_setting(run.config, "trainer.callbacks") or []:
            name, arguments = callback["class_path"].rpartition(".")[2], callback.get("init_args") or {}
            if name == "EMAWeightAveraging":
                yield f"Weights were averaged exponentially (decay {arguments.get('decay')})."
            elif name == "PreciseBatchNorm":
                images = f"{arguments['images']:,} " if "images" in arguments else ""
                yield f"Batch norm's statistics were recomputed from {images}training images before each validation."


def _differences(runs: Sequence[StoredRun]) -> Iterator[str]:
    """A sentence about what was not the same for all networks, on purpose."""
    declared = {run.network: run.result.declared_changes for run in runs if run.result.declared_changes}
    texts = []
    for network, changes in declared.items():
        shown = [
            f"{setting.removesuffix('.class_path').replace('.init_args', '')} = {value}"
            for setting, value in changes.items()
            if value is not None
        ]
        texts.append(f"{network} had {', '.join(shown)}")
    if texts:
        yield f"Networks differed on purpose: {'; '.join(texts)}."


def _selection(runs: Sequence[StoredRun]) -> str:
    def chosen(monitor: Any) -> str:
        name = str(monitor or "val/acc")
        known = {"val/acc": "highest validation accuracy", "val/loss": "lowest validation loss"}
        return known.get(name, f"best {name}")

    return f"The test images were used once, with the weights of the epoch with the {_each(runs, 'monitor', chosen)}"


def _repetitions(stored: StoredRuns, runs: Sequence[StoredRun]) -> str:
    seeds = sorted({run.result.seed for run in runs})
    folds = {fold for planned in stored.planned.values() for _, fold in planned if fold is not None}
    if folds:
        return (
            f"In cross-validation with {len(folds)} folds"
            + (f", {len(seeds)} times" if len(seeds) > 1 else "")
            + ", each image was tested by networks that were trained without it"
        )
    numbers = format_list(list(map(str, seeds)))
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    verb = "decide" if len(seeds) > 1 else "decides"
    decides = f"which {verb} the first weights, the order of the images and the augmentation; the splits are fixed"
    return f"Each network was trained with {count} ({numbers}), {decides}"


def _machine(runs: Sequence[StoredRun]) -> str:
    devices = " or ".join(distinct(run.result.device for run in runs))
    versions: dict[str, dict[str, None]] = {}
    for run in runs:
        for package, version in run.result.versions.items():
            versions.setdefault(package, {})[version] = None
    packages = ", ".join(f"{package} {' or '.join(each)}" for package, each in versions.items())
    return f"Device: {devices}. Versions: {packages}"
