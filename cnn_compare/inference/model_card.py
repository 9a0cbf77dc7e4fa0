"""The model card of an exported network: what it was trained on and how, how good it is, and where that ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnn_compare.backbones import find_backbone
from cnn_compare.errors import NoRunsError, ResultError
from cnn_compare.formatting import format_list
from cnn_compare.inference.classifier import Classifier
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs
from cnn_compare.report.network import Network
from cnn_compare.report.tables import escape_markdown
from cnn_compare.results import MANIFEST, RunFolder, RunResult
from cnn_compare.run_key import comparison_of

FITS = {
    "crop": "is scaled so that its shorter side is {side} pixels long, of which the middle is kept",
    "pad": "is scaled so that its longer side is {side} pixels long, with that colour around it",
    "squash": "is scaled to {side}×{side} pixels, whatever its proportions",
}
SPLIT_NAMES = {"train": "training", "val": "validation"}
NAMED = 12
"""How many classes the card names in its first sentence."""


@dataclass(frozen=True)
class Source:
    """The files beside a checkpoint.

    Args:
        config: Its run's configuration; empty where it is missing.
        result: Its run's result, with the test of these very weights; None where there was none.
        trained: The same, with intervals.
        network: The network over all seeds or folds of the comparison; None where there is one, or no comparison, or
            one of more training images.
        networks: How many networks the comparison has.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    result: RunResult | None = None
    trained: Network | None = None
    network: Network | None = None
    networks: int = 1


def model_card(classifier: Classifier, facts: Mapping[str, Any], checked_on: str) -> str:
    """The card as Markdown; the same for every format.

    Args:
        classifier: The network.
        facts: The metadata of its exported files.
        checked_on: The images on which an exported file is compared with torch, in words.
    """
    source = _source(classifier.checkpoint)
    names, entry = classifier.class_names, find_backbone(facts["backbone"])
    paper = ", ".join(str(value) for value in (entry.year, entry.paper) if value)
    shown = [escape_markdown(name) for name in names[:NAMED]]
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    environment = Environment(  # noqa: S701, the result is Markdown; names are escaped for that
        loader=PackageLoader("cnn_compare.inference", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escape_markdown
    about = f" ({escape_markdown(entry.key_idea)}; {paper})" if entry.key_idea and paper else ""
    return environment.get_template("model_card.md.j2").render(
        network=escape_markdown(source.result.network if source.result else facts["backbone"]),
        class_names=names,
        classes=f"{', '.join(shown)}{more}" if more else format_list(shown),
        with_stem=" with its cifar stem" if facts["stem"] == "cifar" else "",
        about=about,
        facts=facts,
        options=" ".join(_options(facts)),
        fit=FITS[facts["fit"]].format(side=facts["size"]),
        inside=_inside(facts),
        checked_on=checked_on,
        data=[*_data(source, facts)],
        recipe=[*_recipe(source.config)] or ["No configuration is stored beside the checkpoint."],
        results=[*_results(source)],
        recalls=_recalls(source.trained, names),
        limits=[*_limits(source, names)],
        origin=[*_origin(facts)],
    )


def _source(checkpoint: Path | None) -> Source:
    """Read what lies beside a checkpoint in a run's folder; its result only for the weights that were tested."""
    run = None if checkpoint is None else RunFolder(checkpoint.absolute().parent.parent)
    if checkpoint is None or run is None or run.checkpoints != checkpoint.absolute().parent:
        return Source()
    config: dict[str, Any] = {}
    with suppress(ResultError):
        config = run.load_config()
    if checkpoint.name != RunFolder.BEST or not run.result.is_file():
        return Source(config)
    try:
        own = Findings(find_runs(run.path))
        result = run.load_result()
    except (NoRunsError, ResultError):
        return Source(config)
    if not own.networks:
        return Source(config)
    (trained,) = own.networks
    comparison = comparison_of(run.path)
    if comparison is None or not (comparison / MANIFEST).is_file():
        return Source(config, result, trained)
    stored = find_runs(comparison)
    networks = {network.name: network for network in Findings(stored).networks}
    network = networks.get(result.network)
    if network is None or len(network.test_acc_pct) < 2 or not any(each.folder == run.path for each in stored.runs):
        network = None
    return Source(config, result, trained, network, len(networks))


def _options(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"--model.backbone={facts['backbone']}"
    if facts["stem"] != "imagenet":
        yield f"--model.stem={facts['stem']}"
    if facts["transform_input"]:
        yield "--model.pretrained=true"  # Makes the network convert its input, as it did in training.


def _inside(facts: Mapping[str, Any]) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in part) for part in facts["mean_std"])
    steps = [f"the normalisation of pixels from 0 to 1 (mean {mean}; deviation {std})"]
    if facts["image_size"] != facts["size"]:
        steps.append(f"the resize to {facts['image_size']} pixels")
    if facts["flip_tta"]:
        steps.append("the mean with the mirror image")
    text = f"{format_list(steps)} {'are' if len(steps) > 1 else 'is'} part of the file."
    return text[0].upper() + text[1:]


def _data(source: Source, facts: Mapping[str, Any]) -> Iterator[str]:
    section, result = source.config.get("data") or {}, source.result
    if class_path := section.get("class_path"):
        settings = section.get("init_args") or {}
        place = Path(str(settings.get("labels") or settings.get("data_dir") or "")).name
        named = settings.get("name")
        yield f"{' '.join(filter(None, [class_path.rpartition('.')[2], named and escape_markdown(str(named))]))}" + (
            f" on {escape_markdown(place)}" if place and named is None else ""
        )
    if result is not None and result.data.get("splits"):
        yield escape_markdown(str(result.data["layout"]))
        for name, split in result.data["splits"].items():
            groups = f" of {split['groups']:,} groups" if split["groups"] else ""
            yield f"{split['images']:,} {SPLIT_NAMES.get(name, name)} images{groups}"
        if bad := result.data["bad_files"]:
            yield f"{len(bad):,} files could not be decoded and are left out"
    elif result is not None and result.train_images and result.test_images:
        yield f"{result.train_images:,} training and {result.test_images:,} test images"
    yield f"fingerprint: {facts['data_fingerprint'] or 'not known'}"


def _recipe(config: Mapping[str, Any]) -> Iterator[str]:
    """The settings that decide on a training, as the configuration has them."""
    trainer, model = config.get("trainer") or {}, config.get("model") or {}
    data = (config.get("data") or {}).get("init_args") or {}
    for what, value in {
        "epochs, at most": trainer.get("max_epochs"),
        "optimiser": _class(model.get("optimizer")),
        "schedule": _class(model.get("lr_scheduler")),
        "batch size": data.get("batch_size"),
        "augmentation": data.get("augmentation"),
        "label smoothing": model.get("label_smoothing"),
        "class weights": model.get("class_weights"),
        "start": "ImageNet weights" if model.get("pretrained") else "given weights" if model.get("weights") else None,
        "precision": trainer.get("precision"),
        "seed": config.get("seed_everything"),
        "weights of the epoch with the best": config.get("monitor"),
    }.items():
        if value not in (None, 0.0, "none", []) or (what == "seed" and value == 0):
            yield f"{what}: {escape_markdown(', '.join(map(str, value)) if isinstance(value, list) else str(value))}"


def _class(section: Any) -> str | None:
    """``SGD(lr=0.1, momentum=0.9)``, without the settings that are off."""
    if not isinstance(section, dict) or "class_path" not in section:
        return None
    given = section.get("init_args") or {}
    settings = ", ".join(f"{name}={value}" for name, value in given.items() if value not in (None, False, 0))
    return f"{section['class_path'].rpartition('.')[2]}({settings})"


def _results(source: Source) -> Iterator[str]:
    if source.result is None or source.trained is None:
        yield "No test of these weights is stored beside the checkpoint; `cnn-compare test --ckpt_path=FILE` makes one."
        return
    accuracy, images = source.trained.accuracy_pct, source.result.test_images
    yield (
        f"These weights are right on {accuracy.value:.2f} % of {f'{images:,}' if images else 'the'} test images "
        f"(95 %: {accuracy.low:.2f} to {accuracy.high:.2f})."
    )
    if source.network is not None:
        mean, folds = source.network.accuracy_pct, source.network.folds
        trained, others = f"Trained with {len(source.network.seeds)} seeds", "seeds"
        if folds is not None:
            trained, others = f"Over the {len(source.network.test_acc_pct)} runs of cross-validation", "training images"
        yield (
            f"{trained}, the network is right on {mean.value:.2f} % in the mean "
            f"(95 %, for other {others} too: {mean.low:.2f} to {mean.high:.2f})."
        )
    if (balanced := source.trained.balanced_pct) is not None:
        yield f"Mean over classes: {balanced.value:.2f} % (95 %: {balanced.low:.2f} to {balanced.high:.2f})."
    if (calibration := source.trained.calibration) is not None:
        yield f"Its probabilities miss the share of right answers by {100 * calibration.ece:.1f} points on average."


def _recalls(trained: Network | None, names: Sequence[str]) -> str:
    """A table of the accuracy on each class's test images, the lowest first."""
    if trained is None or len(trained.class_acc_pct) != len(names):
        return ""
    lines = ["| class | right % | 95 % |", "|---|---:|---:|"]
    for name, recall in sorted(zip(names, trained.class_acc_pct, strict=True), key=lambda pair: pair[1].value):
        lines.append(f"| {escape_markdown(name)} | {recall.value:.1f} | {recall.low:.1f} to {recall.high:.1f} |")
    return "\n".join(lines)


def _limits(source: Source, names: Sequence[str]) -> Iterator[str]:
    yield f"Every picture gets one of the {len(names)} classes, also one that shows none of them."
    yield (
        "The results hold for pictures that come about as the test images did. Other cameras, places, people or "
        "preparation are not covered by the intervals."
    )
    if source.result is not None:
        splits = (source.result.data.get("splits") or {}).values()
        if any(split["groups"] for split in splits):
            yield "The test images are of groups that were not in training, such as persons."
        elif splits:
            yield "No groups were known: pictures of one person or place may be in training and test."
        yield from map(escape_markdown, source.result.data.get("warnings", []))
    if source.networks > 1:
        yield (
            f"It is one of {source.networks} networks that were compared. If it was chosen for its accuracy on the "
            "test images, that is a little too high."
        )


def _origin(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"checkpoint, SHA-256: {facts['checkpoint_sha256'] or 'none'}"
    for what in ("trained_with", "exported_with"):
        listed = ", ".join(f"{name} {version}" for name, version in facts[what].items())
        yield f"{what.replace('_', ' ')}: {escape_markdown(listed) or 'not known'}"
