"""Two hundred running containers, each with a health check, and a thousand clients that follow the events: the daemon's
memory stays small, and it answers."""
import contextlib
import pathlib
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import wait_for   # noqa: E402
from chaos import call          # noqa: E402
from test_service import events, read_until, rss_kb     # noqa: E402

CONTAINERS, STREAMS, LIMIT_MB = 200, 1000, 32


def make(engine, i):
    config = {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"Isolation": "process", "NetworkMode": "none"},
              "Healthcheck": {"Test": ["CMD", "true"], "Interval": 60 * 10**9}}
    status, answer = call(engine.sock, "POST", f"/containers/create?name=many-{i}", config)
    assert status == 201, answer
    assert call(engine.sock, "POST", f"/containers/many-{i}/start")[0] == 204
    return answer["Id"]


def test_many(engine):
    signal.alarm(0)
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda i: make(engine, i), range(CONTAINERS)))
    try:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(events(engine.sock)) for _ in range(STREAMS)]
            for s in streams:
                read_until(s, b"\r\n\r\n")
            began = time.time()
            assert len(call(engine.sock, "GET", "/containers/json")[1]) == CONTAINERS
            listed = time.time() - began
            assert call(engine.sock, "POST", f"/containers/{ids[0]}/kill?signal=CONT")[0] == 204
            for s in streams:
                read_until(s, b'"signal"')
            print(f"insulad with {CONTAINERS} containers and {STREAMS} streams: {rss_kb(engine.proc.pid) / 1024:.1f} MB, "
                  f"list in {listed * 1000:.0f} ms")
            assert rss_kb(engine.proc.pid) < LIMIT_MB << 10
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: call(engine.sock, "DELETE", f"/containers/{i}?force=1"), ids))
    wait_for(lambda: not call(engine.sock, "GET", "/containers/json?all=1")[1])
