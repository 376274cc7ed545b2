// kafkajs against a broker: `node main.js BOOTSTRAP [CASE...]`.
//
// Prints one line per case: `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`; exits 1 if any failed.
'use strict'

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { Kafka, logLevel, CompressionTypes, CompressionCodecs, ConfigResourceTypes, AssignerProtocol } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@mongodb-js/zstd')

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zstd.compress(encoder.buffer, 3),
  decompress: async buffer => zstd.decompress(buffer),
})

const DEADLINE_MS = 60_000
const unique = kind => `kafkajs-${kind}-${crypto.randomBytes(4).toString('hex')}`
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until(what, holds) {
  const end = Date.now() + DEADLINE_MS
  while (!(await holds())) {
    assert(Date.now() < end, `not within ${DEADLINE_MS / 1000} s: ${what}`)
    await sleep(20)
  }
}

// What one case works with; it disconnects at the end whatever was connected.
class Kit {
  constructor(bootstrap) {
    // Failed requests must not hide behind half a minute of retries.
    this.kafka = new Kafka({ clientId: 'conformance', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 8 } })
    this.opened = []
  }

  async connect(client) {
    await client.connect()
    this.opened.push(client)
    return client
  }

  admin() { return this.connect(this.kafka.admin({ retry: { retries: 3 } })) }
  producer(options) { return this.connect(this.kafka.producer({ allowAutoTopicCreation: true, ...options })) }

  async topic(numPartitions, config = {}) {
    const topic = unique('topic')
    const admin = await this.admin()
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }], waitForLeaders: false })
    // Led, not only known: asking for offsets says so.
    await until(`${topic} has leaders`, () => admin.fetchTopicOffsets(topic).then(offsets => offsets.length === numPartitions, () => false))
    return topic
  }

  // A consumer that is running: what it read, what it owns. Close it with leave().
  async consume(topic, { groupId = unique('group'), fromBeginning = true, each, autoCommit = true, ...options } = {}) {
    const consumer = this.kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 300, ...options })
    const member = { consumer, records: [], owned: new Set(), joins: 0 }
    consumer.on(consumer.events.GROUP_JOIN, event => {
      member.joins++
      member.owned = new Set(event.payload.memberAssignment[topic] || [])
    })
    consumer.on(consumer.events.CRASH, event => { member.crash = event.payload.error })
    await this.connect(consumer)
    await consumer.subscribe({ topic, fromBeginning })
    await consumer.run({
      autoCommit,
      autoCommitInterval: 200,
      eachMessage: async ({ partition, message }) => {
        member.records.push({ partition, ...message })
        if (each) await each(consumer, partition, message)
      },
    })
    member.leave = async () => {
      this.opened = this.opened.filter(client => client !== consumer)
      await consumer.disconnect()
      member.owned = new Set()
    }
    return member
  }

  async readAll(topic, count, options) {
    const member = await this.consume(topic, options)
    await until(`${count} records are read`, () => member.records.length >= count)
    await member.leave()
    return member.records
  }

  async close() {
    for (const client of this.opened.reverse()) await client.disconnect().catch(() => {})
  }
}

const numbered = (prefix, count) => Array.from({ length: count }, (_, i) => ({ key: `k${i}`, value: `${prefix}${i}`, partition: 0 }))
const texts = records => records.map(record => record.value.toString())

async function fails(type, what, promise) {
  const error = await promise.then(() => null, error => error)
  assert(error, `${what}: wanted ${type}, but it succeeded`)
  const kinds = [error, error.cause, ...(error.errors || [])].filter(Boolean).map(each => each.type)
  assert(kinds.includes(type), `${what}: wanted ${type}, got ${error.type || ''} ${error.message}`)
}

const cases = {
  async produce_consume(kit) {
    const topic = await kit.topic(3)
    const producer = await kit.producer()
    for (let partition = 0; partition < 3; partition++) {
      const messages = numbered(`p${partition}-`, 30).map(message => ({ ...message, partition, timestamp: '1700000000000' }))
      const answer = await producer.send({ topic, messages })
      assert.deepEqual([answer[0].partition, answer[0].baseOffset], [partition, '0'])
    }
    const next = [0, 0, 0]
    for (const record of await kit.readAll(topic, 90)) {
      const offset = next[record.partition]++
      assert.equal(record.offset, String(offset))
      assert.equal(record.key.toString(), `k${offset}`)
      assert.equal(record.value.toString(), `p${record.partition}-${offset}`)
      assert.equal(record.timestamp, '1700000000000')
    }
  },

  async auto_create(kit) {
    const topic = unique('auto')
    const producer = await kit.producer()
    await producer.send({ topic, messages: [{ value: 'v', partition: 0 }] })
    assert.deepEqual(texts(await kit.readAll(topic, 1)), ['v'])
  },

  async idempotent_produce(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer({ idempotent: true, maxInFlightRequests: 1 })
    for (let i = 0; i < 20; i++) await producer.send({ topic, messages: numbered(`v${i}-`, 50) })
    const records = await kit.readAll(topic, 1_000)
    records.forEach((record, i) => assert.equal(record.value.toString(), `v${Math.floor(i / 50)}-${i % 50}`))
  },

  async acks(kit) {
    for (const acks of [0, 1, -1]) {
      const topic = await kit.topic(1)
      const producer = await kit.producer()
      await producer.send({ topic, acks, messages: numbered('v', 50) })
      assert.equal(texts(await kit.readAll(topic, 50))[49], 'v49')
    }
  },

  async headers(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    const binary = Buffer.from([0, 0xff, 0x80, 13, 10])
    await producer.send({ topic, messages: [{ value: 'v', headers: { twice: ['first', 'second'], binary, empty: '', 'naïve ключ': 'ü' } }] })
    const { headers } = (await kit.readAll(topic, 1))[0]
    assert.deepEqual(headers.twice.map(String), ['first', 'second'])
    assert.deepEqual(headers.binary, binary)
    assert.equal(headers.empty.length, 0)
    assert.equal(headers['naïve ключ'].toString(), 'ü')
  },

  async tombstones(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    await producer.send({ topic, messages: [{ key: 'k', value: null, partition: 0 }, { key: null, value: 'v', partition: 0 }] })
    const records = await kit.readAll(topic, 2)
    assert.deepEqual(records.map(record => [record.key && record.key.toString(), record.value && record.value.toString()]), [['k', null], [null, 'v']])
  },

  async seek_by_timestamp(kit) {
    const topic = await kit.topic(1)
    const [producer, admin] = [await kit.producer(), await kit.admin()]
    const start = Date.now() - 100_000
    for (let i = 0; i < 20; i++) await producer.send({ topic, messages: [{ value: `${i}`, timestamp: `${start + i * 100}` }] })
    for (const i of [0, 7, 19]) {
      assert.deepEqual(await admin.fetchTopicOffsetsByTimestamp(topic, start + i * 100 - 50), [{ partition: 0, offset: `${i}` }])
    }
    const member = await kit.consume(topic, { fromBeginning: false })
    await until('it owns its partition', () => member.owned.size === 1)
    member.consumer.seek({ topic, partition: 0, offset: '17' })
    await until('three records from offset 17', () => member.records.length >= 3)
    assert.equal(member.records[0].value.toString(), '17')
  },

  async list_offsets(kit) {
    const topic = await kit.topic(1)
    const [producer, admin] = [await kit.producer(), await kit.admin()]
    await producer.send({ topic, messages: numbered('v', 7) })
    assert.deepEqual(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '7', high: '7', low: '0' }])
  },

  async many_partitions(kit) {
    const topic = await kit.topic(50)
    const producer = await kit.producer()
    await producer.send({ topic, messages: Array.from({ length: 1_000 }, (_, i) => ({ value: `${i}`, partition: i % 50 })) })
    assert.equal(new Set(texts(await kit.readAll(topic, 1_000))).size, 1_000)
  },

  async pause_resume(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    const member = await kit.consume(topic)
    await until('it owns its partition', () => member.owned.size === 1)
    member.consumer.pause([{ topic }])
    await sleep(400) // the fetch that was under way may still bring records
    await producer.send({ topic, messages: numbered('v', 5) })
    await sleep(600)
    assert.equal(member.records.length, 0)
    member.consumer.resume([{ topic }])
    await until('the records come', () => member.records.length === 5)
  },

  async read_committed(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    await producer.send({ topic, messages: numbered('v', 50) })
    assert.equal(texts(await kit.readAll(topic, 50, { readUncommitted: false }))[49], 'v49')
  },

  async group_rebalance(kit) {
    const topic = await kit.topic(6)
    const [groupId, producer] = [unique('group'), await kit.producer()]
    const members = []
    let phase = 0
    const produce = () => producer.send({ topic, messages: Array.from({ length: 300 }, (_, i) => ({ value: `${phase}-${i}`, partition: i % 6 })) }).then(() => phase++)
    const join = async () => members.push(await kit.consume(topic, { groupId })) - 1
    const shared = wanted => until(`6 partitions are shared among ${wanted.length}`, () => {
      for (const index of wanted) if (members[index].crash) throw members[index].crash
      const owned = wanted.flatMap(index => [...members[index].owned])
      return wanted.every(index => members[index].owned.size > 0) && owned.length === 6 && new Set(owned).size === 6
    })
    await join()
    await produce()
    await shared([0])
    await join()
    await produce()
    await shared([0, 1])
    await members[0].leave()
    await produce()
    await shared([1])
    await until('every record is read', () => new Set(members.flatMap(member => texts(member.records))).size === phase * 300)
  },

  async commit_resume(kit) {
    const topic = await kit.topic(1)
    const [groupId, producer, admin] = [unique('group'), await kit.producer(), await kit.admin()]
    await producer.send({ topic, messages: numbered('v', 100) })
    const first = await kit.consume(topic, { groupId, autoCommit: false })
    await until('records come', () => first.records.length >= 30)
    await first.consumer.commitOffsets([{ topic, partition: 0, offset: '30', metadata: 'a note' }])
    await first.leave()
    const committed = (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0]
    assert.deepEqual([committed.offset, committed.metadata], ['30', 'a note'])
    assert.equal(texts(await kit.readAll(topic, 70, { groupId }))[0], 'v30')
  },

  // kafkajs puts a group back by committing -2 or -1, and takes what it finds below 0 for no offset.
  async reset_offsets(kit) {
    const topic = await kit.topic(1)
    const groupId = unique('group')
    const producer = await kit.producer()
    await producer.send({ topic, messages: numbered('v', 3) })
    await kit.readAll(topic, 3, { groupId })
    const admin = await kit.admin()
    const committed = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
    assert.equal(await committed(), '3')
    for (const [earliest, offset] of [[false, '-1'], [true, '-2']]) {
      await admin.resetOffsets({ groupId, topic, earliest })
      assert.equal(await committed(), offset)
    }
    assert.deepEqual(texts(await kit.readAll(topic, 3, { groupId })), ['v0', 'v1', 'v2'])
  },

  async out_of_range(kit) {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    await producer.send({ topic, messages: numbered('v', 3) })
    const member = await kit.consume(topic)
    await until('it reads', () => member.records.length === 3)
    member.consumer.seek({ topic, partition: 0, offset: '100' })
    await until('it goes back to the beginning', () => member.records.length === 6)
    assert.deepEqual(texts(member.records).slice(3), ['v0', 'v1', 'v2'])
  },

  async admin_topics(kit) {
    const topic = await kit.topic(2, { 'retention.ms': '3600000' })
    const admin = await kit.admin()
    assert((await admin.listTopics()).includes(topic))
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until('it has five partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5)
    await admin.deleteTopics({ topics: [topic] })
    await until('it is gone', async () => !(await admin.listTopics()).includes(topic))
  },

  async admin_alter_configs_old(kit) {
    const topic = await kit.topic(1, { 'retention.ms': '1234567' })
    const admin = await kit.admin()
    const describe = async () => (await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })).resources[0].configEntries
    const value = async name => (await describe()).find(entry => entry.configName === name).configValue
    assert((await describe()).length >= 23)
    assert.equal(await value('retention.ms'), '1234567')
    await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'max.message.bytes', value: '3000' }] }] })
    await until('max.message.bytes is set', async () => (await value('max.message.bytes')) === '3000')
    assert.equal(await value('retention.ms'), '604800000') // the old request replaces everything
  },

  async admin_delete_records(kit) {
    const topic = await kit.topic(1)
    const [producer, admin] = [await kit.producer(), await kit.admin()]
    await producer.send({ topic, messages: numbered('v', 50) })
    await admin.fetchTopicOffsets(topic) // the next call wants its metadata loaded
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '20' }] })
    assert.deepEqual(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '50', high: '50', low: '20' }])
    assert.equal(texts(await kit.readAll(topic, 30))[0], 'v20')
  },

  async admin_groups(kit) {
    const topic = await kit.topic(1)
    const [groupId, producer, admin] = [unique('group'), await kit.producer(), await kit.admin()]
    await producer.send({ topic, messages: numbered('v', 10) })
    const member = await kit.consume(topic, { groupId })
    await until('records come', () => member.records.length === 10)
    const described = (await admin.describeGroups([groupId])).groups[0]
    assert.equal(described.state, 'Stable')
    assert.deepEqual(AssignerProtocol.MemberAssignment.decode(described.members[0].memberAssignment).assignment, { [topic]: [0] })
    assert((await admin.listGroups()).groups.some(group => group.groupId === groupId))
    await fails('NON_EMPTY_GROUP', 'deleting a group with members', admin.deleteGroups([groupId]).catch(error => Promise.reject(error.groups[0].error)))
    await member.leave()
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '3' }] })
    assert.equal((await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset, '3')
    await admin.deleteGroups([groupId])
  },

  async admin_cluster(kit) {
    const cluster = await (await kit.admin()).describeCluster()
    assert(cluster.brokers.length > 0 && cluster.clusterId)
  },

  async errors_unknown_topic(kit) {
    const admin = await kit.admin()
    await fails('UNKNOWN_TOPIC_OR_PARTITION', 'deleting it', admin.deleteTopics({ topics: [unique('absent')] }))
  },

  async errors_create_topic(kit) {
    const [topic, admin] = [await kit.topic(2), await kit.admin()]
    const create = (name, numPartitions = 1, replicationFactor = 1, configEntries = []) =>
      admin.createTopics({ topics: [{ topic: name, numPartitions, replicationFactor, configEntries }] })
    assert.equal(await create(topic), false) // this client's way to say that it exists
    await fails('INVALID_PARTITIONS', 'no partitions', create(unique('new'), 0))
    await fails('INVALID_REPLICATION_FACTOR', 'nine replicas', create(unique('new'), 1, 9))
    await fails('INVALID_TOPIC_EXCEPTION', 'a name with a space', create('not allowed'))
    await fails('INVALID_CONFIG', 'a bad setting', create(unique('new'), 1, 1, [{ name: 'retention.ms', value: 'soon' }]))
    await fails('INVALID_PARTITIONS', 'fewer partitions', admin.createPartitions({ topicPartitions: [{ topic, count: 1 }] }))
  },

  async errors_record_too_large(kit) {
    const topic = await kit.topic(1, { 'max.message.bytes': '10000' })
    const producer = await kit.producer({ retry: { retries: 0 } })
    await fails('MESSAGE_TOO_LARGE', '50 kB into a topic of 10 kB', producer.send({ topic, messages: [{ value: Buffer.alloc(50_000) }] }))
    assert.equal((await producer.send({ topic, messages: [{ value: 'v' }] }))[0].baseOffset, '0')
  },
}

for (const [name, type] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy],
  ['lz4', CompressionTypes.LZ4], ['zstd', CompressionTypes.ZSTD]]) {
  cases[`compression_${name}`] = async kit => {
    const topic = await kit.topic(1)
    const producer = await kit.producer()
    const values = Array.from({ length: 300 }, (_, i) => 'abc'.repeat(i) + i * i)
    await producer.send({ topic, compression: type, messages: values.map(value => ({ value, partition: 0 })) })
    assert.deepEqual(texts(await kit.readAll(topic, 300)), values)
  }
}

async function main() {
  const [bootstrap, ...wanted] = process.argv.slice(2)
  let failed = false
  for (const [name, run] of Object.entries(cases)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    const kit = new Kit(bootstrap)
    const start = Date.now()
    try {
      await run(kit)
      console.log(`ok ${name} ${Date.now() - start}`)
    } catch (error) {
      failed = true
      const at = (error.stack || '').split('\n').find(line => line.includes('main.js')) || ''
      console.log(`FAIL ${name} ${`${error.message}`.replace(/\s+/g, ' ').slice(0, 300)} (${at.replace(/.*main\.js/, 'main.js').replace(')', '')})`)
    }
    await kit.close()
  }
  process.exit(failed ? 1 : 0)
}

main()
