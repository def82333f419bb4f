// client.js - asks grpc.health.v1 with @grpc/grpc-js, and prints what it is
// told. Commands and lines are those of client.py; messages are put together
// by hand here as well, so that both read the same bytes.
'use strict';

const grpc = require('@grpc/grpc-js');

const STATUS = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

function request(service) {
  const name = Buffer.from(service);
  return name.length
    ? Buffer.concat([Buffer.from([0x0a, name.length]), name])
    : Buffer.alloc(0);
}

function status(message) {
  return STATUS[message.length ? message[1] : 0];
}

function statuses(message) {
  const found = {};
  for (let at = 0; at < message.length;) {
    if (message[at] !== 0x0a) throw new Error('no pair at ' + at);
    const pair = message.subarray(at + 2, at + 2 + message[at + 1]);
    at += 2 + pair.length;
    const end = 2 + pair[1];
    if (pair[end] !== 0x12) throw new Error('no status');
    found[pair.subarray(2, end).toString()] = status(pair.subarray(end + 2));
  }
  return found;
}

const quote = (text) => `'${text}'`;
const say = (...words) => console.log(words.join(' '));

function method(name, parse, stream) {
  return {
    path: '/grpc.health.v1.Health/' + name,
    requestStream: false,
    responseStream: stream,
    requestSerialize: request,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (bytes) => bytes,
    responseDeserialize: parse,
  };
}

const Health = grpc.makeGenericClientConstructor({
  check: method('Check', status, false),
  list: method('List', statuses, false),
  watch: method('Watch', status, true),
}, 'Health');

const client = new Health(process.argv[2], grpc.credentials.createInsecure());

function metadata() {
  const fields = new grpc.Metadata();
  if (process.env.TOKEN) fields.set('authorization', 'Bearer ' + process.env.TOKEN);
  return fields;
}

function ask(name, service) {
  return new Promise((resolve, reject) => {
    let answer, fault, state;
    const done = () => {
      if (fault) reject(fault);
      else resolve([answer, state]);
    };
    const call = client[name](service, metadata(), { deadline: Date.now() + 10000 },
      (err, value) => { fault = err; answer = value; });
    call.on('status', (end) => {
      state = end.metadata.get('x-health-state');
      setImmediate(done);
    });
  });
}

const commands = {
  async check(service) {
    const [answer, state] = await ask('check', service);
    say('check', quote(service), answer, ...state);
  },
  async list() {
    const [answer, state] = await ask('list', '');
    const names = Object.keys(answer).sort();
    say('list', ...names.map((name) => `${quote(name)}=${answer[name]}`), ...state);
  },
  watch(service, seconds) {
    return new Promise((resolve, reject) => {
      const options = seconds ? { deadline: Date.now() + seconds * 1000 } : {};
      const call = client.watch(service, metadata(), options);
      call.on('data', (answer) => say('watch', quote(service), answer));
      call.on('error', reject);
      call.on('end', resolve);
    });
  },
  async time(count) {
    const took = [];
    for (let i = 0; i < count; i++) {
      const began = process.hrtime.bigint();
      await ask('check', '');
      took.push(Number(process.hrtime.bigint() - began) / 1e6);
    }
    took.sort((a, b) => a - b);
    say('time', took[took.length >> 1].toFixed(3));
  },
};

async function main() {
  for (const command of process.argv.slice(3)) {
    const [word, ...rest] = command.split(':');
    try {
      await commands[word](...rest);
    } catch (err) {
      if (err.code === undefined) throw err;
      say(word, ...rest.slice(0, 1).map(quote), grpc.status[err.code]);
    }
  }
  client.close();
}

main();
