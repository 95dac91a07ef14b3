"""What the doctor of data sets found, as tables and as a page."""

from collections.abc import Iterator

from paligemma2.data.doctor.coverage import SplitCoverage
from paligemma2.data.doctor.doctor import DataReport
from paligemma2.data.doctor.findings import RULES, SEVERITIES
from paligemma2.drawing.attention import LOSS, ROLE_COLOURS, draw_attention
from paligemma2.drawing.page import PIXEL_ART_BELOW, Section, Table, page_environment

_LABELS_SHOWN = 40


def data_check_page(report: DataReport, *, title: str) -> str:
    """A whole HTML document that needs nothing from outside."""
    environment = page_environment()
    environment.filters["shown_text"] = shown_text
    page = environment.get_template("data_check.html").render(
        title=title,
        sections=(*data_check_sections(report), *_findings(report)),
        examples=[
            (example, draw_attention(example.mask.roles, example.mask.is_visible, example.mask.has_loss))
            for example in report.examples
        ],
        role_colours=ROLE_COLOURS,
        loss_colour=LOSS,
        pixel_art_below=PIXEL_ART_BELOW,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate could not be written to a file


def data_check_sections(report: DataReport) -> tuple[Section, ...]:
    """The result in tables: what was found, what was skipped, the splits, the labels."""
    sections = [Section(title="Result", lines=(verdict(report), *facts(report)), table=_rules(report))]
    left_out = Table(
        header=("rows", "skipped or corrected because"),
        rows=(
            *((str(count), f"skipped: {reason}") for reason, count in report.skipped.items()),
            *((str(count), f"corrected: {reason}") for reason, count in report.corrected.items()),
        ),
    )
    if left_out.rows:
        sections.append(Section(title="Skipped and corrected", table=left_out))
    sections.append(Section(title="Splits", table=_splits(report)))
    labels = _labels(report)
    if labels.rows:
        sections.append(Section(title="Labels", table=labels))
    return tuple(sections)


def verdict(report: DataReport) -> str:
    """One line: how much was checked, and how bad it is."""
    counts = ", ".join(f"{report.count(severity):,} {severity}s" for severity in SEVERITIES)
    skipped = sum(report.skipped.values())
    return (
        f"{report.num_rows:,} rows and {report.album.pictures:,} different pictures checked: {counts}; "
        f"{skipped:,} rows skipped"
    )


def facts(report: DataReport) -> Iterator[str]:
    """Lines about the lengths of the texts, and about what could not be compared."""
    if report.lengths is not None:
        found = report.lengths
        yield (
            f"tokens of text per row: median {found.median}, 95 % have at most {found.percentile_95}, "
            f"the longest {found.largest}; with image tokens at most {found.largest_in_all}, "
            f"of {found.context} that the model allows"
        )
    album = report.album
    if album.compared:
        yield f"{album.compared:,} pictures of eval were compared with those of train"
    else:
        yield "train and eval were not compared: one of both has no pictures"
    if album.flat and album.compared:
        yield f"{album.flat:,} pictures have too little on them to be compared, other than byte by byte"
    if album.cut:
        yield f"{album.cut:,} pictures of eval are like so many of train that not all were compared"


def shown_text(text: str) -> str:
    """The text of a token with what cannot be seen made visible."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def _rules(report: DataReport) -> Table:
    return Table(
        header=("severity", "what", "how often", "what to do"),
        rows=tuple(
            (RULES[rule].severity, rule, f"{count:,}", RULES[rule].advice)
            for rule, count in report.counts.items()
        ),
    )


def _splits(report: DataReport) -> Table:
    header = ("split", "rows", "pictures", "rows with objects", "objects", "labels", "objects per row")
    return Table(header=header, rows=tuple(_split_row(name, split) for name, split in report.splits.items()))


def _split_row(name: str, split: SplitCoverage) -> tuple[str, ...]:
    counts = split.objects_per_row
    with_objects = sum(counts.values())
    per_row = f"{split.objects / with_objects:.1f} on average, at most {max(counts)}" if counts else ""
    numbers = (split.rows, split.images, with_objects, split.objects, len(split.labels))
    return (name, *(f"{number:,}" for number in numbers), per_row)


def _labels(report: DataReport) -> Table:
    total: dict[str, int] = {}
    for split in report.splits.values():
        for label, count in split.labels.items():
            total[label] = total.get(label, 0) + count
    ordered = sorted(total, key=lambda label: (-total[label], label))
    rows = tuple(
        (label, *(f"{split.labels.get(label, 0):,}" for split in report.splits.values()))
        for label in ordered[:_LABELS_SHOWN]
    )
    rest = len(ordered) - len(rows)
    return Table(
        header=("label", *report.splits),
        rows=rows,
        caption=f"the most frequent; {rest:,} more are not shown" if rest > 0 else "",
    )


def _findings(report: DataReport) -> Iterator[Section]:
    for rule, count in report.counts.items():
        kept = [finding for finding in report.findings if finding.rule == rule]
        yield Section(
            title=f"{rule}: {count:,} {RULES[rule].severity}{'s' if count != 1 else ''}",
            lines=(RULES[rule].advice,),
            table=Table(
                header=("where", "what"),
                rows=tuple((str(finding.place or "the whole data set"), finding.message) for finding in kept),
                caption=f"the first {len(kept):,}" if len(kept) < count else "",
            ),
        )
