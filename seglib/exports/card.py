"""What an export says of itself."""

import dataclasses
import json
import pathlib

from seglib.classes import ClassTable
from seglib.images import check_image_size

FILE = "predictor.json"
VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """All that one must know to use an exported model.

    Args:
        format, precision: str, as of `seglib.export`.
        image_size: `(height, width)` of the pictures that it takes, RGB from 0 to 255.
        fit: "stretch" or "letterbox", how pictures are brought to that size: bilinear, antialiased.
        num_classes: int, ignored ones included. It answers with probabilities of the others.
        classes: ClassTable, or None where the model knew none.
        parameters: int.
    """

    format: str
    precision: str
    image_size: tuple
    fit: str
    num_classes: int
    classes: ClassTable | None
    parameters: int


def write_card(folder, card):
    """Write a card beside the model, as JSON."""
    from seglib import __version__

    values = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    values["classes"] = card.classes.to_dict() if card.classes else None
    text = json.dumps({"version": VERSION, "seglib": __version__, **values}, indent=1)
    (pathlib.Path(folder) / FILE).write_text(text, encoding="utf-8")


def read_card(folder):
    """Read the card of an export.

    Raises:
        ValueError: the folder is none, or its card is damaged or of a newer version.
    """
    file = pathlib.Path(folder) / FILE
    if not file.is_file():
        raise ValueError(
            f"{folder} is no export, it has no {FILE}: expected a folder that seglib.export wrote"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.pop("version")
        if version <= VERSION:
            values.pop("seglib", None)
            classes = values.pop("classes")
            size = check_image_size(values.pop("image_size"))
            classes = ClassTable(**classes) if classes else None
            return Card(image_size=size, classes=classes, **values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}): export the model again") from None
    raise ValueError(f"{file} is of version {version}, this seglib reads {VERSION}: update seglib")
