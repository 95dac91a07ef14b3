def test_the_group_lists_its_commands(run):
    ended = run("plan", "--help")
    assert ended.code == 0, ended
    assert "card" in ended.out


def test_an_unknown_plan_is_an_error(run):
    assert run("plan", "moon").code == 2
