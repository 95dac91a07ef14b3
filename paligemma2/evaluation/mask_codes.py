"""The codes of masks, which right answers are made of where these are objects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from paligemma2.data.readers.records import Record
from paligemma2.data.row_tasks import Codes, MaskCoding
from paligemma2.errors import InputError
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.processing.masks import crop_mask, rle_to_mask
from paligemma2.types import Box

_BATCH = 256
Fields: TypeAlias = Mapping[str, Any]


def with_mask_codes(
    records: Sequence[Record], target: ObjectTokens, coding: MaskCoding | None
) -> list[Record]:
    """The records with the codes of their masks among their fields.

    Args:
        records: of a split.
        target: names the fields.
        coding: the mask codec; without it, rows that are only scored stay without codes.

    Raises:
        InputError: rows to train on need the codec, or a mask is damaged.
    """
    if coding is None:
        if any(record.variants for record in records):
            raise InputError(
                "the answers of this task are masks, which need the mask codec",
                hint="give the one that the model was trained with",
            )
        return list(records)
    objects = [thing[0] for record in records for thing in _objects(record)]
    codes = iter(_codes(objects, target, coding))
    return [_coded(record, target.codes, codes) for record in records]


def _objects(record: Record) -> tuple[tuple[Fields, ...], ...]:
    """Of each object, the fields in all ways to ask about it."""
    return record.variants or ((record.fields,),)


def _codes(objects: Sequence[Fields], target: ObjectTokens, coding: MaskCoding) -> list[Codes]:
    found: list[Codes] = []
    for start in range(0, len(objects), _BATCH):
        windows = []
        for fields in objects[start : start + _BATCH]:
            y_min, x_min, y_max, x_max = fields[target.box]
            box = Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max)
            windows.append(crop_mask(rle_to_mask(fields[target.mask]), box))
        found += coding.encode(np.stack(windows))
    return found


def _coded(record: Record, name: str, codes: Any) -> Record:
    made = tuple(
        tuple({**fields, name: code} for fields in ways)
        for ways, code in zip(_objects(record), codes, strict=False)
    )
    return replace(record, fields=made[0][0], variants=made if record.variants else ())
