// Plays nginx to association.js: reads one session from standard input, and says how it ended and what was told.
// The bytes that have come so far are handed over again with each piece, as in nginx's preread phase.
import association from './association-under-test.mjs';

let input = '';
for await (const piece of process.stdin) {
    input += piece;
}
const { entry, variables, pieces, open } = JSON.parse(input);
globalThis.ngx = { shared: { open: { incr: (key, by, first) => (open[key] = (open[key] ?? first) + by) } } };
const told = { ended: [], errors: [], variables, open };
const listeners = {};
association[entry]({
    variables,
    on: (event, listener) => { listeners[event] = listener; },
    off: (event) => { delete listeners[event]; },
    error: (text) => told.errors.push(text),
    deny: () => told.ended.push('denied'),
    done: () => told.ended.push('passed'),
});
let sofar = Buffer.alloc(0);
for (const piece of pieces) {
    sofar = Buffer.concat([sofar, Buffer.from(piece, 'hex')]);
    listeners.upstream?.(sofar);
}
told.left = told.ended.includes('passed') && entry === 'admit' ? association.leave({ variables }) : null;
console.log(JSON.stringify(told));
