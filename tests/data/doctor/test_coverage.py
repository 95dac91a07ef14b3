from paligemma2.data.doctor.coverage import Coverage
from paligemma2.data.doctor.findings import Findings


def reported(coverage: Coverage) -> dict[str, list[str]]:
    findings = Findings(limit=0)
    coverage.report(findings)
    found: dict[str, list[str]] = {}
    for finding in findings.kept:
        found.setdefault(finding.rule, []).append(finding.message)
    return found


def test_rows_objects_and_labels_are_counted_by_split() -> None:
    coverage = Coverage()
    coverage.add("valid", 1, ["dog"])
    coverage.add("train", 1, ["cat", "dog", "cat"])
    coverage.add("train", 2, [])
    coverage.add("train", 1, ["cat"])
    splits = coverage.splits
    assert list(splits) == ["train", "valid"]
    train = splits["train"]
    assert (train.rows, train.images, train.objects) == (3, 4, 4)
    assert (dict(train.labels), dict(train.objects_per_row)) == ({"cat": 3, "dog": 1}, {1: 1, 3: 1})


def test_labels_of_one_side_only_are_reported() -> None:
    coverage = Coverage()
    coverage.add("train", 1, ["cat", "dog"])
    coverage.add("valid", 1, ["dog", "zebra"])
    coverage.add("test", 1, ["zebra"])
    assert reported(coverage) == {
        "eval-only-label": ["'zebra': 2 in eval, none in train"],
        "train-only-label": ["'cat': 1 in train, none in eval"],
    }


def test_one_split_alone_is_not_compared() -> None:
    for split in ("train", "test"):
        coverage = Coverage()
        coverage.add(split, 1, ["cat"])
        assert reported(coverage) == {}


def test_spellings_of_one_label_are_reported_with_their_counts() -> None:
    coverage = Coverage()
    for label in ("traffic light", "Traffic_Light", "traffic light", "light"):
        coverage.add("train", 1, [label])
    (message,) = reported(coverage)["label-spelling"]
    assert message.endswith("'traffic light' 2×, 'Traffic_Light' 1×")
