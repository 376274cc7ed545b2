"""The least of Kafka's protocol that shows a broker to be up: make a topic, write one record to it with acks=all.

Used to time a start. A real client cannot: its own start and its reconnect pauses would be in the number.
Layouts: https://kafka.apache.org/protocol (CreateTopics v4, Metadata v4, Produce v8; none has tagged fields).
"""
import socket
import struct
import time

TOPIC = "first"
_CREATE_TOPICS, _METADATA, _PRODUCE = 19, 3, 0
_TOPIC_ALREADY_EXISTS = 36


def first_produce_seconds(address, started, alive, seconds_max=120, pause=0.001):
    """Seconds from `started` (time.monotonic()) until a broker at `address` has acknowledged a record.

    Asks again after `pause` seconds until it works; gives up when `alive()` is false or after `seconds_max`.
    """
    host, port = address.rsplit(":", 1)
    last = "it never listened"
    while time.monotonic() - started < seconds_max:
        if not alive():
            raise RuntimeError(f"the broker ended before it took a record: {last}")
        try:
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = _create_topic(connection)
                while code in (0, _TOPIC_ALREADY_EXISTS):
                    code = _leader_error(connection) or _produce(connection)
                    if code == 0:
                        return time.monotonic() - started
                    last = f"error code {code}"
                    code = 0
                    time.sleep(pause)
                    if not alive() or time.monotonic() - started > seconds_max:
                        break
                else:
                    last = f"CreateTopics: error code {code}"
        except (OSError, struct.error) as error:
            last = str(error)
        time.sleep(pause)
    raise RuntimeError(f"no record was taken in {seconds_max} seconds: {last}")


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _call(connection, key, version, body):
    """Sends one request, returns the answer's body."""
    message = struct.pack(">hhi", key, version, 1) + _string("start-time") + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    size = struct.unpack(">i", _exactly(connection, 4))[0]
    return _exactly(connection, size)[4:]


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("the broker closed the connection")
        data += more
    return data


def _create_topic(connection):
    # [name partitions:i32 replication:i16 [assignments] [configs]] timeout_ms:i32 validate_only:i8
    body = struct.pack(">i", 1) + _string(TOPIC) + struct.pack(">ihii", 1, 1, 0, 0) + struct.pack(">ib", 10000, 0)
    answer = _call(connection, _CREATE_TOPICS, 4, body)
    # throttle:i32 [name error:i16 message]
    at = 8
    length = struct.unpack_from(">h", answer, at)[0]
    return struct.unpack_from(">h", answer, at + 2 + length)[0]


def _leader_error(connection):
    """0 when the partition has a leader that can be written to."""
    answer = _call(connection, _METADATA, 4, struct.pack(">i", 1) + _string(TOPIC) + b"\0")
    # throttle [node:i32 host port:i32 rack] cluster_id controller:i32 [error name internal [error index leader ...]]
    at = 4
    brokers, at = struct.unpack_from(">i", answer, at)[0], at + 4
    for _ in range(brokers):
        at += 4
        at = _skip_string(answer, at) + 4
        at = _skip_string(answer, at)
    at = _skip_string(answer, at) + 4 + 4
    topic_error = struct.unpack_from(">h", answer, at)[0]
    at = _skip_string(answer, at + 2) + 1
    partitions = struct.unpack_from(">i", answer, at)[0]
    if topic_error or partitions == 0:
        return topic_error or -1
    return struct.unpack_from(">h", answer, at + 4)[0]


def _skip_string(data, at):
    return at + 2 + max(0, struct.unpack_from(">h", data, at)[0])


def _produce(connection):
    batch = _record_batch(b"hello")
    # transactional_id acks:i16 timeout_ms:i32 [topic [partition:i32 records]]
    body = struct.pack(">hhi", -1, -1, 10000) + struct.pack(">i", 1) + _string(TOPIC)
    body += struct.pack(">iii", 1, 0, len(batch)) + batch
    answer = _call(connection, _PRODUCE, 8, body)
    # [topic [partition:i32 error:i16 ...]]
    at = _skip_string(answer, 4) + 4
    return struct.unpack_from(">h", answer, at + 4)[0]


def _record_batch(value):
    """A batch of one record. All its varints are below 64, so that each is one byte, doubled (zigzag)."""
    # attributes timestamp_delta offset_delta key_length(-1) value_length value headers
    record = bytes([0, 0, 0, 1, len(value) * 2]) + value + b"\0"
    record = bytes([len(record) * 2]) + record
    now = int(time.time() * 1000)
    # attributes:i16 last_offset_delta:i32 base_time:i64 max_time:i64 producer:i64 epoch:i16 sequence:i32 count:i32
    checked = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    # base_offset:i64 length:i32 leader_epoch:i32 magic:i8 crc:u32
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, _crc32c(checked)) + checked


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF
