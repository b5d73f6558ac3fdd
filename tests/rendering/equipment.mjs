// Plays nginx to equipment.js: reads one session from standard input, and says how it ended and what was passed on.
// In `receive` (preread) the bytes so far are handed over again with each piece; in `introduce` (a filter) each piece once.
import equipment from './equipment-under-test.mjs';

let input = '';
for await (const piece of process.stdin) {
    input += piece;
}
const { entry, variables, pieces } = JSON.parse(input);
const told = { ended: [], errors: [], variables, sent: [] };
const listeners = {};
equipment[entry]({
    variables,
    on: (event, listener) => { listeners[event] = listener; },
    off: (event) => { delete listeners[event]; },
    error: (text) => told.errors.push(text),
    deny: () => told.ended.push('denied'),
    done: () => told.ended.push('passed'),
    send: (data, flags) => told.sent.push({ data: Buffer.from(data).toString('hex'), last: flags.last }),
});
let sofar = Buffer.alloc(0);
for (const { data, last } of pieces) {
    const piece = Buffer.from(data, 'hex');
    sofar = Buffer.concat([sofar, piece]);
    if (listeners.upstream) {
        listeners.upstream(entry === 'receive' ? sofar : piece, { last });
    } else if (entry === 'introduce') {
        told.sent.push({ data, last });  // nobody listens: nginx passes it on as it is
    }
}
console.log(JSON.stringify(told));
