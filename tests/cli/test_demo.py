from pathlib import Path

from paligemma2.jobs import demo


def test_events_and_the_page_are_shown(run, monkeypatch, tmp_path):
    """The work itself takes minutes and is tested beside the job."""

    def fake(folder, on_event):
        on_event("asked about a picture")
        return folder / "index.html"

    monkeypatch.setattr(demo, "run", fake)
    ended = run("demo", "--output", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"asked about a picture\nopen {Path(tmp_path) / 'index.html'}\n"
