"""What client programs in Python share: the contract of a client program, names, and checks that explain themselves.

A program is called as `program BOOTSTRAP [CASE...]` and prints `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`
per case; it exits 1 if any failed.
"""

import concurrent.futures
import inspect
import os
import random
import sys
import time
import traceback
import uuid

DEADLINE_SECONDS = 60
SUITE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # frames outside are a client's


class Skip(Exception):
    """This client cannot do what the case asks, or the broker refuses an optional feature."""


CASES = {}


def case(function):
    """Registers a case under the function's name."""
    CASES[function.__name__] = function
    return function


def unique(client, kind):
    return f"{client}-{kind}-{uuid.uuid4().hex[:8]}"


def same(wanted, got, what):
    assert wanted == got, f"{what}: wanted {wanted!r}, got {got!r}"


def until(what, holds, seconds=DEADLINE_SECONDS):
    """Calls `holds` until it is true; for plain functions, with a short pause between."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def compressible_values(count):
    generator = random.Random(7)
    return [b"abc" * generator.randrange(400) + generator.randbytes(8) for _ in range(count)]


HEADERS = [("twice", b"first"), ("twice", b"second"), ("binary", b"\x00\xff\x80\r\n"), ("null", None), ("empty", b""), ("naïve ключ", "ü".encode())]


def _explain(error):
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if SUITE in frame.filename]
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    if frames and frames[-1].filename == __file__ and len(frames) > 1:
        where = f" ({os.path.basename(frames[-2].filename)}:{frames[-2].lineno})"
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _one(name, function, bootstrap, run_async):
    """Runs a case and prints its line; false if it failed."""
    start = time.monotonic()
    try:
        result = function(bootstrap)
        if inspect.iscoroutine(result):
            run_async(result)
        line = f"ok {name} {int((time.monotonic() - start) * 1000)}"
    except Skip as skip:
        line = f"skip {name} {skip}"
    except BaseException as error:  # a client's own exceptions do not all derive from Exception
        line = f"FAIL {name} {_explain(error)}"
        if os.environ.get("CONFORMANCE_TRACE"):
            traceback.print_exc()
    # In one write, for cases that run side by side.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    return not line.startswith("FAIL")


def main(run_async=None, jobs=1):
    """Runs the cases that the command line names, or all, `jobs` at a time; `run_async` runs a coroutine to its end."""
    bootstrap, wanted = sys.argv[1], sys.argv[2:]
    cases = [(name, function) for name, function in CASES.items() if not wanted or name in wanted]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        passed = list(pool.map(lambda one: _one(*one, bootstrap, run_async), cases))
    # Clients' background threads must not hold up the exit.
    os._exit(0 if all(passed) else 1)
