"""The disk is full, read-only, damaged, or somebody else's."""

import os
import struct
import subprocess
import time

from clients import Amqp, Kafka, Mqtt, connect, fetch, pika
from kit import Broker, broker, check, ends_at_once, folder, small_file_system, wait_for

QUOTA_EXCEEDED = 0x97
CORRUPT_MESSAGE = 2
# Records of these fill a small disk in seconds.
LARGE = os.urandom(64 << 10)


def some_of_each(running, kafka, amqp, mqtt, label, count=50):
    """Acknowledged by all protocols; what is there afterwards is judged by `all_there`."""
    check(kafka.produce("kept", [f"{label} {number}".encode() for number in range(count)]) == count, f"Kafka {label}: {kafka.errors[-1:]}")
    for number in range(count):
        check(amqp.publish("work", f"{label} {number}".encode()), f"AMQP {label}: not confirmed")
        reason = mqtt.publish("values/now", f"{label} {number}".encode(), qos=1 + number % 2)
        check(reason == 0, f"MQTT {label}: {reason}")
        running.of_mqtt.append(f"{label} {number}".encode())


def all_there(running, kafka, amqp_bodies):
    """What each protocol acknowledged is there. How many that are."""
    count = kafka.check_kept("kept") + kafka.check_kept("filler")
    amqp = Amqp(running.address("amqp"))
    bodies = amqp.drain("work")
    amqp.close()
    check(bodies == amqp_bodies, f"AMQP: {len(amqp_bodies)} were confirmed, {len(bodies)} are there")
    # It was away since the beginning.
    phone = Mqtt(running.address("mqtt"), "phone", clean=False)
    came = phone.messages(len(running.of_mqtt))
    phone.close()
    check(came == running.of_mqtt, f"MQTT: {len(running.of_mqtt)} were acknowledged, other {len(came)} came")
    return count + len(bodies) + len(came)


def fill(kafka):
    """Produces until nothing is acknowledged any more."""
    deadline = time.monotonic() + 20
    while kafka.produce("filler", [LARGE[:-8] + os.urandom(8) for _ in range(64)]):
        check(time.monotonic() < deadline, "the disk does not fill")


def a_full_disk_refuses_and_goes_on():
    """Filled by Kafka under everybody: each client is told in its protocol's words, nothing acknowledged is lost, and all goes on when
    a topic was deleted; once more, then a restart."""
    figures = []
    with small_file_system(96) as at:
        running = Broker(at, environment={"POLYMQ_LOG": "info"})
        running.of_mqtt = []
        # The log is not on the disk that fills.
        running.log_path = at.parent / "log"
        running.ready = at.parent / "ready.json"
        running.command[running.command.index("--ready-file") + 1] = str(running.ready)
        try:
            running.start()
            kafka = Kafka(running.address("kafka"))
            kafka.create("kept")
            kafka.create("filler")
            amqp = Amqp(running.address("amqp"))
            amqp.channel.queue_declare("work", durable=True)
            phone = Mqtt(running.address("mqtt"), "phone", clean=False)
            phone.subscribe("values/#")
            phone.close()
            mqtt = Mqtt(running.address("mqtt"), "sensor")
            some_of_each(running, kafka, amqp, mqtt, "before")
            fill(kafka)
            check(set(kafka.errors) <= {"KAFKA_STORAGE_ERROR", "_MSG_TIMED_OUT"}, f"Kafka says {set(kafka.errors)}")
            figures.append(f"Kafka: {', '.join(sorted(set(kafka.errors)))}")
            large, told = told_amqp(amqp)
            figures.append(told)
            figures.append(told_mqtt(running, mqtt))
            # Who reads is not concerned, and who commits what it has read has room.
            kafka.check_kept("kept")
            kafka.commit("kept", 7)
            lines = running.log().count("\n")
            kafka.produce("filler", [LARGE] * 8)
            time.sleep(0.5)
            check(running.log().count("\n") - lines < 40, f"a full disk fills the log: {running.log().count(chr(10)) - lines} lines; {running.tail()}")
            check(running.metric('polymq_core_refused_appends_total{reason="disk-full"}') > 0, "no refusals are counted")
            begun = time.monotonic()
            kafka.delete("filler")
            kafka.acknowledged["filler"] = []
            unblocked(amqp)
            count = lambda: amqp.channel.queue_declare("large", passive=True).method.message_count
            wait_for("AMQP: what was published while blocked is kept", lambda: count() == large + 1, 5)
            figures.append(f"on again after {time.monotonic() - begun:.1f} s")
            kafka.create("filler")
            mqtt = Mqtt(running.address("mqtt"), "sensor")
            some_of_each(running, kafka, amqp, mqtt, "between")
            kafka.errors.clear()
            fill(kafka)
            check(kafka.errors, "the second time nobody was told")
            check(len(amqp.blocked) < 8, f"AMQP's publishers are blocked and unblocked all the time: {amqp.blocked}")
            amqp.abort()
            confirmed = list(amqp.acknowledged)
            figures.append(f"stopped full in {running.stop():.1f} s")
            running.start()
            figures.append(f"{all_there(running, Kafka_like(kafka, running), confirmed)} acknowledged are there after a restart")
            again = Kafka(running.address("kafka"))
            again.delete("filler")
            wait_for("the disk takes something after the restart", lambda: again.produce("kept", [b"after"]), 10)
            running.check_sound()
            running.stop()
        finally:
            running.kill()
    return "; ".join(figures)


def Kafka_like(kafka, running):
    other = Kafka(running.address("kafka"))
    other.acknowledged = kafka.acknowledged
    return other


def told_amqp(amqp):
    """Who finds the disk full gets a nack; who publishes then is blocked, and its message waits for room, also without confirms."""
    amqp.channel.queue_declare("large", durable=True)
    kept, amqp.acknowledged = amqp.acknowledged, []
    # Where its queue lies, what is begun may have room for some.
    nacked = any(not amqp.publish("large", LARGE) for _ in range(400))
    check(nacked, "AMQP: no nack")
    large, amqp.acknowledged = len(amqp.acknowledged), kept
    amqp.connection.channel().basic_publish("", "large", b"held", pika.BasicProperties(delivery_mode=2))
    wait_for("AMQP: connection.blocked", lambda: amqp.connection.process_data_events(0.1) or amqp.blocked, 5)
    check("disk" in (amqp.blocked[-1] or ""), f"AMQP: {amqp.blocked}")
    return large, f"AMQP: nack, blocked ({amqp.blocked[-1]})"


def unblocked(amqp):
    deadline = time.monotonic() + 10
    while amqp.blocked[-1] is not None:
        check(time.monotonic() < deadline, "AMQP: no connection.unblocked")
        amqp.connection.process_data_events(0.1)


def told_mqtt(running, mqtt):
    """Version 5 by the reason of the answer; 3.1.1 has no words for it, and its connection ends."""
    reasons = []
    for qos in (1, 2):
        # The last pack may have room for something small.
        reason = next((reason for reason in (mqtt.publish("values/now/large", LARGE, qos) for _ in range(400)) if reason), None)
        check(reason == QUOTA_EXCEEDED, f"MQTT 5, QoS {qos}: {reason and hex(reason)}")
        reasons.append(hex(reason))
    old = Mqtt(running.address("mqtt"), "old", version=4)
    answer = old.publish("values/now/large", LARGE)
    check(answer is None, f"MQTT 3.1.1: {answer}")
    return f"MQTT 5: {', '.join(reasons)}; 3.1.1: closed"


def a_disk_that_somebody_else_filled():
    """To the last block: a broker that is killed and started again there serves what it has, and writes when there is room."""
    with small_file_system(64) as at:
        with folder() as beside:
            running = Broker(beside, data=at / "data")
            try:
                running.start()
                kafka = Kafka(running.address("kafka"))
                kafka.produce("kept", [b"%d" % number for number in range(100)])
                with open(at / "ballast", "wb") as ballast:
                    try:
                        while True:
                            ballast.write(b"\0" * (1 << 16))
                            ballast.flush()
                    except OSError:
                        pass
                running.kill()
                running.launch()
                ready = wait_for("the broker is ready or ends", lambda: running.ready.exists() or running.child.poll() is not None, 20)
                check(ready and running.child.poll() is None, f"it does not start on a full disk; {running.tail()}")
                Kafka_like(kafka, running).check_kept("kept")
                (at / "ballast").unlink()
                other = Kafka_like(kafka, running)
                wait_for("it writes when there is room", lambda: other.produce("kept", [b"again"]), 15)
                other.check_kept("kept")
                running.stop()
            finally:
                running.kill()
    return "starts, serves and goes on"


def a_directory_that_cannot_be_used():
    """Of somebody else, read-only, a file, or in use by another broker: said, with its name, and nothing is begun."""
    with small_file_system(32) as at, folder() as beside:
        with broker(beside) as running:
            running.check_sound()
            said = refused(running.data)
            check("in use by another process" in said, f"in use: {said}")
            running.check_sound()
        (beside / "file").write_text("")
        said = refused(beside / "file")
        check("file" in said, f"a file: {said}")
        subprocess.run(["mount", "-o", "remount,ro", at], check=True)
        said = refused(at / "data")
        check("Read-only" in said, f"read-only: {said}")
        # Root may everything.
        (beside / "others").mkdir(mode=0o700)
        os.chown(beside, 0, 0)
        os.chmod(beside, 0o755)
        said = refused(beside / "others" / "data", prefix=["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]) if os.geteuid() == 0 else "Permission denied"
        check("Permission denied" in said and "others" in said, f"not allowed: {said}")
    return "in use, a file, read-only, not allowed"


def refused(data, prefix=()):
    status, said = ends_at_once(["polymq", "serve", "--data", data, "--core-listen", "127.0.0.1:0", "--gateways", "mqtt",
                                 "--mqtt-listen", "127.0.0.1:0", "--mqtt-listen-websocket", "none", "--admin-listen", "127.0.0.1:0"], prefix)
    check(status == 1 and str(data) in said and len(said.splitlines()) < 5, f"status {status}: {said}")
    return said


def a_damaged_pack():
    """A byte of a sealed pack has changed while the broker was stopped: it starts, who reads the batch is told, all else is there."""
    with folder() as at:
        with broker(at, "--core-shards", "1") as running:
            kafka = Kafka(running.address("kafka"))
            values = [b"%06d " % number + LARGE[:20_000] for number in range(1200)]
            for begin in range(0, len(values), 100):
                kafka.produce("log", values[begin:begin + 100])
            check(len(kafka.acknowledged["log"]) == len(values), "not all was acknowledged")
            running.stop()
            packs = sorted((running.data / "shard-0000").glob("*.log"))
            check(len(packs) > 2, f"packs: {[pack.name for pack in packs]}")
            with open(packs[1], "r+b") as pack:
                pack.seek(packs[1].stat().st_size // 2)
                byte = pack.read(1)
                pack.seek(-1, 1)
                pack.write(bytes([byte[0] ^ 0x40]))
            running.start()
            there, corrupt = read_around(running, "log", len(values))
            check(0 < len(corrupt) < 120, f"corrupt: {len(corrupt)} of {len(values)}")
            missing = [number for number in range(len(values)) if number not in there and number not in corrupt]
            check(not missing, f"also gone: {missing[:5]}")
            check("corrupt" in running.log().lower() or "damaged" in running.log().lower(), "nothing is said of it")
            kafka = Kafka(running.address("kafka"))
            check(kafka.produce("log", [b"more"]) == 1, f"no more is taken: {kafka.errors}")
            running.stop()
    return f"{len(corrupt)} of {len(values)} records could not be read, the rest could"


def read_around(running, topic, count):
    """(offsets of what can be read with its values' beginnings, offsets that are refused as corrupt): batch by batch, since a client
    would try one that is corrupt again and again."""
    there, corrupt, at = {}, set(), 0
    peer = connect(running, "kafka")
    while at < count:
        error, records = fetch_raw(peer, topic.encode(), at)
        check(error in (0, CORRUPT_MESSAGE), f"offset {at}: error {error}")
        if error:
            corrupt.add(at)
            at += 1
            continue
        check(records, f"offset {at}: nothing")
        first = at
        while records:
            base, length = struct.unpack(">qi", records[:12])
            if len(records) < 12 + length:
                break
            last = base + struct.unpack(">i", records[23:27])[0]
            batch, records = records[:12 + length], records[12 + length:]
            for offset in range(max(base, first), last + 1):
                check(b"%06d " % offset in batch, f"offset {offset}: not what was written")
                there[offset] = True
            at = last + 1
        check(at > first, f"offset {first}: no whole batch")
    peer.close()
    return there, corrupt


def fetch_raw(peer, topic, offset):
    """(error code, bytes of batches) of a Fetch of one partition."""
    peer.sendall(fetch(1, topic, 4 << 20, offset))
    length = struct.unpack(">i", exactly(peer, 4))[0]
    answer = exactly(peer, length)
    at = 4 + 4 + 4 + 2 + len(topic) + 4 + 4
    error, _, _, aborted = struct.unpack(">hqqi", answer[at:at + 22])
    at += 22 + 16 * max(aborted, 0)
    size = struct.unpack(">i", answer[at:at + 4])[0]
    return error, answer[at + 4:at + 4 + max(size, 0)]


def exactly(peer, count):
    read = b""
    while len(read) < count:
        more = peer.recv(count - len(read))
        check(more, "the connection ended")
        read += more
    return read


CASES = [a_full_disk_refuses_and_goes_on, a_disk_that_somebody_else_filled, a_directory_that_cannot_be_used, a_damaged_pack]
