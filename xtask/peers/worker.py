"""What every peer's script shares: the protocol of `cargo xtask peers`, and how a sample is taken.

A script makes a list of peers and calls `serve`. See xtask/src/peers/worker.rs for the lines exchanged.
"""

import json
import os
import subprocess
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


def milliseconds_of_one(call):
    """A sampler for a call long enough to be timed alone: a sample is one call, and no two need be alike."""

    def sample():
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)

    return sample


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


def mebibytes(*arguments):
    """A sampler: by how many MiB a process of this script, given `arguments`, says it grew (see `grown`)."""

    def sample():
        if not grown_by:
            command = [sys.executable, sys.argv[0], "--threads", str(threads()), "--grow", *arguments]
            grown_by.append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        return grown_by[0]

    # One process tells all there is to know.
    grown_by = []
    return sample


def asked_to_grow():
    """The arguments after `--grow`, if this process was started by `mebibytes`."""
    return sys.argv[sys.argv.index("--grow") + 1 :] if "--grow" in sys.argv else None


def grown(call):
    """Prints by how many MiB `call` makes this process grow at most."""

    def status(field):
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(field))

    before = status("VmRSS:")
    call()
    print((status("VmHWM:") - before) / 1024, file=_out, flush=True)


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
        unit = lambda work: "MiB" if "memory" in work else peer.unit
        works = [{"work": work, "unit": unit(work)} for work in peer.works]
        _say({"peer": peer.name, "version": peer.version, "works": works, "ours": peer.ours})
    _say({"ready": True})
    by_name = {peer.name: peer for peer in peers}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _say({"value": by_name[request["peer"]].sample(request["work"])})
        except Exception as error:  # a peer that cannot do a work is a fact to report
            _say({"error": f"{type(error).__name__}: {error}"[:300]})
