// bench/peers/node/server.js - the scenarios on Node's http module, nothing else.
//
// Usage: node server.js PORT [ACCESS_LOG_FILE]
'use strict'

const fs = require('node:fs')
const http = require('node:http')
const crypto = require('node:crypto')

const ROUTE_COUNT = 200
const BODY_BYTES_MAX = 1 << 20
const IDLE_MS = 600_000
const LOG_BYTES = 64 * 1024
const TEXT = 'Hello, World!'
const TEXT_TYPE = 'text/plain; charset=utf-8'
const BIG = Buffer.alloc(1 << 20, 'x')

function answer (res, status, type, body) {
  res.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) })
  res.end(body)
}

const idPrefix = crypto.randomBytes(4).toString('hex')
let idCount = 0

function stepRequestId (req, res) {
  req.id = `${idPrefix}-${(++idCount).toString(16)}`
  res.setHeader('X-Request-Id', req.id)
  return true
}

function stepAuth (req, res) {
  if (req.headers.authorization === 'Bearer bench-token') return true
  answer(res, 401, TEXT_TYPE, 'unauthorized')
  return false
}

function stepHeaders (req, res) {
  res.setHeader('X-Content-Type-Options', 'nosniff')
  res.setHeader('Cache-Control', 'no-store')
  return true
}

const STEPS = [stepRequestId, stepAuth, stepHeaders]

function itemHandler (route) {
  return (req, res, text) => {
    const id = Number(text)
    answer(res, 200, 'application/json', JSON.stringify({
      id,
      route,
      name: `Item ${id}`,
      description: 'One of the things this shop sells',
      price_cents: id * 100 + 99,
      currency: 'EUR',
      in_stock: id % 2 === 0,
      quantity: id % 100,
      category: 'tools',
      request_id: req.id
    }))
  }
}

const routes = new Map()
for (let i = 0; i < ROUTE_COUNT; i++) routes.set(`r${i}`, itemHandler(`r${i}`))

function api (req, res) {
  const [, , route, id, rest] = req.url.split('/', 5)
  const handler = routes.get(route)
  if (!handler || rest !== undefined || !/^[0-9]{1,15}$/.test(id)) {
    answer(res, 404, TEXT_TYPE, 'not found')
    return
  }
  for (const step of STEPS) if (!step(req, res)) return
  handler(req, res, id)
}

function itemIsValid (item) {
  return item !== null && typeof item === 'object' &&
    typeof item.sku === 'string' && item.sku.length > 0 &&
    Number.isInteger(item.quantity) && item.quantity >= 1 &&
    typeof item.price === 'number' && item.price >= 0
}

function orderIsValid (order) {
  return order !== null && typeof order === 'object' &&
    typeof order.title === 'string' && order.title.length >= 1 && order.title.length <= 200 &&
    order.customer !== null && typeof order.customer === 'object' &&
    typeof order.customer.email === 'string' && order.customer.email.includes('@') &&
    Array.isArray(order.items) && order.items.length >= 1 && order.items.length <= 100 &&
    order.items.every(itemIsValid)
}

function echoBody (res, text) {
  let order
  try {
    order = JSON.parse(text)
  } catch {
    return answer(res, 400, TEXT_TYPE, 'malformed JSON')
  }
  if (!orderIsValid(order)) return answer(res, 422, TEXT_TYPE, 'not an order')
  answer(res, 200, 'application/json', JSON.stringify(order))
}

function echo (req, res) {
  const chunks = []
  let bytes = 0
  req.on('data', (chunk) => {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) req.destroy()
    else chunks.push(chunk)
  })
  req.on('end', () => echoBody(res, Buffer.concat(chunks).toString()))
}

function handle (req, res) {
  if (req.url === '/') answer(res, 200, TEXT_TYPE, TEXT)
  else if (req.url.startsWith('/api/')) api(req, res)
  else if (req.url === '/echo' && req.method === 'POST') echo(req, res)
  else if (req.url === '/big') answer(res, 200, 'application/octet-stream', BIG)
  else answer(res, 404, TEXT_TYPE, 'not found')
}

// A line per request, buffered, at most a second late.
function accessLog (path) {
  const fd = fs.openSync(path, 'a', 0o600)
  let pending = ''
  const flush = () => {
    if (pending) fs.writeSync(fd, pending)
    pending = ''
  }
  setInterval(flush, 1000)
  return (req, res) => {
    const address = req.socket.remoteAddress
    const begin = new Date().toISOString()
    res.on('finish', () => {
      pending += `${address} - - [${begin}] "${req.method} ${req.url} HTTP/1.1" ` +
        `${res.statusCode} ${res.getHeader('content-length') ?? '-'}\n`
      if (pending.length > LOG_BYTES) flush()
    })
    handle(req, res)
  }
}

const [port, logPath] = process.argv.slice(2)
const server = http.createServer(logPath ? accessLog(logPath) : handle)
server.keepAliveTimeout = IDLE_MS
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 1024 })
