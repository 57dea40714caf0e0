// node jazz_server.mjs FOLDER PORT: a Jazz sync server of cojson's own parts, storing in SQLite as cojson does.
import Database from 'better-sqlite3'
import { LocalNode, getSqliteStorage } from 'cojson'
import { NapiCrypto } from 'cojson/crypto/NapiCrypto'
import { createWebSocketPeer } from 'cojson-transport-ws'
import { WebSocketServer } from 'ws'

const [folder, port] = process.argv.slice(2)
const database = new Database(`${folder}/jazz.sqlite`)
database.pragma('journal_mode = WAL')
const crypto = await NapiCrypto.create()
const agent = crypto.newRandomAgentSecret()
const node = new LocalNode(agent, crypto.newRandomSessionID(crypto.getAgentID(agent)), crypto)
node.setStorage(getSqliteStorage({
  run: (sql, values) => { database.prepare(sql).run(values) },
  query: (sql, values) => database.prepare(sql).all(values),
  get: (sql, values) => database.prepare(sql).get(values),
  transaction: act => database.transaction(act)(),
  closeDb: () => database.close()
}))
let next = 0
new WebSocketServer({ host: '127.0.0.1', port: Number(port) }).on('connection', websocket => {
  const pings = setInterval(() => websocket.send(JSON.stringify({ type: 'ping', time: Date.now(), dc: 'bench' })), 1500)
  websocket.on('close', () => clearInterval(pings))
  node.syncManager.addPeer(createWebSocketPeer({
    id: `client ${next++}`, role: 'client', websocket, expectPings: false, batchingByDefault: false, deletePeerStateOnClose: true
  }))
})
process.on('SIGTERM', () => { database.close(); process.exit(0) })
