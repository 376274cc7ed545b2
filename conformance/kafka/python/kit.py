"""What the Python clients share: the contract of a client program, names, and checks that explain themselves.

A program is called as `program BOOTSTRAP [CASE...]` and prints `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`
per case; it exits 1 if any failed.
"""

import inspect
import os
import random
import sys
import time
import traceback
import uuid

DEADLINE_SECONDS = 60


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
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.dirname(__file__) in frame.filename]
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    if frames and frames[-1].filename == __file__ and len(frames) > 1:
        where = f" ({os.path.basename(frames[-2].filename)}:{frames[-2].lineno})"
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def main(run_async=None):
    """Runs the cases that the command line names, or all; `run_async` runs a coroutine to its end."""
    bootstrap, wanted = sys.argv[1], sys.argv[2:]
    failed = False
    for name, function in CASES.items():
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        try:
            result = function(bootstrap)
            if inspect.iscoroutine(result):
                run_async(result)
            print(f"ok {name} {int((time.monotonic() - start) * 1000)}")
        except Skip as skip:
            print(f"skip {name} {skip}")
        except BaseException as error:  # a client's own exceptions do not all derive from Exception
            failed = True
            print(f"FAIL {name} {_explain(error)}")
            if os.environ.get("CONFORMANCE_TRACE"):
                traceback.print_exc()
        sys.stdout.flush()
    # Clients' background threads must not hold up the exit.
    os._exit(1 if failed else 0)
