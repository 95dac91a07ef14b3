import json
import platform

import torch

import paligemma2
from paligemma2.jobs.versions import versions


def test_the_versions_are_those_at_work_and_go_into_json() -> None:
    expected = [paligemma2.__version__, torch.__version__, platform.python_version()]
    assert json.loads(json.dumps(versions())) == dict(
        zip(("paligemma2", "torch", "python"), expected, strict=True)
    )
