// node load.mjs PEER WORK FOLDER HERE: one run of a peer through a workload; one line of JSON.
import { CLIENTS, Tracker, WRITERS, bytes, cpuOf, diskOf, memoryOf, ownCpu, pause, quiet, start } from './counters.mjs'

const [name, work, folder, here] = process.argv.slice(2)
const { peerOf } = await import(name === 'jazz' ? './jazz.mjs' : './yjs.mjs')
const peer = peerOf(name, here)
const server = await start(peer.command, folder)
const middle = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]
const part = (list, share) => { const up = [...list].sort((a, b) => a - b); return up[Math.min(up.length - 1, Math.floor(share * up.length))] }

async function live () {
  const tracker = new Tracker(), found = { idle_mb: memoryOf(server.pid, 'VmRSS') }
  const write = await peer.live(server, tracker)
  const say = writer => { tracker.begun[writer].push(performance.now()); write(writer, tracker.begun[writer].length - 1) }
  const burst = (total, inFlight) => new Promise((resolve, reject) => {
    const left = new Array(WRITERS).fill(total / WRITERS), began = performance.now()
    const late = setTimeout(() => reject(new Error('a burst took too long')), 60_000)
    let waiting = total
    const goOn = (writer, count) => { for (; count > 0 && left[writer] > 0; count--, left[writer]--) say(writer) }
    tracker.onDone = (writer, count) => {
      waiting -= count
      goOn(writer, count)
      if (waiting === 0) { clearTimeout(late); resolve((performance.now() - began) / 1000) }
    }
    for (let writer = 0; writer < WRITERS; writer++) goOn(writer, inFlight)
  })
  await burst(400, 10)
  await quiet(server)
  const bursts = [], disk = diskOf(folder)
  let written = 0
  for (let number = 0; number < 3; number++) {
    const wire = bytes(), cpu = cpuOf(server.pid), own = ownCpu()
    const took = await burst(2000, 50), busy = (ownCpu() - own) / took, after = bytes()
    await quiet(server)
    written += 2000
    bursts.push([took, cpuOf(server.pid) - cpu, busy, after.up - wire.up, after.down - wire.down])
  }
  const [took, cpu, busy, up, down] = [0, 1, 2, 3, 4].map(column => middle(bursts.map(row => row[column])))
  Object.assign(found, { rate_250: 2000 / took, cpu_250: cpu / 2, load_busy_250: busy, up_merged: up / 2000, down_merged: down / 2000 / CLIENTS })
  found.disk_change = (diskOf(folder) - disk) / written
  let before = cpuOf(server.pid)
  const serial = name === 'jazz' ? 250 : 500
  found.rate_5 = serial / await burst(serial, 1)
  await quiet(server)
  found.cpu_5 = (cpuOf(server.pid) - before) / serial * 1000
  before = cpuOf(server.pid)
  const wire = bytes(), total = 400
  tracker.took.length = 0
  const over = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('not everything was delivered')), 60_000).unref()
    tracker.onDone = () => { if (tracker.took.length === total) resolve() }
  })
  const began = performance.now()
  for (let number = 0; number < total; number++) {
    const wait = began + number * 20 - performance.now()
    if (wait > 0) await pause(wait)
    say(number % WRITERS)
  }
  await over
  const after = bytes()
  found.p50_ms = part(tracker.took, 0.5)
  found.p99_ms = part(tracker.took, 0.99)
  found.up_change = (after.up - wire.up) / total
  found.down_change = (after.down - wire.down) / total / CLIENTS
  found.cpu_50s = (cpuOf(server.pid) - before) / total * 1000
  found.peak_mb = memoryOf(server.pid, 'VmHWM')
  return found
}

async function flush () {
  const events = 2000, go = await peer.flush(server, events)
  await quiet(server)
  const wire = bytes(), cpu = cpuOf(server.pid), own = ownCpu(), disk = diskOf(folder), began = performance.now()
  const told = await go()
  const after = bytes(), found = { second_ms: told.second - began }
  if (told.durable) found.durable_ms = told.durable - began
  found.load_cpu = ownCpu() - own
  await quiet(server)
  Object.assign(found, { cpu: cpuOf(server.pid) - cpu, peak_mb: memoryOf(server.pid, 'VmHWM') })
  Object.assign(found, { up_event: (after.up - wire.up) / events, down_event: (after.down - wire.down) / events })
  await server.stop()
  found.disk_event = (diskOf(folder) - disk) / events
  return found
}

async function catchUp (prepare, count) {
  const join = await prepare(server, count)
  await quiet(server)
  const wire = bytes(), cpu = cpuOf(server.pid), own = ownCpu(), began = performance.now()
  const have = await join()
  const usable = performance.now() - began
  if (have !== count) throw new Error(`${have} where ${count} were due`)
  return {
    usable_ms: usable, cpu: cpuOf(server.pid) - cpu, load_cpu: ownCpu() - own, peak_mb: memoryOf(server.pid, 'VmHWM'),
    down_bytes: bytes().down - wire.down
  }
}

const late = setTimeout(() => { console.error('the run took too long'); server.stop().then(() => process.exit(1)) }, 240_000)
try {
  const found = await { w1: live, w2: flush, w3: () => catchUp(peer.entries, 10_000), w3b: () => catchUp(peer.patients, 1_000) }[work]()
  await server.stop()
  console.log(JSON.stringify(found))
  clearTimeout(late)
  process.exit(0)
} catch (error) {
  await server.stop()
  console.error(error)
  process.exit(1)
}
