"""What every peer's script shares: the protocol of `cargo xtask peers`, and how a sample is taken.

A script makes a list of peers and calls `serve`. See xtask/src/peers/worker.rs for the lines exchanged.
"""

import json
import os
import sys
import time

# Libraries print where they like; only the protocol may use what was standard output.
_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

# A sample lasts at least this many seconds.
SAMPLE = 0.02


def threads():
    """The number after `--threads`."""
    return int(sys.argv[sys.argv.index("--threads") + 1])


def rate(call, amount):
    """A sampler: `amount` divided by the seconds a call takes."""
    return _sampler(call, lambda seconds: amount / seconds)


def milliseconds(call):
    """A sampler: the milliseconds a call takes."""
    return _sampler(call, lambda seconds: 1e3 * seconds)


def _sampler(call, value):
    state = {}

    def sample():
        if "turns" not in state:
            call()
            start = time.perf_counter()
            call()
            state["turns"] = max(1, int(SAMPLE / max(time.perf_counter() - start, 1e-7)))
        turns = range(state["turns"])
        start = time.perf_counter()
        for _ in turns:
            call()
        return value((time.perf_counter() - start) / len(turns))

    return sample


class Peer:
    """An implementation: `works` maps a work's name to a function that prepares it and returns a sampler."""

    def __init__(self, name, version, unit, works, ours=()):
        self.name, self.version, self.unit, self.works, self.ours = name, version, unit, works, list(ours)
        self.ready = {}

    def sample(self, work):
        if work not in self.ready:
            # One prepared work at a time: earlier ones would only fill memory.
            self.ready = {work: self.works[work]()}
        return self.ready[work]()


def _say(line):
    print(json.dumps(line), file=_out, flush=True)


def serve(peers):
    """Answers requests until standard input ends."""
    for peer in peers:
        works = [{"work": work, "unit": peer.unit} for work in peer.works]
        _say({"peer": peer.name, "version": peer.version, "works": works, "ours": peer.ours})
    _say({"ready": True})
    by_name = {peer.name: peer for peer in peers}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _say({"value": by_name[request["peer"]].sample(request["work"])})
        except Exception as error:  # a peer that cannot do a work is a fact to report
            _say({"error": f"{type(error).__name__}: {error}"[:300]})
