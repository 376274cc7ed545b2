"""The load generator's process (java/Load.java): commands in, answers out."""
import json
import os
import queue
import subprocess
import threading

ANSWER_SECONDS_MAX = 90  # the longest, filling a topic with 2 GiB, takes half of it on a slow disk


class Failed(Exception):
    """A measurement that did not work; the text says why."""


def compile_load(java_folder, jars, classes):
    os.makedirs(classes, exist_ok=True)
    sources = sorted(os.path.join(java_folder, name) for name in os.listdir(java_folder) if name.endswith(".java"))
    done = subprocess.run(["javac", "-nowarn", "-proc:none", "-d", classes, "-cp", f"{jars}/*", *sources],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"javac failed:\n{done.stdout}{done.stderr}")


class Client:
    def __init__(self, jars, classes, log, address):
        self.address = address
        self.log = open(log, "ab")  # pylint: disable=consider-using-with
        self.child = subprocess.Popen(
            ["java", "-Xms1g", "-Xmx1g", "-XX:MaxGCPauseMillis=10", f"-Dlog4j2.configurationFile={write_log_settings(log)}",
             "-cp", f"{classes}:{jars}/*", "Load"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.answers.put(line.rstrip("\n"))
        self.answers.put("error the load generator ended")

    def call(self, command, seconds_max=ANSWER_SECONDS_MAX, **options):
        """Runs one command, returns its figures; raises Failed."""
        words = [command, f"address={self.address}"]
        words += [f"{key}={value}" for key, value in options.items()]
        self.child.stdin.write(" ".join(words) + "\n")
        self.child.stdin.flush()
        try:
            answer = self.answers.get(timeout=seconds_max)
        except queue.Empty:
            self.child.kill()
            raise Failed(f"{command}: no answer in {seconds_max} seconds") from None
        if not answer.startswith("ok "):
            raise Failed(f"{command}: {answer.removeprefix('error ')}")
        return json.loads(answer[3:])

    def stop(self):
        self.child.stdin.close()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.log.close()


def write_log_settings(log):
    path = log + ".log4j2.properties"
    with open(path, "w", encoding="utf-8") as file:
        file.write("status = error\nappender.out.type = Console\nappender.out.name = out\n"
                   "appender.out.target = SYSTEM_ERR\nappender.out.layout.type = PatternLayout\n"
                   "appender.out.layout.pattern = %d %p %c{1}: %m%n\n"
                   "rootLogger.level = error\nrootLogger.appenderRef.out.ref = out\n")
    return path
