"""The report of `cnn-compare data` on a data set: as plain values, in words and tables, and with pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnn_compare.backbones import find_backbone
from cnn_compare.data import FolderDataModule, ImageDataModule
from cnn_compare.data.check import LEAST_CORRELATION, ORDER, NumberedImages, copies, describe, sizes
from cnn_compare.data.layouts import SPLITS, description_in_words, quoted
from cnn_compare.errors import DataError, InvalidValueError, with_flags
from cnn_compare.experiment import make_data
from cnn_compare.files import write_json, write_text
from cnn_compare.formatting import format_duration, format_significant, shorten
from cnn_compare.pictures import small_picture
from cnn_compare.profiling import profile
from cnn_compare.report.page import environment
from cnn_compare.report.planning import NETWORKS_CORRELATE, SEEDS_CORRELATE, USUAL_DEVIATION, smallest_on

SEEDS = (1, 3, 5)
# In percent: what the smallest differences are shown for.
ACCURACIES = (60, 85, 97)
# A class that has so many times as many training images as another one is worth a sentence.
UNEQUAL = 1.5
# What is shown at most; the JSON file holds more.
CLASSES, PICTURES_OF_A_CLASS, PAIRS = 30, 4, 24
PICTURE_PX = 72
# Settings that warnings name.
WARNED_OF = ("data.labels", "data.min_class_images")
_BAR = 24

Facts = Mapping[str, Any]


@dataclass
class Part:
    """A part of the page: sentences, a table whose rows are keyed by its headings, and captions with pictures.

    A column without a heading holds bars. Pictures are ``data:`` URLs. ``warns`` sets the part off from the others.
    """

    heading: str
    sentences: Sequence[str]
    rows: Sequence[Mapping[str, str]] = ()
    pictures: Sequence[tuple[str, Sequence[str]]] = ()
    warns: bool = False


def report_on_data(config: Facts, backbones: Sequence[str], output: Path, name: str) -> list[Part]:
    """Look at a data set, and write ``data.json`` and ``data.html``.

    Args:
        config: Sections ``data``, ``model`` and ``trainer`` as `fit` takes them; of ``model``, only the stem matters.
        backbones: Networks whose costs are measured, on this machine; may be empty.
        output: Folder for the files.
        name: Name of the data, for the page.

    Returns:
        What was found, for a terminal.

    Raises:
        CnnCompareError: The same as for `fit`, if the data cannot be used at all.
    """
    stem, image_size = config["model"]["stem"], config["data"]["init_args"]["image_size"]
    for backbone in backbones:
        find_backbone(backbone).require_image_size(stem, image_size)
    data = make_data(config)
    _require_output(output, data)
    if isinstance(data, FolderDataModule):
        data.on_bad_file, data.keep_small_classes = "skip", True  # They are reported.
    else:
        data.prepare_data()  # A folder's prints what is said here.
    images = NumberedImages(data)
    found, refused = describe(images), getattr(data, "small_classes", None)
    facts = {
        "name": name,
        "data": config["data"],
        "understood": found,
        "sizes": sizes(images),
        "copies": copies(images),
        "refused": with_flags(refused) if refused else None,
        "can_show": _can_show(found, max(2, len(backbones))) if found["splits"]["test"]["images"] else None,
        "costs": _costs(config, found, backbones, output) if backbones else [],
    }
    facts["findings"] = [*_findings(facts)]
    write_json(output / "data.json", facts)
    parts = [part for make in PARTS if (part := make(facts, images))]
    write_text(output / "data.html", environment().get_template("data.html.j2").render(name=name, parts=parts))
    return parts


def _require_output(output: Path, data: ImageDataModule) -> None:
    if output.exists() and not output.is_dir():
        raise InvalidValueError("output", str(output), "a folder")
    root = data.data_dir if isinstance(data, FolderDataModule) else None
    if root is not None and output.resolve().is_relative_to(root.resolve()):
        raise InvalidValueError("output", str(output), f"a folder outside of {root}, which is not written to")
    output.mkdir(parents=True, exist_ok=True)  # Before the work, in case it cannot be made.


def _can_show(found: Facts, networks: int) -> dict[str, Any]:
    """The smallest differences in accuracy that the test images can establish."""
    test = found["splits"]["test"]
    most = max(test["classes"], key=test["classes"].get)
    independent = test["images"] if test["groups"] is None else test["groups"]
    return {
        "test_images": test["images"],
        "independent": independent,
        "networks": networks,
        "points": {
            str(accuracy): {str(seeds): smallest_on(independent, seeds, networks, accuracy / 100) for seeds in SEEDS}
            for accuracy in ACCURACIES
        },
        "assumed": {
            "networks_correlate": NETWORKS_CORRELATE,
            "seeds_correlate": SEEDS_CORRELATE,
            "seed_deviation_points": USUAL_DEVIATION,
        },
        "most_frequent_class": most,
        "most_frequent_share": test["classes"][most] / test["images"],
    }


def _costs(config: Facts, found: Facts, backbones: Sequence[str], output: Path) -> list[dict[str, Any]]:
    """Seconds that runs take on this machine, by measured speeds: training, validation after each epoch, test."""
    epochs = config["trainer"]["max_epochs"]
    count = {name: split["images"] for name, split in found["splits"].items()}
    size, stem = config["data"]["init_args"]["image_size"], config["model"]["stem"]
    costs = []
    for measured in profile(backbones, size, stem, str(output / "profile.json")):
        epoch_s = count["train"] / measured.train_images_per_s + count["val"] / measured.inference_images_per_s
        run_s = epochs * epoch_s + count["test"] / measured.inference_images_per_s if (epochs or 0) > 0 else None
        costs.append(
            {
                "backbone": measured.backbone,
                "train_images_per_s": measured.train_images_per_s,
                "epoch_s": epoch_s,
                "epochs": epochs,
                "run_s": run_s,
                "device": measured.device,
            }
        )
    return costs


def _findings(facts: Facts) -> Iterator[str]:
    """Sentences about what would mislead a comparison."""
    found, copied, fit = facts["understood"], facts["copies"], facts["sizes"]["fit"]
    if facts["refused"]:
        yield f"Training refuses this: {facts['refused']}"
    shared = {(each["split"], each["other"]): each for each in copied["shared"]}
    for split, name, consequence in (("test", "Test", "reported"), ("val", "Validation", "watched")):
        exact, near = shared[split, "train"]["exact"], shared[split, "train"]["near"]
        if exact + near:
            of_all = found["splits"][split]["images"]
            yield (
                f"{name} images with a copy among the training images: {exact + near:,} of "
                f"{of_all:,} ({100 * (exact + near) / of_all:.1f} %), {exact:,} of them exact. If they "
                f"are copies indeed, the accuracy that is {consequence} counts what was learned by heart."
            )
    if copied["two_labels"]:
        yield f"Pairs of copies with two labels, one of which must be wrong: {copied['two_labels']:,}."
    if found["bad_files"]:
        yield (
            f"Files that cannot be used: {len(found['bad_files']):,}. Training needs them repaired or removed, or "
            "--data.on_bad_file=skip."
        )
    # Bad files have been named already.
    warnings = [DataError(f"{text}.", WARNED_OF) for text in found["warnings"] if "cannot be decoded" not in text]
    yield from (text[0].upper() + text[1:] for text in map(with_flags, warnings))
    counts = found["splits"]["train"]["classes"]
    few, many = min(counts, key=counts.get), max(counts, key=counts.get)
    if counts[many] >= UNEQUAL * counts[few]:
        yield (
            f"Classes are unequal: of the training images, {quoted(many)} has {counts[many]:,}, {quoted(few)} "
            f"{counts[few]:,}. "
            "--model.class_weights=balanced gives rare ones more weight; look at balanced accuracy."
        )
    if fit["how"] == "crop" and fit["lost_over_a_third"]:
        yield (
            f"Pictures that lose more than a third by fit=crop: {fit['lost_over_a_third']:,}; --data.fit=pad keeps all."
        )


def _read_first(facts: Facts, images: NumberedImages) -> Part:
    findings = facts["findings"]
    nothing = "Nothing was found that would mislead a comparison."
    return Part("Read first", findings or [nothing], warns=bool(findings))


def _classes(facts: Facts, images: NumberedImages) -> Part:
    """Images of each class, of many classes those with the fewest training images, and a few pictures of each."""
    found = facts["understood"]
    counts = {SPLITS[name]: split["classes"] for name, split in found["splits"].items()}
    in_groups = found["splits"]["train"]["groups"] is not None
    classes = list(counts["training"])
    if len(classes) > CLASSES:
        classes = sorted(classes, key=counts["training"].get)[:CLASSES]
    most, rows = max(counts["training"].values()), []
    for name in classes:
        numbers = {split: of[name] for split, of in counts.items()}
        total = max(1, sum(numbers.values()))
        shares = {split: f" ({number / total:.0%})" if in_groups else "" for split, number in numbers.items()}
        cells = {split: f"{number:,}{shares[split]}" for split, number in numbers.items()}
        rows.append({"class": shorten(quoted(name), 30), **cells, "": _bar(numbers["training"], most)})
    training, pictures = images.split == ORDER.index("train"), []
    for label, name in enumerate(images.data.class_names[:CLASSES]):
        members = np.flatnonzero(training & (images.labels == label))
        chosen = members[:: max(1, len(members) // PICTURES_OF_A_CLASS)][:PICTURES_OF_A_CLASS]
        pictures.append((name, [small_picture(images.pixels(number), PICTURE_PX) for number in chosen]))
    return Part("Classes", [*description_in_words(found)], rows, pictures)


def _bad_files(facts: Facts, images: NumberedImages) -> Part | None:
    rows = [{"file": path, "reason": reason} for path, reason in facts["understood"]["bad_files"].items()]
    return Part("Files that cannot be used", [], rows[:CLASSES]) if rows else None


def _bar(count: int, most: int) -> str:
    return "━" * max(1, round(_BAR * count / most)) if count else ""


def _sizes(facts: Facts, images: NumberedImages) -> Part:
    """Widths and heights, what `fit` does to the pictures, and bars of ranges unless all pictures are in one."""
    found = facts["sizes"]
    fit, width, height, aspect = found["fit"], found["width"], found["height"], found["aspect"]
    if width["min"] == width["max"] and height["min"] == height["max"]:
        sentences = [f"All images have {width['min']} x {height['min']} pixels."]
    else:
        sentences = [
            f"{what} {of['min']:,} to {of['max']:,} px, median {of['median']:,.0f}."
            for what, of in (("Width", width), ("Height", height))
        ]
        sentences.append(f"Width by height: {aspect['min']:.2f} to {aspect['max']:.2f}, median {aspect['median']:.2f}.")
    does = {
        "crop": ("cuts off", "of a picture's pixels"),
        "pad": ("fills", "of the square with borders"),
        "squash": ("squeezes", "of the longer side away"),
    }
    if fit["how"] in does and fit["changed"]:
        verb, of_what = does[fit["how"]]
        sentences.append(
            f"fit={fit['how']} {verb} {100 * fit['lost']['median']:.0f} % {of_what} in the median, "
            f"{100 * fit['lost']['max']:.0f} % at most ({fit['most_lost']}); not square are {fit['changed']:,}."
        )
    if fit["how"] in does and fit["enlarged"]:
        sentences.append(f"Pictures smaller than {fit['side']} px, which are enlarged: {fit['enlarged']:,}.")
    rows = []
    for what, bins in (("shorter side", found["by_shorter_side"]), ("width / height", found["by_aspect"])):
        most = max(each["images"] for each in bins)
        for each in bins if len(bins) > 1 else []:
            start, below, unit = format_significant(each["from"]), each["below"], each["unit"]
            ends = f"{start} and more" if below is None else f"{start} to {format_significant(below)}"
            cells = {"pictures with": f"{what} {ends} {unit}".strip(), "images": f"{each['images']:,}"}
            rows.append({**cells, "": _bar(each["images"], most)})
    return Part("Sizes", sentences, rows)


def _copies(facts: Facts, images: NumberedImages) -> Part:
    found = facts["copies"]
    sentences = [
        f"Pairs of copies: {found['found']:,}. Exact ones are equal in every pixel that the network gets; near ones "
        f"look the same when small (64-bit hash, and correlation of at least {LEAST_CORRELATION:g}). Mirrored, turned "
        "and cut copies are not found. Simple pictures, such as digits, can be alike without being copies."
    ]
    if not found["complete"]:
        sentences.append("So many are alike that the search was ended: there are more.")
    rows = [
        {
            "images for": SPLITS[each["split"]],
            "with copies for": SPLITS[each["other"]],
            "exact": f"{each['exact']:,}",
            "near": f"{each['near']:,}",
            "of": f"{facts['understood']['splits'][each['split']]['images']:,}",
        }
        for each in found["shared"]
        if each["exact"] + each["near"]
    ]
    pictures = []
    for pair in found["pairs"][:PAIRS]:
        both = pair["first"], pair["second"]
        lines = [f"{each['name']} ({SPLITS[each['split']]}, {each['label']})" for each in both]
        caption = f"{'exact' if pair['exact'] else 'near'}: {lines[0]} and {lines[1]}"
        pictures.append((caption, [small_picture(images.pixels(each["number"]), PICTURE_PX) for each in both]))
    return Part("Copies", sentences, rows, pictures)


def _can_show_part(facts: Facts, images: NumberedImages) -> Part | None:
    found, of_groups = facts["can_show"], facts["understood"]["splits"]["test"]["groups"] is not None
    if not found:
        return None
    assumed = found["assumed"]
    sentences = [
        f"The smallest differences, in points, that {found['independent']:,} {'groups' if of_groups else 'test images'}"
        f" establish between {found['networks']} networks in four cases of five. One seed tells trained networks apart,"
        " several tell architectures.",
        f"Assumed, as in the project's CIFAR-10 comparisons: right answers of two networks correlate by "
        f"{assumed['networks_correlate']:g}, two seeds of one by {assumed['seeds_correlate']:g}; seeds deviate "
        f"by {assumed['seed_deviation_points']:g} points at 75 %, and by more on few images.",
        f"Who always answers {found['most_frequent_class']} is right for {100 * found['most_frequent_share']:.1f} %.",
    ]
    if of_groups:
        sentences.append(
            f"The {found['test_images']:,} test images are of so many groups. Images of one group are alike: here they "
            "count as one image, which is the least that they can say."
        )
    rows = []
    for accuracy, by_seeds in found["points"].items():
        cells = {f"{seeds} seed{'s' * (seeds != '1')}": f"{points:.1f}" for seeds, points in by_seeds.items()}
        rows.append({"accuracy": f"{accuracy} %", **cells})
    return Part("What the test images can show", sentences, rows)


def _costs_part(facts: Facts, images: NumberedImages) -> Part | None:
    costs = facts["costs"]
    if not costs:
        return None
    rows = [
        {
            "backbone": cost["backbone"],
            "train img/s": f"{cost['train_images_per_s']:,.0f}",
            "an epoch": format_duration(cost["epoch_s"]),
            "a run": format_duration(cost["run_s"]),
            "3 seeds": format_duration(cost["run_s"] and 3 * cost["run_s"]),
        }
        for cost in costs
    ]
    epochs, total = costs[0]["epochs"], [cost["run_s"] for cost in costs]
    sentence = f"Measured on {costs[0]['device']}; without the start of each run"
    if None not in total:
        sentence += f". All of it with {epochs} epochs and 3 seeds: {format_duration(3 * sum(total))}"
    return Part("What a comparison costs here", [f"{sentence}."], rows)


# In their order on the page; each is left out where it has nothing to say.
PARTS = (_read_first, _classes, _bad_files, _sizes, _copies, _can_show_part, _costs_part)
