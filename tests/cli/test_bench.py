import json


def test_the_table_shows_the_machine_and_how_near_the_model_comes(run, folder):
    ended = run("bench", "--model", folder, "--tokens", "2", "--repeats", "1", "--batch", "2")
    assert ended.code == 0
    for text in ("GFLOP/s", "GB/s", "first token, 2 at a time", "of the limit", "custom-28", "float32"):
        assert text in ended.out


def test_json_holds_every_figure(run, folder):
    ended = run("bench", "--model", folder, "--tokens", "2", "--repeats", "1", "--json")
    report = json.loads(ended.out)
    assert [each["name"] for each in report["figures"]][:3] == ["images_b1", "first_token_b1", "decode_b1"]
    for figure in report["figures"]:
        assert abs(figure["fraction"] - figure["floor"] / figure["seconds"]) < 1e-9


def test_bad_input_is_refused_in_one_line(run, folder):
    assert run("bench", "--model", folder, "--tokens", "1").has_failed_with("tokens is 1")
    assert run("bench", "--model", "nonsense").has_failed_with("no checkpoint at 'nonsense'")
    assert run("bench", "--model", folder, "--dtype", "int3").has_failed_with("dtype 'int3' is not supported")
    assert run("bench", "--random", "--model", "3b").has_failed_with("no model is named '3b'")
