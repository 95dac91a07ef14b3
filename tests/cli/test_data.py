import subprocess
import sys


def test_both_verbs_are_listed(run):
    ended = run("data", "--help")
    assert ended.code == 0, ended
    assert "convert" in ended.out
    assert "check" in ended.out


def test_help_does_not_import_torch():
    program = "import sys; from paligemma2.cli.data import data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
