from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Record
from paligemma2.data.row_tasks import Codes, MaskCoding
from paligemma2.errors import InputError
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.mask_codes import with_mask_codes
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Row
from paligemma2.metrics.segmentation import segmentation_iou
from paligemma2.processing.masks import mask_to_rle
from paligemma2.tasks import refcoco

TARGET = ObjectTokens()
REFCOCO = Path(__file__).parents[1] / "tasks" / "fixtures" / "refcoco"


def thing(top: int, **more: object) -> dict[str, object]:
    """An object that fills its box but for the lower half."""
    mask = np.zeros((40, 20), dtype=bool)
    mask[top : top + 4, 5:15] = True
    return {"box": [top / 40, 0.25, (top + 8) / 40, 0.75], "mask": dict(mask_to_rle(mask)), **more}


def coding(sizes: list[int]) -> MaskCoding:
    """Codes that tell how much of the window is covered, and how many there were before."""

    def encode(windows: np.ndarray) -> list[Codes]:
        sizes.append(len(windows))
        return [(round(float(window.mean()) * 100),) * 15 + (n % 128,) for n, window in enumerate(windows)]

    def decode(codes: Sequence[Codes]) -> np.ndarray:
        raise AssertionError

    return MaskCoding(encode=encode, decode=decode)


def test_rows_get_the_codes_of_their_masks_in_batches() -> None:
    records = [Record(id=str(n), pictures=("a.png",), fields=thing(n % 30)) for n in range(300)]
    sizes: list[int] = []
    made = with_mask_codes(records, TARGET, coding(sizes))
    assert sizes == [256, 44]
    assert made[0].fields["codes"] == (50,) * 15 + (0,)
    assert made[299].fields["codes"] == (50,) * 15 + (43,)
    assert TARGET(made[299].fields)[0].endswith("<seg050><seg043>")
    assert [each.id for each in made] == [each.id for each in records]


def test_the_ways_to_ask_for_an_object_share_its_codes() -> None:
    ways = ((thing(2, sentence="a"), thing(2, sentence="b")), (thing(8, sentence="c"),))
    record = Record(id="1", pictures=("a.png",), fields=ways[0][0], variants=ways)
    sizes: list[int] = []
    (made,) = with_mask_codes([record], TARGET, coding(sizes))
    assert sizes == [2]
    assert [[fields["codes"][-1] for fields in group] for group in made.variants] == [[0, 0], [1]]
    assert made.fields == made.variants[0][0]
    assert made.variants[0][1]["sentence"] == "b"


def test_only_training_needs_the_codec() -> None:
    scored = [Record(id="1", pictures=("a.png",), fields=thing(2))]
    assert with_mask_codes(scored, TARGET, None) == scored
    trained = [Record(id="1", pictures=("a.png",), fields=thing(2), variants=((thing(2),),))]
    with pytest.raises(InputError, match="need the mask codec"):
        with_mask_codes(trained, TARGET, None)


def test_training_on_referring_sentences_asks_for_one_object_at_a_time() -> None:
    found = read_examples(refcoco.TASK, "train", DataFolder(REFCOCO), coding=coding([]))
    assert [each.example.id for each in found.examples] == ["101", "106"]
    first, second = found.examples[0].example.variants
    assert first.prefixes == ("the diamond that touches nothing", "right diamond")
    assert second.prefixes == ("left box", "box on the left", "square thing")
    # The square fills its box, the diamond half of it; the codes say how much.
    assert second.answers[0].startswith("<loc0128><loc0085><loc0639><loc0469><seg100><seg100>")
    share = int(first.answers[0].partition("<seg")[2][:3])
    assert first.answers[0].startswith("<loc0320><loc0512><loc0895><loc0938>")
    assert 45 <= share <= 60
    assert first.answers[0].count("<seg") == second.answers[0].count("<seg") == 16


@pytest.mark.parametrize("row", refcoco.TASK.rows, ids=lambda row: row.title)
def test_the_codes_of_the_right_masks_score_well(row: Row) -> None:
    codec = load_mask_codec().codec

    def encode(windows: np.ndarray) -> list[Codes]:
        with torch.inference_mode():
            return [tuple(codes) for codes in codec.encode(torch.from_numpy(windows)).tolist()]

    def decode(codes: Any) -> np.ndarray:
        with torch.inference_mode():
            return codec.decode(torch.as_tensor(np.asarray(codes))).numpy()

    coding = MaskCoding(encode=encode, decode=decode)
    found = read_examples(refcoco.TASK, row.splits[0], DataFolder(REFCOCO), coding=coding).examples
    references = [each.reference for each in found]
    metric = segmentation_iou(decode)
    right = metric([str(each.example.suffix) for each in found], references)
    assert right.value > 0.85
    assert right.parts["boxacc/0.75"] == 1
    boxes_only = [str(each.example.suffix).partition("<seg")[0] for each in found]
    assert metric(boxes_only, references).value == 0
