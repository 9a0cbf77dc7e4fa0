"""What `cnn-compare data` says of a data set: as plain values, in words and tables, and with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cnn_compare.backbones import find_backbone
from cnn_compare.data import FolderDataModule, ImageDataModule
from cnn_compare.data.check import LEAST_CORRELATION, ORDER, Images, copies, sizes, understood
from cnn_compare.data.layouts import counts_in_words, quoted
from cnn_compare.errors import InvalidValueError, with_flags
from cnn_compare.experiment import make_data
from cnn_compare.files import write_json, write_text
from cnn_compare.formatting import format_duration, format_list, format_significant, shorten
from cnn_compare.pictures import small_picture
from cnn_compare.profiling import profile
from cnn_compare.report.data_page import Picture, Section, data_page
from cnn_compare.report.planning import NETWORKS_CORRELATE, SEEDS_CORRELATE, USUAL_DEVIATION, smallest_on

SEEDS = (1, 3, 5)
# In percent: what the smallest differences are shown for.
ACCURACIES = (60, 85, 97)
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
# A class that has so many times as many training images as another one is worth a sentence.
UNEQUAL = 1.5
# What is shown at most; the JSON file holds more.
CLASSES, OF_A_CLASS, PAIRS = 30, 4, 24
PICTURE_PX = 72
_BAR = 24


def report_on_data(config: Mapping[str, Any], backbones: Sequence[str], output: Path, name: str) -> list[Section]:
    """Look at a data set, and write ``data.json`` and ``data.html``.

    Args:
        config: Sections ``data``, ``model`` and ``trainer`` as `fit` takes them; of ``model``, only the stem matters.
        backbones: Whose costs are measured, on this machine; may be empty.
        output: Folder for the files.
        name: Of the data, for the page.

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
    images = Images(data)
    facts = {
        "name": name,
        "data": config["data"],
        "understood": understood(images),
        "sizes": sizes(images),
        "copies": asdict(copies(images)),
        "refused": with_flags(data.small_classes)
        if isinstance(data, FolderDataModule) and data.small_classes
        else None,
    }
    has_test = facts["understood"]["splits"]["test"]["images"] > 0
    facts["can_show"] = _can_show(facts["understood"], max(2, len(backbones))) if has_test else None
    facts["costs"] = _costs(config, facts["understood"], backbones, output) if backbones else []
    sections = _sections(facts)
    write_json(output / "data.json", {**facts, "findings": _findings(facts)})
    shown = {section.heading: section for section in sections}
    shown["Classes"].pictures = _of_classes(images)
    shown["Copies"].pictures = _of_pairs(images, facts["copies"]["pairs"])
    write_text(output / "data.html", data_page(name, sections))
    return sections


def _require_output(output: Path, data: ImageDataModule) -> None:
    if output.exists() and not output.is_dir():
        raise InvalidValueError("output", str(output), "a folder")
    root = data.data_dir if isinstance(data, FolderDataModule) else None
    if root is not None and output.resolve().is_relative_to(root.resolve()):
        raise InvalidValueError("output", str(output), f"a folder outside of {root}, which is not written to")
    output.mkdir(parents=True, exist_ok=True)  # Before the work, in case it cannot be made.


def _can_show(found: Mapping[str, Any], networks: int) -> dict[str, Any]:
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


def _costs(
    config: Mapping[str, Any], found: Mapping[str, Any], backbones: Sequence[str], output: Path
) -> list[dict[str, Any]]:
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


def _sections(facts: Mapping[str, Any]) -> list[Section]:
    """All findings in words and tables, what is to be known first in front."""
    found, findings = facts["understood"], _findings(facts)
    sections = [
        Section("Read first", findings or ["Nothing was found that would mislead a comparison."], warns=bool(findings)),
        Section("Classes", _what_was_understood(found), _class_rows(found)),
        Section("Sizes", _sizes_in_words(facts["sizes"]), _histogram_rows(facts["sizes"])),
        Section("Copies", _copies_in_words(facts["copies"]), _copy_rows(facts["copies"], found["splits"])),
    ]
    if facts["can_show"]:
        can_show = facts["can_show"]
        sections.append(
            Section("What the test images can show", _can_show_in_words(can_show, found), _can_show_rows(can_show))
        )
    if found["bad_files"]:
        rows = [{"file": path, "reason": reason} for path, reason in found["bad_files"].items()]
        sections.insert(2, Section("Files that cannot be used", [], rows[:CLASSES]))
    if facts["costs"]:
        sections.append(_costs_section(facts["costs"]))
    return sections


def _findings(facts: Mapping[str, Any]) -> list[str]:
    """What would mislead a comparison, in sentences."""
    found, copied, fit = facts["understood"], facts["copies"], facts["sizes"]["fit"]
    sentences = [f"Training refuses this: {facts['refused']}"] if facts["refused"] else []
    shared = {(each["split"], each["other"]): each for each in copied["shared"]}
    for split, consequence in (("test", "reported"), ("val", "watched")):
        exact, near = shared[split, "train"]["exact"], shared[split, "train"]["near"]
        if exact + near:
            of_all = found["splits"][split]["images"]
            sentences.append(
                f"{SPLIT_NAMES[split].capitalize()} images with a copy among the training images: {exact + near:,} of "
                f"{of_all:,} ({100 * (exact + near) / of_all:.1f} %), {exact:,} of them exact. If they "
                f"are copies indeed, the accuracy that is {consequence} counts what was learned by heart."
            )
    if copied["two_labels"]:
        sentences.append(f"Pairs of copies with two labels, one of which must be wrong: {copied['two_labels']:,}.")
    if found["bad_files"]:
        sentences.append(
            f"Files that cannot be used: {len(found['bad_files']):,}. Training needs them repaired or removed, or "
            "--data.on_bad_file=skip."
        )
    # Of bad files it has been said already.
    sentences += [f"{text[0].upper()}{text[1:]}." for text in found["warnings"] if "cannot be decoded" not in text]
    counts = found["splits"]["train"]["classes"]
    few, many = min(counts, key=counts.get), max(counts, key=counts.get)
    if counts[many] >= UNEQUAL * counts[few]:
        sentences.append(
            f"Classes are unequal: {quoted(many)} has {counts[many]:,} training images, {quoted(few)} {counts[few]:,}. "
            "--model.class_weights=balanced gives rare ones more weight; look at balanced accuracy."
        )
    if fit["how"] == "crop" and fit["lost_over_a_third"]:
        sentences.append(
            f"Pictures that lose more than a third by fit=crop: {fit['lost_over_a_third']:,}; --data.fit=pad keeps all."
        )
    return sentences


def _what_was_understood(found: Mapping[str, Any]) -> list[str]:
    splits = found["splits"]
    parts = [
        f"{split['images']:,} for {SPLIT_NAMES[name]}"
        + ("" if split["groups"] is None else f" (of {split['groups']:,} groups)")
        for name, split in splits.items()
    ]
    cut = [SPLIT_NAMES[name] for name, split in splits.items() if split["cut"]]
    sentences = [
        f"{found['root']}: {found['layout']}; {len(splits['train']['classes']):,} classes.",
        f"Images: {', '.join(parts)}{f'; {format_list(cut)} cut by the program' if cut else ''}.",
    ]
    if found["skipped"]:
        sentences.append(f"Skipped: {counts_in_words(found['skipped'])}.")
    if found["notes"]:
        sentences.append(f"Decoded with notes: {counts_in_words(found['notes'])}.")
    return sentences


def _class_rows(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Images of each class; of many classes, those with the fewest training images."""
    by_split = {SPLIT_NAMES[name]: split["classes"] for name, split in found["splits"].items()}
    classes = list(by_split["training"])
    if len(classes) > CLASSES:
        classes = sorted(classes, key=by_split["training"].get)[:CLASSES]
    most = max(by_split["training"].values())
    in_groups = any(split["groups"] is not None for split in found["splits"].values())

    def number(name: str, counts: Mapping[str, int]) -> str:
        share = counts[name] / max(1, sum(each[name] for each in by_split.values()))
        return f"{counts[name]:,}" + (f" ({share:.0%})" if in_groups else "")

    return [
        {"class": shorten(quoted(name), 30), **{split: number(name, counts) for split, counts in by_split.items()}}
        | {"": _bar(by_split["training"][name], most)}
        for name in classes
    ]


def _bar(count: int, most: int) -> str:
    return "━" * max(1, round(_BAR * count / most)) if count else ""


def _sizes_in_words(found: Mapping[str, Any]) -> list[str]:
    fit = found["fit"]
    width, height, lost = found["width"], found["height"], fit["lost"]
    if width["min"] == width["max"] and height["min"] == height["max"]:
        sentences = [f"All images have {width['min']} x {height['min']} pixels."]
    else:
        sentences = [
            f"{what} {found[key]['min']:,} to {found[key]['max']:,} px, median {found[key]['median']:,.0f}."
            for what, key in (("Width", "width"), ("Height", "height"))
        ]
        aspect = found["aspect"]
        sentences.append(f"Width by height: {aspect['min']:.2f} to {aspect['max']:.2f}, median {aspect['median']:.2f}.")
    if fit["how"] != "none" and fit["changed"]:
        what = {
            "crop": ("cuts off", "of a picture's pixels"),
            "pad": ("fills", "of the square with borders"),
            "squash": ("squeezes", "of the longer side away"),
        }[fit["how"]]
        sentences.append(
            f"fit={fit['how']} {what[0]} {100 * lost['median']:.0f} % {what[1]} in the median, "
            f"{100 * lost['max']:.0f} % at most ({fit['most_lost']}); not square are {fit['changed']:,}."
        )
    if fit["enlarged"] and fit["how"] != "none":
        sentences.append(f"Pictures smaller than {fit['side']} px, which are enlarged: {fit['enlarged']:,}.")
    return sentences


def _histogram_rows(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Nothing where all pictures are in one bar."""
    rows = []
    for key, what in (("by_shorter_side", "shorter side"), ("by_aspect", "width / height")):
        bins = found[key]
        most = max(each["images"] for each in bins)
        if len(bins) > 1:
            for each in bins:
                start, below, unit = format_significant(each["from"]), each["below"], each["unit"]
                ends = f"{start} and more" if below is None else f"{start} to {format_significant(below)}"
                cells = {"pictures with": f"{what} {ends} {unit}".strip(), "images": f"{each['images']:,}"}
                rows.append({**cells, "": _bar(each["images"], most)})
    return rows


def _copies_in_words(found: Mapping[str, Any]) -> list[str]:
    sentences = [
        f"Pairs of copies: {found['found']:,}. Exact ones are equal in every pixel that the network gets; near ones "
        f"look the same when small (64-bit hash, and correlation of at least {LEAST_CORRELATION:g}). Mirrored, turned "
        "and cut copies are not found. Simple pictures, such as digits, can be alike without being copies."
    ]
    if not found["complete"]:
        sentences.append("So many are alike that the search was ended: there are more.")
    return sentences


def _copy_rows(found: Mapping[str, Any], splits: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "images for": SPLIT_NAMES[each["split"]],
            "with copies for": SPLIT_NAMES[each["other"]],
            "exact": f"{each['exact']:,}",
            "near": f"{each['near']:,}",
            "of": f"{splits[each['split']]['images']:,}",
        }
        for each in found["shared"]
        if each["exact"] + each["near"]
    ]


def _can_show_in_words(found: Mapping[str, Any], of: Mapping[str, Any]) -> list[str]:
    assumed, of_groups = found["assumed"], of["splits"]["test"]["groups"] is not None
    unit = f"{found['independent']:,} groups" if of_groups else f"{found['independent']:,} test images"
    sentences = [
        f"The smallest differences, in points, that {unit} establish between {found['networks']} networks in four "
        "cases of five. One seed tells trained networks apart, several tell architectures.",
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
    return sentences


def _can_show_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "accuracy": f"{accuracy} %",
            **{f"{seeds} seed{'s' * (seeds != '1')}": f"{points:.1f}" for seeds, points in by_seeds.items()},
        }
        for accuracy, by_seeds in found["points"].items()
    ]


def _costs_section(costs: Sequence[Mapping[str, Any]]) -> Section:
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
    return Section("What a comparison costs here", [f"{sentence}."], rows)


def _of_classes(images: Images) -> list[Picture]:
    """A few training images of each class, as the network gets them before augmentation."""
    training = images.split == ORDER.index("train")
    shown = []
    for label, name in enumerate(images.data.class_names[:CLASSES]):
        members = np.flatnonzero(training & (images.labels == label))
        chosen = members[:: max(1, len(members) // OF_A_CLASS)][:OF_A_CLASS]
        shown.append(Picture(name, [small_picture(images.pixels(number), PICTURE_PX) for number in chosen]))
    return shown


def _of_pairs(images: Images, pairs: Sequence[Mapping[str, Any]]) -> list[Picture]:
    shown = []
    for pair in pairs[:PAIRS]:
        both = pair["first"], pair["second"]
        lines = [f"{each['name']} ({SPLIT_NAMES[each['split']]}, {each['label']})" for each in both]
        caption = f"{'exact' if pair['exact'] else 'near'}: {lines[0]} and {lines[1]}"
        shown.append(Picture(caption, [small_picture(images.pixels(each["number"]), PICTURE_PX) for each in both]))
    return shown
