// MQTT.js, 3.1.1 and 5: `main.js ADDRESS[,ADDRESS] [CASE...]`, by TCP and by WebSocket.
'use strict'

const assert = require('assert')
const mqtt = require('mqtt')

const addresses = process.argv[2].split(',')
const prefix = `node-${process.pid}-${Date.now() % 100000}`
const cases = {}
const open = []

const until = (what, holds, seconds = 20) => new Promise((resolve, reject) => {
  const end = Date.now() + seconds * 1000
  const look = () => holds() ? resolve() : Date.now() > end ? reject(new Error(`not within ${seconds} s: ${what}`)) : setTimeout(look, 5)
  look()
})

// Gateways of one core: connections go to each in turn.
let dealt = 0
const deal = () => `mqtt://${addresses[dealt++ % addresses.length]}`

async function connect (options = {}, url = deal()) {
  const client = await mqtt.connectAsync(url, { protocolVersion: 5, reconnectPeriod: 50, connectTimeout: 10000, ...options }, false)
  client.got = []
  client.on('message', (topic, payload, packet) => client.got.push({ topic, text: payload.toString(), packet }))
  client.on('error', () => {})
  open.push(client)
  return client
}

for (const version of [4, 5]) {
  const name = text => `${text}_v${version === 4 ? '311' : '5'}`
  const session = version === 5 ? { clean: false, properties: { sessionExpiryInterval: 600 } } : { clean: false }

  cases[name('every_qos')] = async topic => {
    const taker = await connect({ protocolVersion: version })
    const giver = await connect({ protocolVersion: version })
    await taker.subscribeAsync(`${topic}/+`, { qos: 2 })
    for (const qos of [0, 1, 2]) await giver.publishAsync(`${topic}/${qos}`, `${qos}`, { qos })
    await until('three messages', () => taker.got.length === 3)
    assert.deepStrictEqual(taker.got.map(m => [m.text, m.packet.qos]).sort(), [['0', 0], ['1', 1], ['2', 2]])
  }

  cases[name('a_thousand_in_order')] = async topic => {
    const taker = await connect({ protocolVersion: version })
    const giver = await connect({ protocolVersion: version })
    for (const qos of [0, 1, 2]) {
      await taker.subscribeAsync(`${topic}/${qos}`, { qos })
      await Promise.all(Array.from({ length: 1000 }, (_, number) => giver.publishAsync(`${topic}/${qos}`, `${number}`, { qos })))
      await until('a thousand', () => taker.got.length === 1000)
      assert.deepStrictEqual(taker.got.map(m => m.text), Array.from({ length: 1000 }, (_, number) => `${number}`))
      taker.got = []
    }
  }

  cases[name('retained')] = async topic => {
    const giver = await connect({ protocolVersion: version })
    await giver.publishAsync(`${topic}/a`, 'kept', { qos: 1, retain: true })
    const taker = await connect({ protocolVersion: version })
    await taker.subscribeAsync(`${topic}/#`, { qos: 1 })
    await until('the retained message', () => taker.got.length === 1)
    assert.strictEqual(taker.got[0].packet.retain, true)
    await giver.publishAsync(`${topic}/a`, '', { qos: 1, retain: true })
  }

  cases[name('will')] = async topic => {
    const watcher = await connect({ protocolVersion: version })
    await watcher.subscribeAsync(topic, { qos: 1 })
    const doomed = await connect({ protocolVersion: version, reconnectPeriod: 0, will: { topic, payload: Buffer.from('gone'), qos: 1, retain: false } })
    doomed.stream.destroy()
    await until('the will', () => watcher.got.length === 1)
    assert.strictEqual(watcher.got[0].text, 'gone')
  }

  cases[name('session_over_reconnects')] = async topic => {
    const phone = await connect({ protocolVersion: version, clientId: `${topic}-phone`, ...session })
    await phone.subscribeAsync(topic, { qos: 2 })
    await phone.endAsync()
    const giver = await connect({ protocolVersion: version })
    for (let number = 0; number < 20; number++) await giver.publishAsync(topic, `${number}`, { qos: 1 + number % 2 })
    let present = null
    const back = mqtt.connect(deal(), { protocolVersion: version, clientId: `${topic}-phone`, reconnectPeriod: 50, ...session })
    open.push(back)
    const got = []
    back.on('connect', packet => { present = packet.sessionPresent })
    back.on('message', (_, payload) => got.push(payload.toString()))
    await until('what waited', () => got.length >= 20)
    assert.strictEqual(present, true)
    assert.deepStrictEqual([...got].sort((a, b) => a - b), Array.from({ length: 20 }, (_, number) => `${number}`))
    // Its own reconnect, without a new subscription.
    back.stream.destroy()
    await giver.publishAsync(topic, 'after', { qos: 1 })
    await until('what came while it was away', () => got.includes('after'))
  }

  cases[name('by_websocket')] = async topic => {
    if (!process.env.BROKER_WEBSOCKET) return 'no address'
    const taker = await connect({ protocolVersion: version }, `ws://${process.env.BROKER_WEBSOCKET}/mqtt`)
    await taker.subscribeAsync(topic, { qos: 2 })
    const body = 'x'.repeat(300000)
    await taker.publishAsync(topic, body, { qos: 2 })
    await until('its own message', () => taker.got.length === 1)
    assert.strictEqual(taker.got[0].text, body)
  }
}

cases.properties = async topic => {
  const taker = await connect()
  await taker.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 5 } })
  const giver = await connect()
  await giver.publishAsync(topic, 'x', { qos: 1, properties: { contentType: 'text/plain', responseTopic: 'r', correlationData: Buffer.from([0, 255]), messageExpiryInterval: 100, payloadFormatIndicator: true, userProperties: { a: ['1', '2'] } } })
  await until('the message', () => taker.got.length === 1)
  const got = taker.got[0].packet.properties
  assert.deepStrictEqual([got.contentType, got.responseTopic, [...got.correlationData], [...got.userProperties.a], got.subscriptionIdentifier], ['text/plain', 'r', [0, 255], ['1', '2'], 5])
  assert.ok(got.messageExpiryInterval >= 99)
}

cases.topic_aliases = async topic => {
  const taker = await connect({ properties: { topicAliasMaximum: 5 } })
  await taker.subscribeAsync(`${topic}/#`, { qos: 1 })
  const giver = await connect({ autoUseTopicAlias: true, autoAssignTopicAlias: true })
  for (let number = 0; number < 50; number++) await giver.publishAsync(`${topic}/${number % 7}`, `${number % 7}`, { qos: 1 })
  await until('fifty', () => taker.got.length === 50)
  for (const message of taker.got) assert.strictEqual(message.topic, `${topic}/${message.text}`)
}

cases.shared = async topic => {
  const members = await Promise.all([connect(), connect(), connect()])
  for (const member of members) await member.subscribeAsync(`$share/${topic.replaceAll('/', '-')}/${topic}/#`, { qos: 1 })
  const giver = await connect()
  await Promise.all(Array.from({ length: 150 }, (_, number) => giver.publishAsync(`${topic}/${number % 20}`, `${number}`, { qos: 1 })))
  await until('all of them', () => members.reduce((sum, member) => sum + member.got.length, 0) === 150)
  // Of several gateways, one may take what there is.
  if (addresses.length === 1) assert.ok(members.every(member => member.got.length > 0))
}

cases.no_local_and_unsubscribe = async topic => {
  const client = await connect()
  await client.subscribeAsync(`${topic}/mine`, { qos: 1, nl: true })
  await client.subscribeAsync(`${topic}/all`, { qos: 1 })
  await client.publishAsync(`${topic}/mine`, 'mine', { qos: 1 })
  await client.publishAsync(`${topic}/all`, 'all', { qos: 1 })
  await until('one', () => client.got.length === 1)
  await client.unsubscribeAsync(`${topic}/all`)
  await client.publishAsync(`${topic}/all`, 'again', { qos: 1 })
  await new Promise(resolve => setTimeout(resolve, 200))
  assert.deepStrictEqual(client.got.map(m => m.text), ['all'])
}

async function main () {
  let failed = 0
  for (const [name, run] of Object.entries(cases)) {
    if (process.argv.length > 3 && !process.argv.slice(3).includes(name)) continue
    const started = Date.now()
    try {
      const skipped = await run(`${prefix}/${name}`)
      console.log(skipped ? `skip ${name} ${skipped}` : `ok ${name} ${Date.now() - started}`)
    } catch (error) {
      failed++
      console.log(`FAIL ${name} ${String(error.message || error).replace(/\s+/g, ' ').slice(0, 300)}`)
    }
    while (open.length) open.pop().end(true)
  }
  process.exit(failed ? 1 : 0)
}

main()
