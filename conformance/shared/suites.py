"""Runs suites (programs that keep the contract of `kit`) against brokers, and tells what came out as a table of cases by broker."""

import concurrent.futures
import queue
import subprocess
import sys
import threading
import time

from conformance.shared.broker import ROOT

CASE_SECONDS_MAX = 300  # without a case that ends, a client is stuck
# A case that fails beside others is run once more, alone: many are timed by the client, and the machine is shared by all. If it passes
# then, both are told; of more than so many on one broker it is not the machine, and each counts as failed.
UNSTEADY_MAX = 2


def chosen(suites, wanted):
    """Of `suites` those of these names, or whose names begin so where there is none of the name; all if none is wanted."""
    def is_meant(suite):
        return any(suite == name or name not in suites and suite.startswith(name) for name in wanted)
    return {suite: command for suite, command in suites.items() if not wanted or is_meant(suite)}


def run(suites, names, make, environment, oracle, lists, cases, jobs):
    """Runs `suites` (name -> command) on each broker of these names, `jobs` at a time, and ends the program: with 1 if PolyMQ fails a
    case that is not listed in `missing`, or the oracle one that is not in `differences`; both are lists in the folder `lists`. `make`
    makes a broker of its name; `environment` says what programs are told of a broker. A case that passes only when it is run again,
    alone, is told apart."""
    differences, missing = _listed(lists / "differences"), _listed(lists / "missing")
    outcomes = {}
    started = time.monotonic()
    for name in names:
        try:
            listed = differences if name == oracle else missing
            _run_broker(name, make(name), environment, suites, cases, jobs, outcomes, listed)
        except (RuntimeError, OSError) as error:
            print(f"{name}: {error}")
            outcomes.setdefault(("broker", "starts"), {})[name] = ("FAIL", str(error))

    faults, unsteady, passed, skipped = [], {name: [] for name in names}, 0, 0
    width = max((len(f"{suite} {case}") for suite, case in outcomes), default=10)
    print("\n" + "case".ljust(width), *(name.ljust(12) for name in names))
    for (suite, case), by_broker in outcomes.items():
        words = []
        for name in names:
            word, detail = by_broker.get(name, ("·", ""))
            known = {(suite, case), (suite, f"{case}@{name}")}
            if word == "FAIL" and name == oracle and (suite, case) in differences:
                word = "differs"
            elif word == "FAIL" and name != oracle and known & missing.keys():
                word = "missing"
            elif word == "ok" and (name != oracle and known & missing.keys() or name == oracle and (suite, case) in differences):
                print(f"{suite} {case} passes on {name}: take it off the list")
            elif word == "FAIL":
                faults.append(f"FAILED {name} {suite} {case}: {detail}")
            elif word == "again":
                unsteady[name].append(f"{name} {suite} {case}: {detail}")
            passed += word in ("ok", "again")
            skipped += word in ("skip", "differs", "missing")
            words.append(word.ljust(12))
        print(f"{suite} {case}".ljust(width), *words)
    print("ok passed, again passed when it was run alone after it had failed, FAIL failed, skip left out for the reason above,")
    print("differs and missing: see the lists of these names, · not run\n")
    for told in unsteady.values():
        if len(told) > UNSTEADY_MAX:
            faults += [f"FAILED, passed alone: {line}" for line in told]
            passed -= len(told)
        else:
            print("".join(f"UNSTEADY {line}\n" for line in told), end="")
    print("\n".join(faults))
    print(f"took {time.monotonic() - started:.0f} s\n{passed} passed, {len(faults)} failed, {skipped} skipped")
    sys.exit(1 if faults or not passed else 0)


def _listed(path):
    """(suite, case) -> the reason, from lines `SUITE CASE: REASON`; CASE@SHAPE is of that shape of PolyMQ alone."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            names, _, reason = line.partition(": ")
            suite, case = names.split()
            found[suite, case] = reason
    return found


def _run_broker(name, broker, environment, suites, cases, jobs, outcomes, listed):
    lock = threading.Lock()

    def tell(suite, case, word, detail):
        with lock:
            outcomes.setdefault((suite, case), {})[name] = (word, detail)
            unit = " ms" if word == "ok" else ""
            print(f"[{name} {suite}] {word} {case} {detail}{unit}", flush=True)

    try:
        print(f"{name} listens on {','.join(broker.addresses)} after {broker.start():.1f} s", flush=True)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(_run_suite, suite, command, environment(broker), broker, cases, tell) for suite, command in suites.items()]:
                done.result()
        _run_again(name, broker, environment, suites, outcomes, listed)
        if reason := broker.ended():
            tell("broker", "stays_up", "FAIL", reason)
            return
        started = time.monotonic()
        try:
            broker.stop()
            tell("broker", "drains", "ok", str(int((time.monotonic() - started) * 1000)))
        except RuntimeError as error:
            tell("broker", "drains", "FAIL", str(error))
    finally:
        broker.discard()


def _run_again(name, broker, environment, suites, outcomes, listed):
    """Runs what failed once more, one at a time; `again`, with the first failure, takes its place where it passes."""
    failed = [key for key, by_broker in outcomes.items() if by_broker.get(name, ("",))[0] == "FAIL" and key[0] in suites]
    for suite, case in failed:
        if broker.ended() or case == "whole_program" or {(suite, case), (suite, f"{case}@{name}")} & listed.keys():
            continue
        came = []
        _run_suite(suite, suites[suite], environment(broker), broker, [case], lambda _, case, word, detail: came.append((case, word, detail)))
        print(f"[{name} {suite}] again, alone: {came}", flush=True)
        if [(case_, word) for case_, word, _ in came] == [(case, "ok")]:
            outcomes[suite, case][name] = ("again", outcomes[suite, case][name][1])


def _run_suite(name, command, environment, broker, cases, tell):
    """Runs one suite, and tells (suite, case, word, detail) of each line as it comes."""
    try:
        child = subprocess.Popen([*map(str, command), ",".join(broker.addresses), *cases], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, errors="replace", env=environment, cwd=ROOT)
    except FileNotFoundError as error:
        tell(name, "whole_program", "FAIL", f"{error.filename} is not there: run conformance/setup")
        return
    lines, other = queue.Queue(), []

    def read():
        for line in child.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def read_errors():
        for line in child.stderr:
            other.append(line.rstrip("\n"))

    threads = [threading.Thread(target=work, daemon=True) for work in (read, read_errors)]
    for thread in threads:
        thread.start()
    failed = 0
    while True:
        try:
            line = lines.get(timeout=CASE_SECONDS_MAX)
        except queue.Empty:
            child.kill()
            tell(name, "whole_program", "FAIL", f"no case ended in {CASE_SECONDS_MAX} s: ended")
            failed += 1
            break
        if line is None:
            break
        word, _, rest = line.partition(" ")
        case, _, detail = rest.partition(" ")
        if word in ("ok", "FAIL", "skip") and case:
            failed += word == "FAIL"
            tell(name, case, word, detail)
        else:
            other.append(line)
    status = child.wait()
    for thread in threads:
        thread.join(5)
    if status != 0 and not failed:
        tell(name, "whole_program", "FAIL", f"exit {status}: {' | '.join(other[-6:])}")
