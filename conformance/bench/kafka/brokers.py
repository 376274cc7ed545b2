"""The two brokers: how each is started on a fresh data directory, and how it is ended."""
import os
import shutil
import subprocess
import time

from conformance.bench.kafka import wire
from conformance.shared import process
from conformance.shared.broker import free_port

READY_SECONDS_MAX = 120
HEAP = "1g"

# What kafka-server-start.sh passes by default.
JVM_FLAGS = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
             "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]


class Broker:
    """One process on a fresh directory. `start` returns the seconds from its start to its first acknowledged record."""

    name = ""
    durabilities = {}  # what a durability is called here -> the topic configuration that gives it

    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "data")
        self.log = os.path.join(folder, "broker.log")
        self.address = ""
        self.child = None

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.data)
        self.prepare()
        with open(self.log, "ab") as log:
            started = time.monotonic()
            self.child = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return wire.first_produce_seconds(self.address, started, lambda: self.child.poll() is None, READY_SECONDS_MAX)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log_tail()}") from error

    def stop(self):
        """Ends the process and deletes what it wrote. As nothing of it is wanted any more, it gets no time to tidy up."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_alive(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with status {self.child.returncode}\n{self.log_tail()}")

    def log_tail(self, bytes_max=4000):
        with open(self.log, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log) - bytes_max))
            return log.read().decode(errors="replace")

    def memory_bytes(self, key="VmRSS"):
        return process.memory_bytes(self.child.pid, key)

    def prepare(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError


class ApacheKafka(Broker):
    """KRaft, broker and controller in one process, with the settings of the distribution's own server.properties."""

    name = "apache"
    durabilities = {"page cache": {}, "fsync": {"flush.messages": "1"}}
    default = "page cache"

    def __init__(self, folder, jars):
        super().__init__(folder)
        self.jars = jars
        self.settings = os.path.join(folder, "server.properties")

    def java(self, *arguments, flags=()):
        return ["java", *flags, f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties", "-cp", f"{self.jars}/*", *arguments]

    def prepare(self):
        port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        settings = {
            "process.roles": "broker,controller", "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "inter.broker.listener.name": "PLAINTEXT", "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "num.network.threads": 3, "num.io.threads": 8, "socket.send.buffer.bytes": 102400,
            "socket.receive.buffer.bytes": 102400, "socket.request.max.bytes": 104857600, "log.dirs": self.data,
            "num.partitions": 1, "num.recovery.threads.per.data.dir": 1, "offsets.topic.replication.factor": 1,
            "share.coordinator.state.topic.replication.factor": 1, "share.coordinator.state.topic.min.isr": 1,
            "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
            "log.retention.hours": 168, "log.segment.bytes": 1073741824, "log.retention.check.interval.ms": 300000,
        }
        with open(self.settings, "w", encoding="utf-8") as file:
            file.writelines(f"{key}={value}\n" for key, value in settings.items())
        with open(os.path.join(self.folder, "log4j2.properties"), "w", encoding="utf-8") as file:
            file.write("status = error\nappender.out.type = Console\nappender.out.name = out\n"
                       "appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d %p %c{1}: %m%n\n"
                       "rootLogger.level = warn\nrootLogger.appenderRef.out.ref = out\n")
        done = subprocess.run(
            self.java("kafka.tools.StorageTool", "format", "--standalone", "--feature", "share.version=1", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", self.settings),
            capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"formatting the storage failed:\n{done.stdout}{done.stderr}")

    def command(self):
        return self.java("kafka.Kafka", self.settings, flags=[f"-Xms{HEAP}", f"-Xmx{HEAP}", *JVM_FLAGS])


class PolyMQ(Broker):
    """`polymq serve`: core and gateway in one process."""

    name = "polymq"
    durabilities = {"fsync": {}, "page cache": {"polymq.durability": "relaxed"}}
    default = "fsync"

    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary = binary
        self.ready = os.path.join(folder, "ready.json")

    def prepare(self):
        self.address = f"127.0.0.1:{free_port()}"

    def command(self):
        return [self.binary, "serve", "--gateways", "kafka", "--data", self.data, "--kafka-listen", self.address,
                "--core-listen", "127.0.0.1:0", "--ready-file", self.ready]
