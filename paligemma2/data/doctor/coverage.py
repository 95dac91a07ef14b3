"""Which labels a data set has, how often and in which split."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paligemma2.data.doctor.findings import Findings

TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class SplitCoverage:
    """What one split has.

    Attributes:
        rows: how many.
        images: pictures in these rows, the same one each time it is used.
        labels: how many objects have each label, the most frequent first.
        objects_per_row: how many rows have so many objects, of the rows that have objects at all.
    """

    rows: int
    images: int
    labels: Mapping[str, int]
    objects_per_row: Mapping[int, int]

    @property
    def objects(self) -> int:
        """How many there are in all."""
        return sum(self.labels.values())


class Coverage:
    """Counts labels and objects by split; memory grows with the number of different labels."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._objects: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, split: str, num_images: int, labels: Sequence[str]) -> None:
        """Count a row with these labels, one for each object."""
        self._rows[split] += 1
        self._images[split] += num_images
        self._labels[split].update(labels)
        if labels:
            self._objects[split][len(labels)] += 1

    @property
    def splits(self) -> dict[str, SplitCoverage]:
        """What was counted, train first."""
        names = sorted(self._rows, key=lambda name: (name != TRAIN, name))
        return {
            name: SplitCoverage(
                rows=self._rows[name],
                images=self._images[name],
                labels=dict(self._labels[name].most_common()),
                objects_per_row=dict(sorted(self._objects[name].items())),
            )
            for name in names
        }

    def report(self, findings: Findings) -> None:
        """Report labels that only train or only the other splits have, and those that differ in spelling."""
        train = self._labels[TRAIN]
        others: Counter[str] = sum(
            (labels for split, labels in self._labels.items() if split != TRAIN), Counter()
        )
        if self._rows[TRAIN] and len(self._rows) > 1:
            for label in sorted(others.keys() - train.keys()):
                findings.add("eval-only-label", f"{label!r}: {others[label]} in eval, none in train")
            for label in sorted(train.keys() - others.keys()):
                findings.add("train-only-label", f"{label!r}: {train[label]} in train, none in eval")
        for spellings in _spellings(train + others):
            counted = ", ".join(f"{label!r} {count}×" for label, count in spellings)
            findings.add("label-spelling", f"differ in case, spaces and hyphens only: {counted}")


def _spellings(labels: Counter[str]) -> list[list[tuple[str, int]]]:
    groups: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for label, count in labels.most_common():
        groups[" ".join(label.casefold().replace("_", " ").replace("-", " ").split())].append((label, count))
    return [group for _, group in sorted(groups.items()) if len(group) > 1]
