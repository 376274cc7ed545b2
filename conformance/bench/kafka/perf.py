"""Where a broker's processor time goes while it is measured, by Linux perf."""
import os
import re
import signal
import subprocess

SAMPLES_PER_SECOND = 199


class Profile:
    """`with Profile(pid, folder, name)`: leaves NAME.txt, the functions with the most time of their own, and NAME.callers.txt."""

    def __init__(self, pid, folder, name):
        self.pid = pid
        self.path = os.path.join(folder, re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))

    def __enter__(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.child = subprocess.Popen(
            ["perf", "record", "-q", "-F", str(SAMPLES_PER_SECOND), "--call-graph", "dwarf,16384", "-p", str(self.pid),
             "-o", self.path + ".data"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_failure):
        self.child.send_signal(signal.SIGINT)
        self.child.wait()
        self.write(self.path + ".txt", "--no-children", "-g", "none", "--sort", "symbol", "--percent-limit", "0.5")
        self.write(self.path + ".callers.txt", "--children", "-g", "caller,0.5,callee", "--sort", "symbol", "--percent-limit", "2")
        os.unlink(self.path + ".data")

    def write(self, path, *options):
        with open(path, "w", encoding="utf-8") as file:
            subprocess.run(["perf", "report", "--stdio", "-i", self.path + ".data", *options], stdout=file,
                           stderr=subprocess.DEVNULL, check=False)
