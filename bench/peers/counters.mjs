// What every load needs: counters of a process, bytes on the wire, who has which change, a server that starts and stops.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { subscribe } from 'node:diagnostics_channel'
import { closeSync, openSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'

export const pause = ms => new Promise(done => setTimeout(done, ms))
export async function reached (holds, limitMs = 120_000) {
  const end = performance.now() + limitMs
  while (!holds()) {
    if (performance.now() > end) throw new Error('took too long')
    await pause(1)
  }
}

const sockets = []
subscribe('net.client.socket', ({ socket }) => sockets.push(socket))
export function bytes () {
  let up = 0, down = 0
  for (const socket of sockets) { up += socket.bytesWritten; down += socket.bytesRead }
  return { up, down }
}

// Seconds on a core, of every thread of the process and of those that it has started.
export function cpuOf (pid) {
  let seconds = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      seconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e9
      for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean)) seconds += cpuOf(child)
    } catch { /* it ended meanwhile */ }
  }
  return seconds
}
export const ownCpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6 }
export const memoryOf = (pid, what) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`${what}:\\s+(\\d+)`))[1]) / 1024
export const diskOf = folder => readdirSync(folder, { recursive: true }).filter(name => !name.endsWith('server.log'))
  .reduce((sum, name) => { const found = statSync(join(folder, name), { throwIfNoEntry: false }); return sum + (found?.isFile() ? found.size : 0) }, 0)

const freePort = () => new Promise(done => {
  const probe = createServer().listen(0, '127.0.0.1', () => { const { port } = probe.address(); probe.close(() => done(port)) })
})
const answers = port => new Promise(done => {
  const probe = connect(port, '127.0.0.1')
  probe.once('connect', () => { probe.destroy(); done(true) })
  probe.once('error', () => done(false))
})

export async function start (command, folder) {
  const port = await freePort()
  const [name, ...rest] = command(folder, port)
  const log = openSync(join(folder, 'server.log'), 'a')
  const cores = process.env.BENCH_SPREAD ? `0-${readdirSync('/sys/devices/system/cpu').filter(each => /^cpu\d+$/.test(each)).length - 1}` : '0'
  const child = spawn('taskset', ['-c', cores, name, ...rest], { stdio: ['ignore', log, log], cwd: import.meta.dirname })
  closeSync(log)
  const end = performance.now() + 30_000
  while (!await answers(port)) {
    if (child.exitCode !== null || performance.now() > end) throw new Error(readFileSync(join(folder, 'server.log'), 'utf8').slice(-1500))
    await pause(30)
  }
  await pause(300)
  return {
    port,
    pid: child.pid,
    url: `ws://127.0.0.1:${port}`,
    folder,
    stop: () => new Promise(done => {
      if (child.exitCode !== null || child.signalCode !== null) return done()
      child.once('exit', done)
      child.kill('SIGTERM')
      setTimeout(() => child.kill('SIGKILL'), 5000).unref()
    })
  }
}

// The store of a server is done when it has used no more than a trace of its core for a while.
export async function quiet ({ pid }, limitMs = 3_000) {
  const end = performance.now() + limitMs
  for (let calm = 0; calm < 3 && performance.now() < end;) {
    const before = cpuOf(pid)
    await pause(150)
    calm = cpuOf(pid) - before < 0.004 ? calm + 1 : 0
  }
}

export const WRITERS = 5
export const CLIENTS = 20
export const textOf = (writer, number) => `~~${writer}${String(number).padStart(6, '0')}`.padEnd(40, '.')
// An event of 200 characters, a third of them random: what is compressed keeps something to carry.
export const eventOf = number => {
  const random = createHash('sha256').update(`event ${number}`).digest('hex')
  return `${random} administration ${number} of Amoxicillin 500 mg capsule, one, by mouth`.padEnd(200, ' ')
}
export const patientOf = number => Object.fromEntries(
  ['id', 'mrn', 'visit', 'name', 'born', 'ward', 'pharm', 'allergy', 'reaction', 'version'].map(field => [field, `${field} of patient ${number}`]))

export class Tracker {
  constructor () {
    this.tops = Array.from({ length: WRITERS }, (_, writer) => new Float64Array(CLIENTS).fill(0).map((_, client) => client === writer ? Infinity : 0))
    this.done = new Array(WRITERS).fill(0)
    this.begun = Array.from({ length: WRITERS }, () => [])
    this.took = []
    this.onDone = () => {}
  }

  has (client, writer, count) {
    const tops = this.tops[writer], was = tops[client]
    if (count <= was) return
    tops[client] = count
    if (was !== this.done[writer]) return
    const least = Math.min(...tops)
    if (least === was) return
    const now = performance.now()
    for (let number = was; number < least; number++) this.took.push(now - this.begun[writer][number])
    this.done[writer] = least
    this.onDone(writer, least - was)
  }

  hears (client) {
    return data => {
      const found = Buffer.isBuffer(data) ? data.toString('latin1') : String(data)
      for (const [, writer, number] of found.matchAll(/~~(\d)(\d{6})/g)) this.has(client, Number(writer), Number(number) + 1)
    }
  }
}
