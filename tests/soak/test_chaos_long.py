"""tests/system/test_chaos.py at length: two hundred times the daemon is killed."""
import os
import pathlib
import random
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from chaos import Chaos         # noqa: E402
from test_chaos import own      # noqa: F401,E402

KILLS = int(os.environ.get("INSULA_CHAOS_KILLS", "200"))


def test_nothing_is_lost_at_length(own):        # noqa: F811
    seed = int(os.environ.get("INSULA_CHAOS_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    signal.alarm(0)
    chaos = Chaos(own, ("process", "process", "process", "hyperv", "hyperv"), seed)
    chaos.run(KILLS)
    print(chaos.facts)
    assert chaos.facts["kills"] >= KILLS
