// node hocuspocus_server.mjs FOLDER PORT: Hocuspocus with its SQLite extension, as it comes.
import { SQLite } from '@hocuspocus/extension-sqlite'
import { Server } from '@hocuspocus/server'

const [folder, port] = process.argv.slice(2)
await new Server({ address: '127.0.0.1', port: Number(port), quiet: true, extensions: [new SQLite({ database: `${folder}/hocuspocus.sqlite` })] }).listen()
