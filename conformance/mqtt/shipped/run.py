#!/usr/bin/env python3
"""The tests that paho.mqtt.golang's module ships, as they are: `run.py ADDRESS [CASE...]`.

They know of no other port than 1883, so a broker is started for them there, at a loopback address of its own; ADDRESS is not used.
conformance/setup compiles them. Those that need no broker run with them. (paho.golang, rumqttc, MQTT.js and HiveMQ's client ship
none that takes an address: they bring brokers of their own.)
"""

import os
import pathlib
import random
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import brokers  # noqa: E402

BROKER = os.environ.get("BROKER", "external")
TESTS = brokers.TOOLS / "go/paho.mqtt.golang.test"
MINUTES_MAX = 4
# These publish on another connection without waiting for SUBACK. A subscription here begins when the core has said where its topics
# end, some milliseconds after SUBSCRIBE has come (docs/mqtt.md), so that on a busy machine the message may be first. They may have
# another try, alone.
RACES = {"Test_ResumeSubs", "Test_Ack_After_Disconnect"}
TRIES = 3
OUTCOME = re.compile(r"--- (PASS|FAIL|SKIP): ([^ /]+) \(([0-9.]+)s\)")


def outcomes(lines):
    """(word, case, detail) of each test, from what `go test -v` prints; a test's own output may stand before the words on their line."""
    said = []
    for line in lines:
        found = OUTCOME.search(line)
        if not found:
            said.append(line.strip())
            continue
        word, case, seconds = found.groups()
        if word == "PASS":
            yield "ok", case, str(int(float(seconds) * 1000))
        else:
            reasons = [each for each in said if "_test.go:" in each] or said
            yield ("FAIL" if word == "FAIL" else "skip"), case, " | ".join(reasons[-3:])[:300] or "it says no reason"
        said = []
    # What ends the program ends it in the middle of a test.
    if any(line.startswith(("panic: ", "fatal error: ")) for line in said):
        yield "FAIL", "whole_program", " | ".join(line for line in said if line)[:300]


def main():
    if BROKER == "external":
        print("skip whole_program it needs a broker that it starts itself")
        return 0
    if not TESTS.is_file():
        print(f"FAIL whole_program {TESTS} is not there: run conformance/setup mqtt-go")
        return 1
    broker = brokers.own(BROKER)
    host = f"127.{random.randrange(64, 128)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    broker.addresses[0] = f"{host}:1883"
    failed = False
    try:
        broker.start()

        def tests(cases):
            """Runs these, or all; yields their outcomes, and what became of the program."""
            command = [TESTS, "-test.v", f"-test.timeout={MINUTES_MAX}m"]
            if cases:
                command.append(f"-test.run=^({'|'.join(map(re.escape, cases))})$")
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                     errors="replace", cwd=broker.folder, env={**os.environ, "TEST_FVT_ADDR": host})
            told = False
            for word, case, detail in outcomes(child.stdout):
                told |= word == "FAIL"
                yield word, case, detail
            if child.wait() != 0 and not told:
                yield "FAIL", "whole_program", f"it ended with {child.returncode}"

        again = []
        for word, case, detail in tests(sys.argv[2:]):
            if word == "FAIL" and case in RACES:
                again.append((word, case, detail))
                continue
            failed |= word == "FAIL"
            print(word, case, detail, flush=True)
        for outcome in again:
            for _ in range(TRIES - 1):
                if outcome[0] == "FAIL":
                    outcome = next(iter(list(tests([outcome[1]]))), outcome)
            failed |= outcome[0] == "FAIL"
            print(*outcome, flush=True)
        if reason := broker.ended():
            print(f"FAIL whole_program {reason}")
            failed = True
    finally:
        broker.discard()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
