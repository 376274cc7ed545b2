"""Kafka Connect, distributed: a file source and a file sink, and three internal topics; the worker is killed in between."""

import json
import os
import time
import urllib.error
import urllib.request

import processes as kit


def call(port, method, path, body=None):
    """The answer of the worker's REST interface, or None while it is not to be had."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=body and json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def running(port, name):
    status = call(port, "GET", f"/connectors/{name}/status")
    if not status or status["connector"]["state"] != "RUNNING" or not status["tasks"]:
        return False
    failed = [task.get("trace", "")[:500] for task in status["tasks"] if task["state"] == "FAILED"]
    assert not failed, f"a task of {name} failed: {failed}"
    return all(task["state"] == "RUNNING" for task in status["tasks"])


def file_to_file(bootstrap):
    name = kit.unique("connect")
    topics = {"config": 1, "offset": 25, "status": 5}
    with kit.Folder() as folder:
        port, source, sink = kit.free_port(), os.path.join(folder, "source.txt"), os.path.join(folder, "sink.txt")
        settings = {
            "bootstrap.servers": bootstrap, "group.id": name, "listeners": f"http://127.0.0.1:{port}",
            "config.storage.topic": f"{name}-config", "offset.storage.topic": f"{name}-offset", "status.storage.topic": f"{name}-status",
            "config.storage.replication.factor": 1, "offset.storage.replication.factor": 1, "status.storage.replication.factor": 1,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "offset.flush.interval.ms": 500, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "scheduled.rebalance.max.delay.ms": 0,
            # Exactly once for sources, so that a killed worker doubles nothing.
            "exactly.once.source.support": "enabled",
        }
        properties = os.path.join(folder, "worker.properties")
        with open(properties, "w", encoding="utf-8") as file:
            file.writelines(f"{key}={value}\n" for key, value in settings.items())

        def worker(number):
            started = kit.Java(f"connect{number}", folder, "org.apache.kafka.connect.cli.ConnectDistributed", properties, heap="384m")
            kit.until("the worker answers", lambda: call(port, "GET", "/connectors") is not None, alive=[started])
            return started

        def lines():
            if not os.path.exists(sink):
                return []
            with open(sink, encoding="utf-8") as file:
                return file.read().split("\n")[:-1]

        def write(first, count):
            with open(source, "a", encoding="utf-8") as file:
                file.writelines(f"line {number} of the file\n" for number in range(first, first + count))

        topic = f"{name}-lines"
        kit.make_topic(bootstrap, topic, 1)
        write(0, 1000)
        with worker(0) as first:
            for kind, config in (("source", {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": source, "topic": topic,
                                             "transaction.boundary": "poll"}),
                                 ("sink", {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "file": sink, "topics": topic,
                                           "consumer.override.isolation.level": "read_committed"})):
                kit.until(f"the {kind} is taken", lambda kind=kind, config=config: call(port, "PUT", f"/connectors/{name}-{kind}/config", {"tasks.max": "1", **config}),
                          alive=[first])
                kit.until(f"the {kind} runs", lambda kind=kind: running(port, f"{name}-{kind}"), alive=[first])
            kit.until("the first lines arrive", lambda: len(lines()) >= 1000, alive=[first])
            # Told to the group's coordinator by then, so that the sink need not write them again.
            time.sleep(1)
            first.kill()
        write(1000, 1000)
        with worker(1) as second:
            kit.until("the connectors go on", lambda: running(port, f"{name}-source") and running(port, f"{name}-sink"), alive=[second])
            kit.until("the rest arrives", lambda: len(lines()) >= 2000, alive=[second])
            second.stop()
        wanted = [f"line {number} of the file" for number in range(2000)]
        assert lines() == wanted, f"the sink has {len(lines())} lines, the source {len(wanted)}"
        assert [message.value().decode() for message in kit.read_to_end(bootstrap, topic)] == wanted, "the topic differs from the file"
        for kind, partitions in topics.items():
            config = kit.topic_config(bootstrap, f"{name}-{kind}")
            assert config["cleanup.policy"] == "compact", f"{name}-{kind} has cleanup.policy={config['cleanup.policy']}"
            found = len(kit.admin(bootstrap).list_topics(timeout=10).topics[f"{name}-{kind}"].partitions)
            assert found == partitions, f"{name}-{kind} has {found} partitions"
