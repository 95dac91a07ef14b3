import json

from paligemma2.jobs import inspect


def test_the_table_shows_what_the_checkpoint_is(run, folder):
    ended = run("inspect", folder)
    found = inspect.run(folder)
    assert (ended.code, ended.err) == (0, "")
    for text in ("custom-28", "28 px, 4 tokens", "float32", f"{found.tensors.num_parameters:,}"):
        assert text in ended.out
    assert found.fingerprint.digest in ended.out


def test_json_holds_the_same(run, folder):
    shown = json.loads(run("inspect", folder, "--json").out)
    found = inspect.run(folder)
    assert shown["fingerprint"]["digest"] == found.fingerprint.digest
    assert shown["num_parameters"] == sum(shown["parameters"].values()) == found.tensors.num_parameters
    assert (shown["variant"], shown["resolution"], shown["dtype"]) == (found.variant, 28, "float32")


def test_the_fingerprint_can_be_left_out(run, folder):
    assert "fingerprint" not in run("inspect", folder, "--no-fingerprint").out
    assert json.loads(run("inspect", folder, "--no-fingerprint", "--json").out)["fingerprint"] is None


def test_an_unknown_source_is_refused(run):
    ended = run("inspect", "nonsense")
    assert ended.has_failed_with("no checkpoint at 'nonsense'"), ended
