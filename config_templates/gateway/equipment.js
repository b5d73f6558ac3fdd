// At a site's gateway, whose peers have no certificates: who may call it, and as whom it leads them on.

import association from 'association.js';

const CALLING = 26;
const TITLES_END = 42;

// The calling AE title must be one of the site's equipment.
function receive(s) {
    association.read(s, (called, calling) => !s.variables.equipment.split(' ').includes(calling) &&
        `'${calling}' is none of this gateway's equipment`);
}

// Straight to the server: under the gateway's own AE title, because the server takes its certificate for no other.
function introduce(s) {
    let start = Buffer.alloc(0);
    s.on('upstream', (data, flags) => {
        start = Buffer.concat([start, data]);
        if (start.length < TITLES_END && !flags.last) {
            return;  // nginx begins with an empty piece
        }
        s.off('upstream');
        if (start.length < TITLES_END) {
            s.send(start, flags);  // it ends before it has said who it is
            return;
        }
        const own = Buffer.from(s.variables.own_aet.padEnd(TITLES_END - CALLING));
        s.send(Buffer.concat([start.slice(0, CALLING), own, start.slice(TITLES_END)]), flags);
    });
}

export default {introduce, receive};
