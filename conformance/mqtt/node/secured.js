// MQTT.js over TLS: `secured.js URL CA TOPIC [CERTIFICATE KEY]`; by wss:// or mqtts://, both versions. Ends with 0 if a body of 300 kB comes back.
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const [url, ca, topic, certificate, key] = process.argv.slice(2)
const read = path => path && fs.readFileSync(path)

async function exchange (protocolVersion) {
  const tls = { ca: read(ca), cert: read(certificate), key: read(key), rejectUnauthorized: true }
  const client = await mqtt.connectAsync(url, { protocolVersion, reconnectPeriod: 0, connectTimeout: 10000, ...tls }, false)
  const came = new Promise((resolve, reject) => {
    client.on('message', (_, payload) => resolve(payload))
    client.on('close', () => reject(new Error('the connection was closed')))
    setTimeout(() => reject(new Error('nothing came within 20 s')), 20000).unref()
  })
  const [granted] = await client.subscribeAsync(topic, { qos: 2 })
  if (granted.qos !== 2) throw new Error(`SUBACK says ${granted.qos}`)
  const body = Buffer.alloc(300000, 'abc')
  await client.publishAsync(topic, body, { qos: 2 })
  if (!body.equals(await came)) throw new Error('the body differs')
  await client.endAsync()
}

exchange(4).then(() => exchange(5)).then(() => process.exit(0), error => {
  console.log(String(error.message || error))
  process.exit(1)
})
