#!/usr/bin/env python3
"""Celery with this broker: tasks, results, retries, ETA, priorities, groups, chords' parts, remote control, a worker that dies.

`run.py ADDRESS[,ADDRESS] [CASE...]`; prints `ok CASE MILLIS` or `FAIL CASE reason`.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "python"), str(HERE)]

from amqp_kit import CASES, main, same, unique, until  # noqa: E402

DEADLINE_SECONDS = 60
folder = pathlib.Path(tempfile.mkdtemp(prefix="celery-"))
os.environ["CELERY_JOURNAL"] = str(folder / "journal")
os.environ["CELERY_QUEUE"] = unique("celery", "queue")
os.environ["AMQP_URL"] = f"amqp://guest:guest@{sys.argv[1].split(',')[0]}//"

import celery  # noqa: E402
import tasks  # noqa: E402


class Worker:
    """One process with one child, so that what waits in the queue shows its order."""

    def __enter__(self):
        with open(folder / "worker.log", "ab") as log:
            self.child = subprocess.Popen([sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "solo", "--without-mingle", "-l", "warning", "-n", unique("w", "n") + "@localhost"], cwd=HERE,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def case(function):
    CASES[function.__name__] = lambda _: function()
    return function


def journal():
    try:
        return (folder / "journal").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


@case
def tasks_and_results():
    with Worker():
        same([3, 7], [tasks.add.delay(1, 2).get(DEADLINE_SECONDS), tasks.add.delay(3, 4).get(DEADLINE_SECONDS)], "results")
        got = celery.group(tasks.add.s(number, number) for number in range(50))().get(DEADLINE_SECONDS)
        same([2 * number for number in range(50)], got, "a group's results")
        same(13, celery.chain(tasks.add.s(1, 2), tasks.add.s(10))().get(DEADLINE_SECONDS), "a chain's result")
        try:
            tasks.breaks.delay().get(DEADLINE_SECONDS)
            raise AssertionError("no failure")
        except RuntimeError as error:
            same("as it should", str(error), "a failure's text")


@case
def retries_and_eta():
    with Worker():
        same(2, tasks.fails_twice.delay().get(DEADLINE_SECONDS), "retries")
        before = time.time()
        after = tasks.note.apply_async(("eta",), countdown=2).get(DEADLINE_SECONDS)
        assert 2 <= after - before < 10, f"after {after - before:.1f} s instead of 2"


@case
def expired_tasks_are_not_run():
    result = tasks.note.apply_async(("expired",), expires=0.2)
    time.sleep(0.5)
    with Worker():
        tasks.note.delay("after").get(DEADLINE_SECONDS)
        assert "expired" not in journal(), "it was run"
        assert result


@case
def priorities():
    for number, priority in enumerate((0, 5, 9, 1, 9, 5)):
        tasks.note.apply_async((f"priority-{priority}-{number}",), priority=priority)
    with Worker():
        until("all are done", lambda: len([line for line in journal() if line.startswith("priority")]) == 6, DEADLINE_SECONDS)
    got = [line.split("-")[1] for line in journal() if line.startswith("priority")]
    same(sorted(got, reverse=True), got, "the highest first")


@case
def a_worker_that_dies_loses_nothing():
    with Worker() as first:
        waiting = [tasks.note.delay("begun", 3), *(tasks.note.delay(f"later-{number}") for number in range(5))]
        until("the worker is there", lambda: tasks.app.control.ping(timeout=0.3) or "begun" in journal(), DEADLINE_SECONDS)
        first.child.kill()
        first.child.wait()
    with Worker():
        for result in waiting:
            result.get(DEADLINE_SECONDS)
    same([f"later-{number}" for number in range(5)], list(dict.fromkeys(line for line in journal() if line.startswith("later"))), "all, by their first time in order")


@case
def remote_control():
    with Worker():
        tasks.add.delay(1, 1).get(DEADLINE_SECONDS)
        replies = tasks.app.control.ping(timeout=5)
        same([{"ok": "pong"}], [value for reply in replies for value in reply.values()], "pong")
        assert "tasks.add" in next(iter(tasks.app.control.inspect(timeout=5).registered().values())), "what is registered"


if __name__ == "__main__":
    main()
