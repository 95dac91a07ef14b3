"""Objects to the answer that a model is trained to give: the inverse of `parsing`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from paligemma2.errors import InputError
from paligemma2.model.config import NUM_MASK_TOKENS
from paligemma2.processing.locations import Divisor, box_to_indices, box_to_text
from paligemma2.processing.parsing import CODES_PER_MASK, parse_answer
from paligemma2.types import Detection

Order = Literal["given", "left_to_right", "top_to_bottom", "largest_first"]
SEPARATOR = " ; "


def objects_to_suffix(
    objects: Sequence[Detection], *, order: Order = "given", divisor: Divisor = 1023
) -> str:
    """The answer with these objects: `<loc0010><loc0020><loc0500><loc0600> cat ; …`; "" for no objects.

    `parse_answer` gives the same objects back, each coordinate at most half a step away. Instances of one
    class each carry its label. The released models were trained on objects in random order: shuffle them and
    keep "given" for that (arXiv:2407.07726).

    Args:
        objects: what to write; scores and decoded masks are not written.
        order: see `order_objects`.
        divisor: 1023 is the reference's rounding; 1024 for readers that divide by it.

    Raises:
        InputError: an object has a box, a label or mask codes that would not be read back.
    """
    return SEPARATOR.join(object_to_text(item, divisor=divisor) for item in order_objects(objects, order))


def object_to_text(item: Detection, *, divisor: Divisor = 1023) -> str:
    """One object as the model writes it; without a label it is the answer to a referring expression.

    Raises:
        InputError: it has a box, a label or mask codes that would not be read back.
    """
    label = item.label.strip()
    _check_label(label)
    y_min, x_min, y_max, x_max = box_to_indices(item.box, divisor=divisor)
    if y_min >= y_max or x_min >= x_max:
        raise InputError(
            f"the box of {label!r} is empty: locations {y_min}, {x_min} to {y_max}, {x_max}",
            hint="leave out boxes thinner than 1/1023 of the picture, and give the smaller corner first",
        )
    text = box_to_text(item.box, divisor=divisor) + codes_to_text(item.codes)
    return f"{text} {label}" if label else text


def codes_to_text(codes: Sequence[int]) -> str:
    """The mask tokens of a mask, `<seg000>` to `<seg127>`; "" for no mask.

    Raises:
        InputError: there are some but not 16, or one is out of range.
    """
    if codes and (len(codes) != CODES_PER_MASK or not all(0 <= code < NUM_MASK_TOKENS for code in codes)):
        raise InputError(
            f"{list(codes)} are not the codes of a mask",
            hint=f"give {CODES_PER_MASK} numbers from 0 to {NUM_MASK_TOKENS - 1}, or none",
        )
    return "".join(f"<seg{code:03d}>" for code in codes)


def order_objects(objects: Sequence[Detection], order: Order) -> list[Detection]:
    """The objects in an order that a model can learn; equals keep the order given.

    Args:
        objects: in any order.
        order: "left_to_right" by the middle of the box (what the shipped small model writes);
            "top_to_bottom" by the upper edge, then the left one (lines of text); "largest_first" by area, so
            that the first few are those that matter most; "given" leaves them.
    """
    return list(objects) if order == "given" else sorted(objects, key=_SORT_KEYS[order])


def _by_middle(item: Detection) -> tuple[float, ...]:
    return (item.box.x_min + item.box.x_max,)


def _by_upper_edge(item: Detection) -> tuple[float, ...]:
    return item.box.y_min, item.box.x_min


def _by_area(item: Detection) -> tuple[float, ...]:
    return (-(item.box.y_max - item.box.y_min) * (item.box.x_max - item.box.x_min),)


_SORT_KEYS: Mapping[Order, Callable[[Detection], tuple[float, ...]]] = {
    "left_to_right": _by_middle,
    "top_to_bottom": _by_upper_edge,
    "largest_first": _by_area,
}


def _check_label(label: str) -> None:
    parsed = parse_answer(label)
    if ";" in label or parsed.detections or parsed.problems:
        raise InputError(
            f"{label!r} cannot be a label in an answer",
            hint="labels have no ';', which separates objects, and no location or mask tokens",
        )
