// Jazz (cojson): nodes with signatures. Private transactions, which is its default. The writers of the live workload and
// both ends of the others are whole nodes; the other fifteen listeners answer as the protocol asks and count.
import { LocalNode } from 'cojson'
import { NapiCrypto } from 'cojson/crypto/NapiCrypto'
import { createWebSocketPeer } from 'cojson-transport-ws'
import WebSocket from 'ws'
import { CLIENTS, WRITERS, eventOf, pause, patientOf, reached, textOf } from './counters.mjs'

const crypto = await NapiCrypto.create()
const newNode = async () => (await LocalNode.withNewlyCreatedAccount({ peers: [], crypto, creationProps: { name: 'bench' } })).node
const open = url => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, { perMessageDeflate: false })
  socket.once('open', () => resolve(socket))
  socket.once('error', reject)
})
async function attach (node, { url }) {
  const websocket = await open(url)
  node.syncManager.addPeer(createWebSocketPeer({ id: 'server', role: 'server', websocket, expectPings: false }))
  return websocket
}
function openGroup (node) {
  const group = node.createGroup()
  group.addMember('everyone', 'writer')
  return group
}
const parsed = data => String(data).split('\n').filter(line => line).map(line => JSON.parse(line))

async function live (server, tracker) {
  const nodes = [], sockets = []
  for (let writer = 0; writer < WRITERS; writer++) {
    nodes.push(await newNode())
    sockets.push(await attach(nodes[writer], server))
  }
  const first = openGroup(nodes[0]).createMap({})
  await nodes[0].syncManager.waitForAllCoValuesSync()
  const maps = [first]
  for (const node of nodes.slice(1)) maps.push(await node.load(first.id))
  // Contents are encrypted: how far a writer's session has come says which of its changes are there.
  const writerOf = new Map(nodes.map((node, writer) => [node.currentSessionID, writer]))
  const behind = nodes.map(node => node.getCoValue(first.id).knownState().sessions[node.currentSessionID] ?? 0)
  const notes = (client, message) => {
    if (message.action !== 'content' || message.id !== first.id) return
    for (const [session, news] of Object.entries(message.new)) {
      const writer = writerOf.get(session)
      if (writer !== undefined) tracker.has(client, writer, news.after + news.newTransactions.length - behind[writer])
    }
  }
  sockets.forEach((socket, client) => socket.on('message', data => parsed(data).forEach(message => notes(client, message))))
  for (let client = WRITERS; client < CLIENTS; client++) {
    const socket = await open(server.url), has = new Map()
    socket.on('message', data => {
      for (const message of parsed(data)) {
        notes(client, message)
        if (message.action !== 'content') continue
        const sessions = has.get(message.id) ?? {}
        for (const [session, news] of Object.entries(message.new)) sessions[session] = news.after + news.newTransactions.length
        has.set(message.id, sessions)
        socket.send(JSON.stringify({ action: 'known', id: message.id, header: true, sessions }))
      }
    })
    socket.send(JSON.stringify({ action: 'load', id: first.id, header: false, sessions: {} }))
  }
  await pause(1000)
  return (writer, number) => maps[writer].set(`w${writer}f${number % 8}`, textOf(writer, number), 'private')
}

async function flush (server, count) {
  const [one, two] = [await newNode(), await newNode()]
  const socket = await attach(one, server)
  await attach(two, server)
  const list = openGroup(one).createList([])
  await one.syncManager.waitForAllCoValuesSync()
  const seen = await two.load(list.id)
  for (const peer of Object.values(one.syncManager.peers)) peer.gracefulShutdown()
  socket.close()
  await pause(300)
  for (let number = 0; number < count; number++) list.append(eventOf(number), undefined, 'private')
  return async () => {
    let second, durable
    seen.core.subscribe(() => { if (second === undefined && seen.core.getCurrentContent().asArray().length >= count) second = performance.now() })
    await attach(one, server)
    one.syncManager.waitForSync(list.id).then(() => { durable = performance.now() })
    await reached(() => second !== undefined && durable !== undefined)
    return { second, durable }
  }
}

async function entries (server, count) {
  const node = await newNode(), socket = await attach(node, server), list = openGroup(node).createList([])
  for (let number = 0; number < count; number++) {
    list.append(eventOf(number), undefined, 'private')
    if (number % 250 === 249) await pause(1)
  }
  await node.syncManager.waitForAllCoValuesSync(120_000)
  socket.close()
  return async () => {
    const fresh = await newNode()
    await attach(fresh, server)
    const got = await fresh.load(list.id)
    let all = []
    await reached(() => (all = got.core.getCurrentContent().asArray()).length >= count)
    return all.filter(event => typeof event === 'string' && event.length === 200).length
  }
}

async function patients (server, count) {
  const node = await newNode(), socket = await attach(node, server), group = openGroup(node)
  const ids = Array.from({ length: count }, (_, number) => group.createMap(patientOf(number), null, 'private').id)
  await node.syncManager.waitForAllCoValuesSync(120_000)
  socket.close()
  return async () => {
    const fresh = await newNode()
    await attach(fresh, server)
    const maps = await Promise.all(ids.map(id => fresh.load(id)))
    return maps.filter(map => map !== 'unavailable' && map.keys().length === 10).length
  }
}

export const peerOf = () => ({ command: (folder, port) => ['node', 'jazz_server.mjs', folder, String(port)], live, flush, entries, patients })
