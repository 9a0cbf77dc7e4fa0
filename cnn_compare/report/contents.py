"""The tables of a report, as texts. Markdown and the page show the same ones; the page adds charts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_compare.formatting import MISSING, format_list, format_number, format_p, format_signed, format_significant
from cnn_compare.report.columns import COLUMNS, Column, columns
from cnn_compare.report.images import WRONG_LABELS_SHOWN
from cnn_compare.report.learning_curve import LearningCurve
from cnn_compare.report.statistics import Estimate
from cnn_compare.report.summary import (
    Answer,
    Leaks,
    Network,
    Searched,
    ShownImage,
    Summary,
    WrongLabel,
    class_name,
    which_classes,
)
from cnn_compare.report.verdict import outcome

GROWTH = "Accuracy over training images"


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a ``data:`` URL, and what the page says below it."""

    url: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table under a heading.

    Args:
        heading: Of the table.
        columns: Headings of its columns.
        rows: Texts; the first one of a row names it.
        note: What a reader must know of it.
        of_numbers: Whether the columns after the first hold numbers.
        pictures: Of each row, a picture for each column, or None; the page then shows the rows as cards.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    of_numbers: bool = True
    pictures: Sequence[Sequence[Thumbnail | None]] = ()


def tables(summary: Summary) -> dict[str, Table]:
    """Every table there is data for, by key, in the order in which Markdown shows them."""
    made = {
        "figures": figures(summary, columns(summary, "table")),
        "variants": variants(summary),
        "pairs": _pairs(summary),
        "growth": _growth(summary),
        "seconds_to": _seconds_to(summary),
        "recalls": _recalls(summary),
        "mistakes": _mistakes(summary),
        "searched": _searched(summary),
        "leaks": leaks(summary),
        "hardest": _images(summary, "The hardest test images", summary.hardest),
        "asked": _images(summary, "Test images that were asked for", summary.asked),
        "wrong_labels": _wrong_labels(summary),
        "published": _beside_published(summary),
        "published_conditions": _published_conditions(summary),
        "conditions": _conditions(summary),
        "without_result": _without_result(summary),
    }
    return {key: table for key, table in made.items() if table.rows}


def figures(summary: Summary, shown: Sequence[Column]) -> Table:
    """A row a network, a figure a column."""
    return Table(
        "The figures",
        [column.heading for column in shown],
        [[column.cell(network) for column in shown] for network in summary.networks],
        " ".join(column.note for column in shown if column.note),
    )


def variants(summary: Summary) -> Table:
    """Test accuracy: a row a backbone, a column a variant."""
    accuracy = next(column for column in COLUMNS if column.key == "test_acc_pct")
    cells = {(network.backbone, network.variant): accuracy.cell(network) for network in summary.networks}
    backbones = dict.fromkeys(network.backbone for network in summary.networks if network.variant is not None)
    return Table(
        "Test accuracy by variant",
        [accuracy.heading, *summary.variants],
        [[backbone, *(cells.get((backbone, name), MISSING) for name in summary.variants)] for backbone in backbones],
        "A dash: the variant changes nothing for that backbone, or has not been trained.",
    )


SEEDS_TEST = (
    "Behrens and Fisher's test over seeds and test images, with variances over seeds shrunken towards what the "
    "networks have in common; with one seed, over test images. p is that of a pair alone; intervals and corrected "
    "p values are for all pairs together."
)
FOLDS_TEST = (
    "Nadeau and Bengio's t test on the differences in the same folds: with variance s² of J of them, in k folds a "
    "repeat, that of their mean is s² (1/J + 1/(k − 1)), and not s²/J, because folds share training images. p is that "
    "of a pair alone; intervals are for all pairs together, and corrected p values are Holm's."
)


def _pairs(summary: Summary) -> Table:
    return Table(
        "Differences",
        ["networks", "points", "95 %", "p", "p, corrected", "folds" if summary.folds else "seeds", "difference"],
        [
            [
                f"{pair.first} − {pair.second}",
                format_signed(pair.points.value, 2),
                f"{format_signed(pair.points.low, 2)} … {format_signed(pair.points.high, 2)}",
                format_p(pair.p),
                format_p(pair.p_corrected),
                " and ".join(map(str, dict.fromkeys(pair.seeds))),
                outcome(pair, summary.question.margin),
            ]
            for pair in summary.pairs
        ],
        FOLDS_TEST if summary.folds else SEEDS_TEST,
    )


def _growth(summary: Summary) -> Table:
    sizes = sorted({size for growth in summary.growth for size in growth.test_acc_pct})
    factors = (2, 4)

    def measured(accuracies: Sequence[float]) -> str:
        if len(accuracies) < 2:
            return format_number(accuracies[0], ".2f") if accuracies else MISSING
        return f"{statistics.fmean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"

    def expected(law: LearningCurve | None, factor: int) -> str:
        if law is None or factor * law.largest > law.furthest:
            return MISSING
        share = law.accuracy(factor * law.largest)
        return f"{100 * share.value:.1f} ({100 * share.low:.1f} … {100 * share.high:.1f})"

    return Table(
        GROWTH,
        [
            "network",
            *(f"{size:,}" for size in sizes),
            *(f"× {factor}" for factor in factors),
            "exponent",
            "fitted from",
        ],
        [
            [
                growth.network,
                *(measured(growth.test_acc_pct.get(size, [])) for size in sizes),
                *(expected(growth.law, factor) for factor in factors),
                format_number(growth.law.exponent if growth.law else None, ".2f"),
                format_number(growth.law.smallest if growth.law else None, ","),
            ]
            for growth in summary.growth
        ],
        "Test accuracy % by the number of training images: mean and standard deviation over seeds. × 2 and × 4: what "
        "four families of curves together let expect of two and four times the most images, with a 95 % interval for "
        "other seeds, the fit, what the families disagree on, and other test images; three numbers of images reach to "
        "× 2. Exponent: b of error ~ images^(−b) at the most images. All runs have the same "
        "epochs, so that more images mean more steps. Each smaller subset is part of the larger ones; other choices of "
        "images are not covered."
        + "".join(f" {names}: no extrapolation beyond {reason}." for reason, names in _without_law(summary).items()),
    )


def _without_law(summary: Summary) -> dict[str, str]:
    """Why there is no extrapolation -> for which networks."""
    found: dict[str, list[str]] = {}
    for each in summary.growth:
        if each.law is None:
            found.setdefault(f"{max(each.test_acc_pct):,} training images: {each.without_law}", []).append(each.network)
    return {reason: format_list(names) for reason, names in found.items()}


def _searched(summary: Summary) -> Table:
    most = max((searched.trials for searched in summary.searched), default=0)
    after = sorted({1, 2, 4, 8, 16, 32, 64} & set(range(most)))

    def of_common(searched: Searched) -> list[str]:
        figures = (searched.common_pct, searched.common_retest_pct)
        empty = [MISSING] * (2 + len(after))
        return [searched.backbone, *empty, *(format_number(each, ".2f") for each in figures), "the common settings"]

    def of_best(searched: Searched) -> list[str]:
        expected = searched.expected_pct
        promised = expected[-1] if expected else None
        return [
            searched.backbone,
            f"{searched.trials}" + (f" and {searched.failed} failed" if searched.failed else ""),
            format_number(searched.seconds, ",.0f"),
            *(f"{expected[trials - 1]:.2f}" if trials <= len(expected) else MISSING for trials in after),
            *(format_number(each, ".2f") for each in (promised, searched.retest_pct)),
            ", ".join(
                f"{name.rpartition('.')[2]} = {format_significant(value) if isinstance(value, float) else value}"
                for name, value in searched.settings.items()
            ),
        ]

    return Table(
        "Search",
        [
            *("backbone", "trials", "seconds", *(f"after {trials}" for trials in after)),
            *("best, trials' seed", "again, other seeds", "settings"),
        ],
        [row(searched) for searched in summary.searched for row in (of_common, of_best)],
        "Validation accuracy %. Every backbone had the same trials, on the first seed, and validation chose its "
        "settings. After so many trials: the expected largest of as many of them (unbiased: Tang et al. 2020); one "
        "trial is a random draw, and not the common settings. The best of several is partly luck: with other seeds "
        "the same settings show what remains. Seconds are those of all trials, with validation.",
    )


def _seconds_to(summary: Summary) -> Table:
    levels = list(summary.networks[0].seconds_to_pct) if summary.networks else []
    return Table(
        "Training seconds to a validation accuracy",
        ["network", *(f"{level} %" for level in levels)],
        [
            [network.name, *(format_significant(network.seconds_to_pct[level]) for level in levels)]
            for network in summary.networks
            if levels
        ],
        "Median over runs; a dash where one did not reach it.",
    )


def _recalls(summary: Summary) -> Table:
    networks = [network for network in summary.networks if network.class_acc_pct]
    classes = summary.shown_classes() if summary.unequal_classes and networks else []

    def cell(recall: Estimate) -> str:
        return f"{recall.value:.1f} ({recall.low:.1f} … {recall.high:.1f})"

    return Table(
        "Recall by class",
        ["class", "test images", *(network.name for network in networks)],
        [
            [
                class_name(summary.class_names, label),
                format_number(summary.class_images[label], ","),
                *(cell(network.class_acc_pct[label]) for network in networks),
            ]
            for label in classes
        ],
        "Percent of the class's test images answered right, mean over runs; in brackets Wilson's 95 % interval, for "
        f"other test images.{which_classes(summary)}",
    )


def _mistakes(summary: Summary) -> Table:
    return Table(
        "The commonest mistakes",
        ["network", "class", "answer", "% of the class"],
        [
            [
                network.name,
                *(class_name(summary.class_names, label) for label in (mistake.label, mistake.answer)),
                format_number(mistake.share_pct, ".0f"),
            ]
            for network in summary.networks
            for mistake in network.mistakes
        ],
        "Over all runs, by number of images; there are too many classes for a matrix.",
    )


def leaks(summary: Summary) -> Table:
    """Each network's accuracy with and without the test images that training has seen."""
    found = summary.leaks
    without = found.without_pct if found else {}
    count = found.exact + found.near if found else 0

    def row(network: Network, rest: Estimate, leaked_pct: float) -> list[str]:
        accuracy = network.accuracy_pct.value
        figures = [accuracy, rest.value, leaked_pct]
        interval = f"{rest.low:.2f} … {rest.high:.2f}"
        all_, others, seen = (format_number(figure, ".2f") for figure in figures)
        return [network.name, all_, others, interval, format_signed(rest.value - accuracy, 2), seen]

    return Table(
        "Leaks",
        ["network", "test acc. %", "without leaks %", "95 %", "points", "leaks alone %"],
        [
            row(network, without[network.name], found.leaked_pct[network.name])
            for network in summary.networks
            if found and network.name in without
        ],
        f"Leaks: the {count:,} of {found.images:,} test images with an equal or alike one among the training images, "
        f"{found.exact:,} of them an exact one. The others look alike when small, which simple pictures, such as "
        "digits, do without being copies; mirrored, turned and cut copies are not found."
        f"{'' if found.complete else _NOT_ALL}"
        if found
        else "",
    )


_NOT_ALL = " So many images are alike that the search was ended: there may be more."


def _images(summary: Summary, heading: str, shown: Sequence[ShownImage]) -> Table:
    """Single test images with each network's answer and, where it was explained, its heat map."""
    networks = list(dict.fromkeys(name for image in shown for name in image.answers))
    pictures = summary.pictures
    maps = pictures.heat_maps if pictures else {}
    with_files = any(image.name for image in shown)

    def cell(answer: Answer) -> str:
        return f"{answer.answer}, {answer.probability_pct:.0f} %"

    explained = any(image.image in found for found in maps.values() for image in shown)
    notes = ["Answers: the one that most seeds gave, with the mean of the probabilities that these gave it."]
    if len(summary.networks) > len(networks):
        notes.append(f"Of the {len(networks)} most accurate networks with predictions.")
    if explained:
        notes.append(
            "On the page, heat maps (Grad-CAM): where the seed that was best in validation found what speaks for its "
            "answer, named where it is another one. A picture without heat: no place spoke for it."
        )
    return Table(
        heading,
        ["test image", *(["file"] if with_files else []), "class", "wrong answer", "runs wrong %", *networks],
        [
            [
                str(image.image),
                *([image.name or MISSING] if with_files else []),
                image.label,
                image.answer if image.wrong_pct else MISSING,
                format_number(image.wrong_pct, ".0f"),
                *(cell(image.answers[network]) for network in networks),
            ]
            for image in shown
        ],
        " ".join([*notes, *(pictures.notes if pictures else [])]),
        pictures=_pictures_of(summary, shown, 3 + with_files, networks),
    )


def _pictures_of(
    summary: Summary, shown: Sequence[ShownImage | WrongLabel], facts: int, networks: Sequence[str] = ()
) -> list[list[Thumbnail | None]]:
    """A row for each image: itself, nothing for ``facts`` further columns, and for each network its heat map."""
    found = summary.pictures
    if found is None or not any(image.image in found.pictures for image in shown):
        return []

    def explained(image: ShownImage | WrongLabel, network: str) -> Thumbnail | None:
        heat = found.heat_maps.get(network, {}).get(image.image)
        if heat is None or isinstance(image, WrongLabel):
            return None
        answer = class_name(summary.class_names, heat.answer)
        return Thumbnail(heat.picture, "" if answer == image.answers[network].answer else f"here: {answer}")

    rows = []
    for image in shown:
        url = found.pictures.get(image.image)
        heat = [explained(image, network) for network in networks]
        rows.append([Thumbnail(url) if url else None, *[None] * facts, *heat])
    return rows


NO_WRONG_LABELS = "none listed: of ten that the networks contradict, fewer than two would be wrong"


def _precision(summary: Summary) -> str:
    """How many of the listed labels are likely to be wrong."""
    count = min(len(summary.wrong_labels), 10)
    wrong = round((summary.wrong_labels_pct or 0) / 100 * count)
    return f"Of {count} listed, about {wrong} are wrong, judging by labels that were flipped on purpose."


def _wrong_labels(summary: Summary) -> Table:
    found = summary.wrong_labels
    shown = found[:WRONG_LABELS_SHOWN]
    with_files = any(each.name for each in shown)
    count = f"the {len(shown)} most suspicious of {len(found):,}" if len(found) > len(shown) else f"{len(found)} in all"
    return Table(
        "Possible wrong labels",
        ["test image", *(["file"] if with_files else []), "class", "most runs say", "runs that contradict %", "margin"],
        [
            [
                str(each.image),
                *([each.name or MISSING] if with_files else []),
                each.label,
                each.instead,
                format_number(each.contradicted_pct, ".0f"),
                format_signed(each.margin, 2),
            ]
            for each in shown
        ],
        f"Test images whose label most networks contradict with confidence: {count}, all of them in "
        f"suspicious_labels.csv. {_precision(summary)} The list ends where fewer than two would be. Margin: the "
        "label's probability less that of the most probable other class. Where a label is right, the image is hard: "
        "look at it.",
        pictures=_pictures_of(summary, shown, 4 + with_files),
    )


def _beside_published(summary: Summary) -> Table:
    published = summary.published
    figures = published.figures if published else {}
    names = dict.fromkeys(name for metrics in figures.values() for name in metrics)
    shown = [column for column in COLUMNS if column.key in names]
    return Table(
        "Beside the published figures",
        ["network", *(heading for column in shown for heading in (column.heading, "published"))],
        [
            [
                network.name,
                *(
                    column.format(value)
                    for column in shown
                    for value in (column.value(network), figures[network.backbone].get(column.key))
                ),
            ]
            for network in summary.networks
            if network.backbone in figures
        ],
        f"Published: {published.source}." if published else "",
    )


def _published_conditions(summary: Summary) -> Table:
    keys = ("what", "here", "published")
    conditions = summary.published.conditions if summary.published else []
    rows = [[condition[key] for key in keys] for condition in conditions]
    return Table("Conditions of the published figures", ["condition", "here", "published"], rows, of_numbers=False)


def _conditions(summary: Summary) -> Table:
    times = summary.times
    lines = {
        "varied": f"{', '.join(summary.varied) or 'nothing'}; every other setting is the same in all runs",
        "recipe": summary.recipe,
        "device": ", ".join(summary.devices),
        "precision": ", ".join(summary.precisions),
        "times": times and f"{times.rounds} turns of each network on {times.device}, {times.measured_at[:10]}",
        "best epoch by": ", ".join(summary.monitors),
        "batch norm": summary.recomputed_from
        and "before each validation, where a network has it, its statistics are recomputed from at least "
        f"{' or '.join(summary.recomputed_from)} training images, or all there are",
        "data fingerprint": ", ".join(summary.fingerprints),
        "test images": format_number(summary.test_images, ",") if summary.test_images else None,
        "leaks": _leaks_in_words(summary.leaks),
        "possible wrong labels": summary.wrong_labels_pct is not None and not summary.wrong_labels and NO_WRONG_LABELS,
        "test groups": summary.test_groups
        and f"{summary.test_groups:,}; intervals and tests take groups for independent, and not images",
        "cross-validation": summary.folds
        and f"{summary.folds}, the same for all networks, of all images there are, also those of a test set that the "
        "data has; each is tested once a repeat",
    }
    rows = [[name, text] for name, text in lines.items() if text]
    return Table("What was controlled, what varied", ["condition", "value"], rows, of_numbers=False)


def _leaks_in_words(found: Leaks | None) -> str | None:
    if found is None:
        return None
    if found.exact + found.near == 0:
        return f"no test image has a copy among the training images{'' if found.complete else ', of those compared'}"
    return f"{found.exact:,} test images have an exact copy among the training images, {found.near:,} look alike one"


def _without_result(summary: Summary) -> Table:
    return Table(
        "Runs without a result, and files that are missing or unreadable",
        ["run", "reason"],
        [[entry["run"], entry["reason"]] for entry in summary.without_result],
        of_numbers=False,
    )
