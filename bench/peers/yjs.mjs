// Two servers that speak Yjs: Hocuspocus, through its own provider, and pycrdt-websocket, through the sync protocol of
// y-protocols.  The clients of the live workload speak that protocol by hand and apply nothing.
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as sync from 'y-protocols/sync'
import * as Y from 'yjs'
import { CLIENTS, WRITERS, eventOf, pause, patientOf, reached, textOf } from './counters.mjs'

const SYNC = 0, AUTHENTICATION = 2, UPDATE = 2
class Plain extends WebSocket { constructor (url, protocols) { super(url, protocols, { perMessageDeflate: false }) } }

// A document kept level with a room of a server that speaks plain y-protocols.
function plainly (url, room, doc) {
  const socket = new Plain(`${url}/${room}`), state = { synced: false }
  const send = fill => { const out = encoding.createEncoder(); encoding.writeVarUint(out, SYNC); fill(out); socket.send(encoding.toUint8Array(out)) }
  socket.on('open', () => {
    send(out => sync.writeSyncStep1(out, doc))
    doc.on('update', (update, origin) => { if (origin !== socket) send(out => sync.writeUpdate(out, update)) })
  })
  socket.on('message', data => {
    const from = decoding.createDecoder(new Uint8Array(data))
    if (decoding.readVarUint(from) !== SYNC) return
    const answer = encoding.createEncoder()
    encoding.writeVarUint(answer, SYNC)
    if (sync.readSyncMessage(from, answer, doc, socket) === sync.messageYjsSyncStep2) state.synced = true
    if (encoding.length(answer) > 1) socket.send(encoding.toUint8Array(answer))
  })
  return { synced: () => state.synced, settled: () => state.synced, close: () => socket.close() }
}

function throughProvider (url, room, doc, websocketProvider = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: Plain })) {
  const provider = new HocuspocusProvider({ websocketProvider, name: room, document: doc, token: 'bench' })
  provider.attach()
  return { synced: () => provider.isSynced, settled: () => provider.isSynced && provider.unsyncedChanges === 0, close: () => provider.destroy() }
}

export function peerOf (name, here) {
  const hocuspocus = name === 'hocuspocus'
  const attach = hocuspocus ? throughProvider : plainly
  const message = (kind, fill) => {
    const out = encoding.createEncoder()
    if (hocuspocus) encoding.writeVarString(out, 'room')
    encoding.writeVarUint(out, kind)
    fill(out)
    return encoding.toUint8Array(out)
  }
  async function listener ({ url }, tracker, client) {
    const socket = new Plain(`${url}/room`)
    await new Promise((resolve, reject) => { socket.once('open', resolve); socket.once('error', reject) })
    socket.on('message', tracker.hears(client))
    if (hocuspocus) {
      socket.send(message(AUTHENTICATION, out => { encoding.writeVarUint(out, 0); encoding.writeVarString(out, 'bench'); encoding.writeVarString(out, '4.8.0') }))
    }
    socket.send(message(SYNC, out => sync.writeSyncStep1(out, new Y.Doc())))
    await pause(client === 0 ? 1000 : 20) // whoever opens a room is let in alone
    return socket
  }

  async function live (server, tracker) {
    const sockets = []
    for (let client = 0; client < CLIENTS; client++) sockets.push(await listener(server, tracker, client))
    await pause(1000)
    const maps = sockets.slice(0, WRITERS).map(socket => {
      const doc = new Y.Doc()
      doc.on('update', update => socket.send(message(SYNC, out => { encoding.writeVarUint(out, UPDATE); encoding.writeVarUint8Array(out, update) })))
      return doc.getMap('map')
    })
    return (writer, number) => maps[writer].set(`w${writer}f${number % 8}`, textOf(writer, number))
  }

  function filled (count) {
    const doc = new Y.Doc(), log = doc.getArray('log')
    for (let number = 0; number < count; number++) log.push([eventOf(number)])
    return doc
  }

  async function flush (server, count) {
    const one = filled(count), two = new Y.Doc(), log = two.getArray('log')
    const listening = attach(server.url, 'room', two)
    await reached(listening.synced)
    return async () => {
      let second, durable
      log.observe(() => { if (log.length >= count) second ??= performance.now() })
      const sending = attach(server.url, 'room', one)
      await reached(() => second !== undefined && (durable ??= sending.settled() ? performance.now() : undefined) !== undefined)
      return { second } // neither tells when a change is on disk
    }
  }

  async function entries (server, count) {
    const two = new Y.Doc()
    const writing = attach(server.url, 'room', filled(count))
    await reached(writing.synced) // rooms that two open at once fail in pycrdt-websocket
    attach(server.url, 'room', two) // it stays, and with it the room in the server's memory
    await reached(() => two.getArray('log').length === count)
    await pause(500)
    writing.close()
    await pause(200)
    return async () => {
      const fresh = new Y.Doc(), log = fresh.getArray('log')
      const whole = new Promise(resolve => log.observe(() => { if (log.length >= count) resolve(log.toArray().length) }))
      attach(server.url, 'room', fresh)
      return await whole
    }
  }

  async function patients (server, count) {
    const shared = () => hocuspocus ? [new HocuspocusProviderWebsocket({ url: server.url, WebSocketPolyfill: Plain })] : []
    async function all (fill, limit) {
      const socket = shared(), open = []
      for (let number = 0; number < count; number++) {
        const doc = new Y.Doc(), map = doc.getMap('map')
        if (fill) for (const [field, value] of Object.entries(patientOf(number))) map.set(field, value)
        const held = attach(server.url, `patient${number}`, doc, ...socket)
        open.push(() => held.synced() && map.size === 10)
        // Hocuspocus refuses more than 100 documents that are being authenticated, and rooms that open at once fail in pycrdt-websocket.
        if (number % limit === limit - 1) await reached(() => open.every(there => there()))
      }
      await reached(() => open.every(there => there()))
      return open.length
    }
    await all(true, hocuspocus ? 50 : 10)
    await pause(500)
    return () => all(false, 50)
  }

  const command = hocuspocus
    ? (folder, port) => ['node', 'hocuspocus_server.mjs', folder, String(port)]
    : (folder, port) => ['venv/bin/python', `${here}/pycrdt_server.py`, folder, String(port)]
  return { command, live, flush, entries, patients }
}
