// amqplib and rabbitmq-client against a broker: `main.js ADDRESS[,ADDRESS] [CASE...]`. Prints `ok CASE MILLIS` or `FAIL CASE reason`.
"use strict";
const amqplib = require("amqplib");
const rabbit = require("rabbitmq-client");
const crypto = require("crypto");

const [addresses, ...wanted] = process.argv.slice(2);
const url = `amqp://guest:guest@${addresses.split(",")[0]}`;
const DEADLINE_MS = 30000;
const unique = (kind) => `node-${kind}-${crypto.randomBytes(4).toString("hex")}`;

function same(expected, got, what) {
  if (JSON.stringify(expected) !== JSON.stringify(got)) throw new Error(`${what}: wanted ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);
}

/** Gathers a consumer's messages; `take(n)` waits until there are so many. */
async function consume(channel, queue, options = {}) {
  const messages = [];
  let wake = () => {};
  await channel.consume(queue, (message) => { messages.push(message); wake(); }, options);
  const take = async (count) => {
    const end = Date.now() + DEADLINE_MS;
    while (messages.length < count) {
      if (Date.now() > end) throw new Error(`${messages.length} of ${count} messages`);
      await new Promise((resolve) => { wake = resolve; setTimeout(resolve, 100); });
    }
    return messages;
  };
  return { messages, take };
}

async function withChannel(work, kind = "createChannel") {
  const connection = await amqplib.connect(url);
  connection.on("error", () => {});
  try {
    const channel = await connection[kind]();
    channel.on("error", () => {});
    await work(channel, connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

async function refused(connection, code, action) {
  const channel = await connection.createChannel();
  const told = new Promise((resolve) => channel.on("error", resolve));
  try {
    await action(channel);
  } catch (error) {
    same(code, error.code, "code");
    return;
  }
  same(code, (await told).code, "code that is told");
}

const cases = {
  publish_and_consume: () => withChannel(async (channel) => {
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const consumer = await consume(channel, queue, { noAck: true });
    for (let i = 0; i < 1000; i++) channel.sendToQueue(queue, Buffer.from(String(i)));
    same(Array.from({ length: 1000 }, (_, i) => String(i)), (await consumer.take(1000)).map((message) => message.content.toString()), "bodies");
  }),
  confirms: () => withChannel(async (channel) => {
    const { queue } = await channel.assertQueue(unique("queue"), { durable: true });
    for (let i = 0; i < 2000; i++) channel.publish("", queue, Buffer.from(String(i)), { persistent: true });
    await channel.waitForConfirms();
    same(2000, (await channel.checkQueue(queue)).messageCount, "messages");
    await channel.deleteQueue(queue);
  }, "createConfirmChannel"),
  headers_and_properties: () => withChannel(async (channel) => {
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const headers = { text: "ünï", int: 7, large: 2 ** 40, float: 1.5, bool: true, null: null, list: [1, "two", { three: 3 }], table: { deep: { deeper: "x" } } };
    channel.sendToQueue(queue, Buffer.from("x"), { headers, contentType: "a/b", correlationId: "c", replyTo: "r", expiration: "60000", messageId: "m", timestamp: 1700000000, type: "t", userId: "guest", appId: "a", priority: 3, deliveryMode: 2 });
    const [message] = await (await consume(channel, queue, { noAck: true })).take(1);
    same(headers, message.properties.headers, "headers");
    same(["a/b", "c", "r", "60000", "m", 1700000000, "t", "guest", "a", 3, 2], ["contentType", "correlationId", "replyTo", "expiration", "messageId", "timestamp", "type", "userId", "appId", "priority", "deliveryMode"].map((name) => message.properties[name]), "properties");
  }),
  acknowledge_and_requeue: () => withChannel(async (channel) => {
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.prefetch(1);
    for (const body of "ab") channel.sendToQueue(queue, Buffer.from(body));
    const consumer = await consume(channel, queue);
    const [first] = await consumer.take(1);
    channel.nack(first, false, true);
    const again = (await consumer.take(2))[1];
    same(["a", true], [again.content.toString(), again.fields.redelivered], "again");
    channel.ack(again);
    channel.ack((await consumer.take(3))[2]);
  }),
  dead_letters: () => withChannel(async (channel) => {
    const dead = (await channel.assertQueue("", { exclusive: true })).queue;
    const { queue } = await channel.assertQueue("", { exclusive: true, messageTtl: 100, deadLetterExchange: "", deadLetterRoutingKey: dead });
    channel.sendToQueue(queue, Buffer.from("x"));
    const [message] = await (await consume(channel, dead, { noAck: true })).take(1);
    const [death] = message.properties.headers["x-death"];
    same(["expired", queue, 1], [death.reason, death.queue, death.count], "x-death");
  }),
  returns: () => withChannel(async (channel) => {
    const returned = new Promise((resolve) => channel.on("return", resolve));
    channel.publish("amq.direct", unique("key"), Buffer.from("x"), { mandatory: true });
    same(312, (await returned).fields.replyCode, "code");
  }),
  errors: () => withChannel(async (channel, connection) => {
    await refused(connection, 404, (other) => other.checkQueue("no-such-queue"));
    await refused(connection, 404, (other) => other.publish("no-such-exchange", "", Buffer.from("x")));
    await refused(connection, 403, (other) => other.assertExchange("amq.mine", "direct"));
    const queue = unique("queue");
    await channel.assertQueue(queue, { exclusive: true, durable: false });
    await refused(connection, 406, (other) => other.assertQueue(queue, { exclusive: true, autoDelete: true }));
  }),
  rpc: () => withChannel(async (channel) => {
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.consume(queue, (message) => channel.publish("", message.properties.replyTo, Buffer.from(message.content.toString().toUpperCase()), { correlationId: message.properties.correlationId }), { noAck: true });
    const replies = await consume(channel, "amq.rabbitmq.reply-to", { noAck: true });
    channel.sendToQueue(queue, Buffer.from("ask"), { replyTo: "amq.rabbitmq.reply-to", correlationId: "7" });
    const [reply] = await replies.take(1);
    same(["ASK", "7"], [reply.content.toString(), reply.properties.correlationId], "reply");
  }),
  cancel_is_told: () => withChannel(async (channel, connection) => {
    const queue = unique("queue");
    await channel.assertQueue(queue, { durable: false });
    const consumer = await consume(channel, queue);
    await (await connection.createChannel()).deleteQueue(queue);
    same([null], await consumer.take(1), "the end is told as null");
  }),
  rabbitmq_client: async () => {
    const connection = new rabbit.Connection({ url, retryLow: 100 });
    try {
      const queue = unique("queue");
      const got = [];
      let done;
      const finished = new Promise((resolve) => { done = resolve; });
      const consumer = connection.createConsumer({ queue, queueOptions: { durable: false, autoDelete: true }, qos: { prefetchCount: 10 } }, async (message) => {
        if (got.push(message.body) === 200) done();
      });
      await new Promise((resolve) => consumer.on("ready", resolve));
      const publisher = connection.createPublisher({ confirm: true, maxAttempts: 2 });
      for (let i = 0; i < 200; i++) await publisher.send(queue, { number: i });
      await finished;
      same(Array.from({ length: 200 }, (_, i) => i), got.map((body) => body.number), "bodies");
      await publisher.close();
      await consumer.close();
      const client = connection.createRPCClient({ confirm: true });
      const server = connection.createConsumer({ queue: queue + "-rpc", queueOptions: { exclusive: true } }, async (message, reply) => { await reply("pong " + message.body); });
      await new Promise((resolve) => server.on("ready", resolve));
      same("pong ping", (await client.send(queue + "-rpc", "ping")).body, "answer");
      await client.close();
      await server.close();
    } finally {
      await connection.close();
    }
  },
};

(async () => {
  let failed = false;
  for (const [name, run] of Object.entries(cases)) {
    if (wanted.length && !wanted.includes(name)) continue;
    const start = Date.now();
    let timer;
    try {
      await Promise.race([run(), new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("stuck")), 2 * DEADLINE_MS); })]);
      console.log(`ok ${name} ${Date.now() - start}`);
    } catch (error) {
      failed = true;
      console.log(`FAIL ${name} ${String(error.message || error).replace(/\s+/g, " ")}`);
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failed ? 1 : 0);
})();
