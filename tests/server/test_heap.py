"""What the collector is spared, in a process of its own: its state is the interpreter's."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json, weakref
from keylessd.server import heap

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

heap.postpone_collection()
facts = {"off at first": not gc.isenabled()}
kept = Node()
before = len(gc.get_objects())
heap.keep_what_is_loaded()
facts["on again"] = gc.isenabled()
facts["spared"] = gc.get_freeze_count() >= before
facts["looked at"] = any(one is kept for one in gc.get_objects())
facts["young"] = gc.get_threshold()[0]
gone = cycle()
gc.collect()
facts["collects what comes"] = gone() is None
print(json.dumps(facts))
"""


def test_what_is_loaded_is_spared_and_what_comes_is_collected() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)

    assert json.loads(done.stdout) == {
        "off at first": True,
        "on again": True,
        "spared": True,
        "looked at": False,
        "young": 10_000,
        "collects what comes": True,
    }
