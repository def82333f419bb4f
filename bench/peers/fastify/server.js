// bench/peers/fastify/server.js - the scenarios on Fastify as its manual recommends: its router,
// onRequest hooks in an encapsulated plugin, JSON schemas for parameters, bodies and answers, and
// pino for the access log: one line per request, buffered.
//
// Usage: node server.js PORT [ACCESS_LOG_FILE]
'use strict'

const crypto = require('node:crypto')
const fastify = require('fastify')

const ROUTE_COUNT = 200
const IDLE_MS = 600_000
const LOG_BYTES = 8 * 1024
const BIG = Buffer.alloc(1 << 20, 'x')

const [port, logPath] = process.argv.slice(2)

const idPrefix = crypto.randomBytes(4).toString('hex')
let idCount = 0

const app = fastify({
  keepAliveTimeout: IDLE_MS,
  disableRequestLogging: true,
  genReqId: () => `${idPrefix}-${(++idCount).toString(16)}`,
  logger: logPath
    ? { stream: require('pino').destination({ dest: logPath, sync: false, minLength: LOG_BYTES, periodicFlush: 1000 }) }
    : false
})

if (logPath) {
  app.addHook('onResponse', (request, reply, done) => {
    request.log.info({
      remote: request.ip,
      method: request.method,
      path: request.url,
      status: reply.statusCode,
      ms: reply.elapsedTime
    }, 'request')
    done()
  })
}

const params = {
  type: 'object',
  properties: { id: { type: 'integer', minimum: 0, maximum: 999_999_999_999_999 } },
  required: ['id']
}

const item = {
  type: 'object',
  properties: {
    id: { type: 'integer' },
    route: { type: 'string' },
    name: { type: 'string' },
    description: { type: 'string' },
    price_cents: { type: 'integer' },
    currency: { type: 'string' },
    in_stock: { type: 'boolean' },
    quantity: { type: 'integer' },
    category: { type: 'string' },
    request_id: { type: 'string' }
  }
}

const order = {
  type: 'object',
  required: ['title', 'customer', 'items'],
  properties: {
    title: { type: 'string', minLength: 1, maxLength: 200 },
    reference: { type: 'string' },
    express: { type: 'boolean' },
    discount: { type: ['number', 'null'] },
    customer: {
      type: 'object',
      required: ['email'],
      properties: {
        name: { type: 'string' },
        email: { type: 'string', pattern: '@' },
        street: { type: 'string' },
        city: { type: 'string' },
        vip: { type: 'boolean' }
      }
    },
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      items: {
        type: 'object',
        required: ['sku', 'quantity', 'price'],
        properties: {
          sku: { type: 'string', minLength: 1 },
          name: { type: 'string' },
          quantity: { type: 'integer', minimum: 1 },
          price: { type: 'number', minimum: 0 }
        }
      }
    },
    note: { type: 'string' }
  }
}

app.get('/', (request, reply) => {
  reply.type('text/plain; charset=utf-8').send('Hello, World!')
})

app.get('/big', (request, reply) => {
  reply.type('application/octet-stream').send(BIG)
})

app.post('/echo', { schema: { body: order, response: { 200: order } } }, (request, reply) => {
  reply.send(request.body)
})

app.register((api, options, ready) => {
  api.addHook('onRequest', (request, reply, done) => {
    reply.header('X-Request-Id', request.id)
    done()
  })
  api.addHook('onRequest', (request, reply, done) => {
    if (request.headers.authorization === 'Bearer bench-token') done()
    else reply.code(401).type('text/plain; charset=utf-8').send('unauthorized')
  })
  api.addHook('onRequest', (request, reply, done) => {
    reply.header('X-Content-Type-Options', 'nosniff').header('Cache-Control', 'no-store')
    done()
  })
  for (let i = 0; i < ROUTE_COUNT; i++) {
    const route = `r${i}`
    api.get(`/${route}/:id`, { schema: { params, response: { 200: item } } }, (request, reply) => {
      const id = request.params.id
      reply.send({
        id,
        route,
        name: `Item ${id}`,
        description: 'One of the things this shop sells',
        price_cents: id * 100 + 99,
        currency: 'EUR',
        in_stock: id % 2 === 0,
        quantity: id % 100,
        category: 'tools',
        request_id: request.id
      })
    })
  }
  ready()
}, { prefix: '/api' })

app.listen({ host: '127.0.0.1', port: Number(port), backlog: 1024 })
