"""Run a bulk job of two workers, kill the one that is the first to finish a unit, and tell what happened.

A program of its own, because Ray warns of much that tests take for errors.
"""

import json
import os
import signal
import sys
from dataclasses import asdict

from paligemma2.jobs.bulk import BulkConfig, BulkSettings, run
from paligemma2.jobs.bulk_asking import PromptAsker
from paligemma2.jobs.bulk_worker import Done
from paligemma2.types import Decoding


def main(model: str, data: str, output: str) -> None:
    done: list[Done] = []

    def note(unit: Done) -> None:
        if not done:
            os.kill(unit.process, signal.SIGKILL)
        done.append(unit)

    asker = PromptAsker(prompt="answer en {question}", model=model, decoding=Decoding(max_new_tokens=4))
    settings = BulkSettings(workers=2, rows_per_unit=2, object_store_bytes=200_000_000)
    report = run(BulkConfig(asker=asker, data=data, output=output, settings=settings), note)
    sys.stdout.write(json.dumps({"done": list(map(asdict, done)), "report": asdict(report)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
