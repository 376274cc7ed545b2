#!/usr/bin/env python3
"""broker.py rabbitmq|all-in-one|split COMMAND...: a broker at 5672, its HTTP API at 15672, while the command runs.

The Java client's tests take those ports for granted, and ask for `rabbitmqctl`; the one beside this file works by what is set here:
CONTROL, a Unix socket that takes `stop_app` and `start_app` and answers `ok` or the error; for RabbitMQ itself REAL_RABBITMQCTL.
"""

import os
import pathlib
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
os.environ["MANAGEMENT_PORT"] = "15672"

import brokers  # noqa: E402


def control(broker, listener):
    """Stops the broker in order, and starts it on the same data, as it is asked."""
    while True:
        asked, _ = listener.accept()
        with asked:
            word = asked.recv(100).decode().strip()
            try:
                if word == "stop_app":
                    for part in reversed(broker.parts):
                        child = broker.children.pop(part)
                        child.terminate()
                        child.wait(brokers.DRAIN_SECONDS_MAX)
                elif word == "start_app":
                    broker.start()
                else:
                    raise ValueError(f"no command {word!r}")
                asked.sendall(b"ok")
            except Exception as error:  # whoever asked is told
                asked.sendall(str(error).encode())


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    broker = brokers.make(sys.argv[1], brokers.default_binaries())
    broker.addresses[0] = "127.0.0.1:5672"
    environment = {**os.environ, "CONTROL": str(broker.folder / "control")}
    if sys.argv[1] == "rabbitmq":
        of_erlang = broker.erlang_environment()
        # The cookie lies in RabbitMQ's own home; compilers and their caches in that of whoever runs this.
        environment.update({**of_erlang, "HOME": os.environ["HOME"]}, RABBITMQ_HOME=of_erlang["HOME"], REAL_RABBITMQCTL=str(broker.script("rabbitmqctl")))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(environment["CONTROL"])
    listener.listen()
    try:
        broker.start()
        threading.Thread(target=control, args=(broker, listener), daemon=True).start()
        status = subprocess.run(sys.argv[2:], check=False, env=environment).returncode
        if reason := broker.ended():
            sys.exit(reason)
    finally:
        broker.discard()
    sys.exit(status)


if __name__ == "__main__":
    main()
