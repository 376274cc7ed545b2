#!/usr/bin/env python3
"""mosquitto_pub, mosquitto_sub and mosquitto_rr (libmosquitto's), as scripts use them."""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
from mqtt_kit import CASES, WEBSOCKET, main, no_oracle, same, until, unique  # noqa: E402, F401

VERSIONS = {"31": "mqttv31", "311": "mqttv311", "5": "mqttv5"}


def case(function):
    CASES[function.__name__] = lambda addresses: function(Tools(addresses.split(",")[0]))
    return function


class Tools:
    def __init__(self, address):
        self.host, self.port = address.rsplit(":", 1)
        self.topic = unique("tools", "t")

    def command(self, name, *arguments, version="5"):
        return [str(word) for word in (brokers.tool(name), "-h", self.host, "-p", self.port, "-V", VERSIONS[version], *arguments)]

    def run(self, name, *arguments, version="5", text=None, status=0):
        """What it prints."""
        done = subprocess.run(self.command(name, *arguments, version=version), capture_output=True, text=True, input=text, timeout=60, check=False)
        assert done.returncode == status, f"{name} ended with {done.returncode}: {done.stdout[-200:]}{done.stderr[-300:]}"
        return done.stdout

    def publish(self, *arguments, **options):
        return self.run("mosquitto_pub", *arguments, **options)

    def listener(self, *arguments, version="5"):
        """A mosquitto_sub that has subscribed."""
        return Listener(["stdbuf", "-oL"] + self.command("mosquitto_sub", "-d", *arguments, version=version))


class Listener:
    def __init__(self, command):
        self.output = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT, text=True)
        until("it has subscribed", lambda: "Subscribed" in self.text() or self.child.poll() is not None, 20)

    def text(self):
        self.output.seek(0)
        return self.output.read()

    def lines(self):
        """What it prints of messages, at its end."""
        assert self.child.wait(60) == 0, self.text()[-300:]
        return [line for line in self.text().splitlines() if not line.startswith(("Client ", "Subscribed"))]


@case
def every_qos_and_version(tools):
    for version in VERSIONS:
        for qos in "012":
            topic = f"{tools.topic}/{version}/{qos}"
            listener = tools.listener("-t", topic, "-q", qos, "-C", 2, "-F", "%t %q %r %p", version=version)
            tools.publish("-t", topic, "-q", qos, "-m", "one", version=version)
            tools.publish("-t", topic, "-q", qos, "-m", "zwei ü", version=version)
            # Two programs: what the first sent with QoS 0 may be read after the second's, if its worker had to wait for the processor.
            order = sorted if qos == "0" else list
            same([f"{topic} {qos} 0 one", f"{topic} {qos} 0 zwei ü"], order(listener.lines()), f"{version}, QoS {qos}")


@case
def lines_of_a_file(tools):
    listener = tools.listener("-t", tools.topic, "-q", "1", "-C", 500, "-F", "%p")
    tools.publish("-t", tools.topic, "-q", "1", "-l", text="".join(f"line {number}\n" for number in range(500)))
    same([f"line {number}" for number in range(500)], listener.lines(), "lines")


@case
def retained(tools):
    tools.publish("-t", f"{tools.topic}/a", "-r", "-q", "1", "-m", "kept")
    same(f"{tools.topic}/a 1 kept\n", tools.run("mosquitto_sub", "-t", f"{tools.topic}/#", "-C", 1, "-F", "%t %r %p"), "retained")
    same("", tools.run("mosquitto_sub", "-t", f"{tools.topic}/#", "-R", "-W", 1, status=27), "without retained ones (-R)")
    # It takes them away, as they say how to clean up.
    tools.run("mosquitto_sub", "-t", f"{tools.topic}/#", "--remove-retained", "-W", 1, status=27)
    same("", tools.run("mosquitto_sub", "-t", f"{tools.topic}/#", "-W", 1, status=27), "removed")


@case
def a_session(tools):
    for version in ("311", "5"):
        name = f"{tools.topic}-{version}"
        more = ["-x", "600"] if version == "5" else []
        tools.run("mosquitto_sub", "-i", name, "-c", *more, "-q", "2", "-t", name, "-E", version=version)
        for number in range(5):
            tools.publish("-t", name, "-q", "2", "-m", number, version=version)
        same("0\n1\n2\n3\n4\n", tools.run("mosquitto_sub", "-i", name, "-c", *more, "-q", "2", "-t", name, "-C", 5, version=version), "what waited")
        tools.run("mosquitto_sub", "-i", name, "-t", name, "-E", version="311")


@case
def a_will(tools):
    listener = tools.listener("-t", f"{tools.topic}/will", "-C", 1)
    doomed = tools.listener("-t", f"{tools.topic}/other", "--will-topic", f"{tools.topic}/will", "--will-payload", "gone", "--will-qos", "1")
    doomed.child.kill()
    doomed.child.wait()
    same(["gone"], listener.lines(), "the will")


@case
def properties(tools):
    listener = tools.listener("-t", tools.topic, "-q", "1", "-C", 1, "-F", "%C %D %R %P %A %E %p")
    tools.publish("-t", tools.topic, "-q", "1", "-m", "x", *"-D publish content-type text/plain -D publish correlation-data here -D publish response-topic back -D publish user-property a b -D publish user-property a c "
                  "-D publish message-expiry-interval 100 -D publish payload-format-indicator 1".split())
    line, = listener.lines()
    same(["text/plain", "here", "back", "a:b", "a:c"], line.split()[:5], line)
    assert line.split()[-2] in ("99", "100") and line.endswith(" x"), line


@case
def request_and_response(tools):
    server = tools.listener("-t", f"{tools.topic}/ask", "-C", 1, "-F", "%R %D")
    asker = subprocess.Popen(tools.command("mosquitto_rr", "-t", f"{tools.topic}/ask", "-e", f"{tools.topic}/answer", "-m", "question", "-D", "publish", "correlation-data", "17"), stdout=subprocess.PIPE, text=True)
    same([f"{tools.topic}/answer 17"], server.lines(), "the response topic and the correlation data")
    tools.publish("-t", f"{tools.topic}/answer", "-m", "answer", "-D", "publish", "correlation-data", "17")
    same("answer\n", asker.communicate(timeout=30)[0], "the answer")


@case
def shared(tools):
    listeners = [tools.listener("-t", f"$share/{tools.topic}/{tools.topic}", "-q", "1", "-C", 1) for _ in range(2)]
    tools.publish("-t", tools.topic, "-q", "1", "-l", text="a\nb\n")
    same(["a", "b"], sorted(line for listener in listeners for line in listener.lines()), "one to each")


@case
def takeover(tools):
    name = f"{tools.topic}-same"
    old = tools.listener("-i", name, "-t", tools.topic)
    new = tools.listener("-i", name, "-t", tools.topic, "-C", 1)
    # Told by a DISCONNECT it ends; without, it comes back by itself, and takes over in its turn.
    until("the old one is told", lambda: old.child.poll() is not None or "sending CONNECT" in old.text().split("received CONNACK", 1)[1] or "received DISCONNECT" in old.text(), 20)
    old.child.kill()
    old.child.wait()
    new.child.kill()
    new.child.wait()


@case
@no_oracle("it closes the connection without a DISCONNECT, and both connect again for ever")
def takeover_ends_who_is_told(tools):
    name = f"{tools.topic}-told"
    old = tools.listener("-i", name, "-t", tools.topic)
    new = tools.listener("-i", name, "-t", tools.topic, "-C", 1)
    same(0, old.child.wait(20), "the status with which it ends")
    assert "Received DISCONNECT (142)" in old.text(), old.text()
    tools.publish("-t", tools.topic, "-q", "1", "-m", "x")
    same(["x"], new.lines(), "for the other")


@case
def by_websocket_nothing_else_listens(tools):
    """A connection to the WebSocket port that speaks plain MQTT is closed, and others go on."""
    if WEBSOCKET:
        host, port = WEBSOCKET.rsplit(":", 1)
        done = subprocess.run([brokers.tool("mosquitto_pub"), "-h", host, "-p", port, "-t", tools.topic, "-m", "x"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0, "it was served"
    tools.publish("-t", tools.topic, "-m", "x")


if __name__ == "__main__":
    main(jobs=3)
