"""Single test images: the hardest ones, those that were asked for, and labels that are possibly wrong."""

from __future__ import annotations

from collections.abc import Sequence

from cnn_compare.formatting import MISSING, format_number, format_signed
from cnn_compare.report.answers import WRONG_LABELS_SHOWN, Answer, ShownImage, WrongLabel, class_name
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Section, Table, Thumbnail

NO_WRONG_LABELS = "none listed: of ten that the networks contradict, fewer than two would be wrong"


def hardest(found: Findings) -> Section | None:
    """The test images that most runs got wrong."""
    return _section(found, "hardest", "The hardest test images", found.answers.hardest())


def asked(found: Findings) -> Section | None:
    """Test images that the user named to `cnn-compare explain`."""
    pictures = found.stored.pictures
    return _section(found, "asked", "Test images that were asked for", pictures.asked if pictures else [])


def wrong_labels(found: Findings) -> Section | None:
    """Test images whose labels are possibly wrong, as far as that is likely."""
    doubted, wrong_pct = found.answers.wrong_labels()
    if wrong_pct is None:
        return None
    return Section(
        "wrong-labels",
        "Possible wrong labels",
        table=_doubts(found, doubted, wrong_pct) if doubted else None,
        json={"wrong_labels": doubted, "wrong_labels_pct": wrong_pct},
    )


def _section(found: Findings, key: str, heading: str, images: Sequence[int]) -> Section | None:
    """Single test images with each network's answer and, where it was explained, its heat map."""
    shown = found.answers.shown(images, [network.name for network in found.networks])
    if not shown:
        return None
    networks = list(dict.fromkeys(name for image in shown for name in image.answers))
    pictures = found.stored.pictures
    maps = pictures.heat_maps if pictures else {}
    with_files = any(image.name for image in shown)

    def cell(answer: Answer) -> str:
        return f"{answer.answer}, {answer.probability_pct:.0f} %"

    explained = any(image.image in of_network for of_network in maps.values() for image in shown)
    notes = ["Answers: the one that most seeds gave, with the mean of the probabilities that these gave it."]
    if len(found.networks) > len(networks):
        notes.append(f"Of the {len(networks)} most accurate networks with predictions.")
    if explained:
        notes.append(
            "On the page, heat maps (Grad-CAM): where the seed that was best in validation found what speaks for its "
            "answer, named where it is another one. A picture without heat: no place spoke for it."
        )
    table = Table(
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
        pictures=_pictures_of(found, shown, 3 + with_files, networks),
    )
    return Section(key, heading, table=table, json={key: shown})


def _doubts(found: Findings, doubted: Sequence[WrongLabel], wrong_pct: float) -> Table:
    shown = doubted[:WRONG_LABELS_SHOWN]
    with_files = any(each.name for each in shown)
    count = f"{len(doubted)} in all"
    if len(doubted) > len(shown):
        count = f"the {len(shown)} most suspicious of {len(doubted):,}"
    return Table(
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
        f"suspicious_labels.csv. Of ten such labels, about {round(wrong_pct / 10)} are wrong, judging by labels that "
        "were flipped on purpose. The list ends where fewer than two would be. Margin: the label's probability less "
        "that of the most probable other class. Where a label is right, the image is hard: look at it.",
        pictures=_pictures_of(found, shown, 4 + with_files),
    )


def _pictures_of(
    found: Findings, shown: Sequence[ShownImage | WrongLabel], facts: int, networks: Sequence[str] = ()
) -> list[list[Thumbnail | None]]:
    """A row for each image: itself, nothing for ``facts`` further columns, and for each network its heat map."""
    pictures = found.stored.pictures
    if pictures is None or not any(image.image in pictures.pictures for image in shown):
        return []

    def explained(image: ShownImage | WrongLabel, network: str) -> Thumbnail | None:
        heat = pictures.heat_maps.get(network, {}).get(image.image)
        if heat is None or isinstance(image, WrongLabel):
            return None
        answer = class_name(found.class_names, heat.answer)
        return Thumbnail(heat.picture, "" if answer == image.answers[network].answer else f"here: {answer}")

    rows = []
    for image in shown:
        url = pictures.pictures.get(image.image)
        heat = [explained(image, network) for network in networks]
        rows.append([Thumbnail(url) if url else None, *[None] * facts, *heat])
    return rows
