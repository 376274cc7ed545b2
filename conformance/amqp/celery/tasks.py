"""The application that celery/run.py starts a worker for. Its broker is AMQP_URL; results go through the broker too (rpc://)."""

import os
import time

import celery
from kombu import Exchange, Queue

app = celery.Celery("conformance", broker=os.environ["AMQP_URL"], backend="rpc://")
name = os.environ["CELERY_QUEUE"]
app.conf.update(
    task_default_queue=name, task_queues=[Queue(name, Exchange(name), routing_key=name, queue_arguments={"x-max-priority": 9})], task_default_exchange=name, task_default_routing_key=name,
    task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, result_expires=600, broker_transport_options={"confirm_publish": True}, worker_hijack_root_logger=False,
)
journal = os.environ["CELERY_JOURNAL"]


@app.task
def add(left, right):
    return left + right


@app.task(bind=True, max_retries=3)
def fails_twice(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.2, exc=ValueError("not yet"))
    return self.request.retries


@app.task
def note(text, seconds=0):
    """Writes a line to the journal, by which the order shows."""
    time.sleep(seconds)
    with open(journal, "a", encoding="utf-8") as file:
        file.write(text + "\n")
    return time.time()


@app.task
def breaks():
    raise RuntimeError("as it should")
